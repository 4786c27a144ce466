"""A square table of learned positions, brought to the grid of each image.

Reference: transformers' get_vision_interpolation_indices_and_weights, bilinear, corners aligned
(Qwen3-VL's tower); and Siglip2VisionEmbeddings.resize_positional_embeddings, bilinear with
anti-aliasing (NaFlex).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def grid_sizes(
    hw: Int[Array, "V P 2"], segments: Int[Array, "V P"] | None
) -> Int[Array, "V P 2"] | Int[Array, "V 1 2"]:
    """Rows and columns of each patch's image.

    Args:
      hw: row and column of each patch.
      segments: images of a row, numbered from 0; one image a row if None.
    """
    if segments is None:
        return hw.max(axis=1, keepdims=True) + 1

    def row(hw, segments):
        return jax.ops.segment_max(hw, segments, num_segments=len(hw) + 1)[segments] + 1

    return jax.vmap(row)(hw, segments)


def resampled(
    table: Float[Array, "S D"], hw: Int[Array, "V P 2"], sizes: Int[Array, "V Q 2"], side: int
) -> Float[Array, "V P D"]:
    """The vector at each patch's place in the table of side x side, its corners those of the image.

    Args:
      sizes: see `grid_sizes`; Q is P or 1.
    """
    at = hw.astype(jnp.float32) * (side - 1) / jnp.maximum(sizes - 1, 1)
    low = jnp.floor(at).astype(jnp.int32)
    share = at - low
    total = 0.0
    for down in (0, 1):
        for across in (0, 1):
            step = jnp.asarray([down, across])
            tap = jnp.minimum(low + step, side - 1)
            weight = jnp.where(step, share, 1 - share).prod(-1)
            total += table[tap[..., 0] * side + tap[..., 1]] * weight[..., None]
    return total


def antialiased(
    table: Float[Array, "S D"], hw: Int[Array, "V P 2"], sizes: Int[Array, "V Q 2"]
) -> Float[Array, "V P D"]:
    """The vector of each patch in the table resized to its image, as torch's interpolate does it.

    Weights of a patch sum to 1; float32.

    Args:
      sizes: see `grid_sizes`; Q is P or 1.
    """
    side = math.isqrt(len(table))
    step = side / sizes.astype(jnp.float32)
    off = jnp.abs(jnp.arange(side) + 0.5 - ((hw + 0.5) * step)[..., None])
    # a triangle as wide as a step, or as a cell where the table grows
    weights = jnp.maximum(1 - off / jnp.maximum(step, 1)[..., None], 0)
    weights = weights / weights.sum(-1, keepdims=True)
    grid = table.astype(jnp.float32).reshape(side, side, -1)
    return jnp.einsum("vpi,vpj,ijd->vpd", weights[:, :, 0], weights[:, :, 1], grid)
