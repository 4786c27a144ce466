"""A square table of learned positions, brought to the grid of each image (Qwen3-VL's tower).

Reference: transformers' get_vision_interpolation_indices_and_weights, bilinear, corners aligned.
"""

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
