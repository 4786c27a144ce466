"""A square table of learned positions, brought to images of other shapes."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def resampled(table: Float[Array, "N D"], hw: Int[Array, "V P 2"]) -> Float[Array, "V P D"]:
    """The table at the size of each image, bilinear with anti-aliasing, in float32.

    Weights of each patch sum to 1. Siglip2VisionEmbeddings.resize_positional_embeddings, or torch's
    interpolate.

    Args:
      hw: row and column of each patch; an image is as large as the largest of them says.
    """
    side = math.isqrt(len(table))
    size = hw.max(axis=1, keepdims=True) + 1
    rows, columns = (_weights(hw[..., axis], size[..., axis], side) for axis in (0, 1))
    grid = table.astype(jnp.float32).reshape(side, side, -1)
    return jnp.einsum("vpi,vpj,ijd->vpd", rows, columns, grid)


def _weights(at: Int[Array, "V P"], size: Int[Array, "V 1"], side: int) -> Float[Array, "V P N"]:
    """What each of `side` cells weighs at place `at` of `size`: a triangle as wide as a step."""
    step = side / size.astype(jnp.float32)
    centre = (at + 0.5) * step
    off = jnp.abs(jnp.arange(side) + 0.5 - centre[..., None])
    weights = jnp.maximum(1 - off / jnp.maximum(step, 1)[..., None], 0)
    return weights / weights.sum(-1, keepdims=True)
