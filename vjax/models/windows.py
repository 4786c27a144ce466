"""Windows: squares of an image whose patches see nothing of the others (Qwen2.5-VL's tower).

Reference: transformers' get_vision_window_index, where windows count blocks of patches.
"""

from collections.abc import Callable

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from vjax.attention import Mask

IMAGE, ROW = 1 << 16, 1 << 8  # what images and rows of windows are apart


def window_ids(
    hw: Int[Array, "V P 2"], segments: Int[Array, "V P"] | None, side: int
) -> Int[Array, "V P"]:
    """A number for each window of each image, rising along rows; 0 where `segments` is (padding).

    Args:
      hw: row and column of each patch, up to 256 * side - 1.
      segments: images of a row, up to 32767; one image a row if None.
    """
    at = hw // side
    ids = (1 if segments is None else segments) * IMAGE + at[..., 0] * ROW + at[..., 1]
    return ids if segments is None else jnp.where(segments > 0, ids, 0)


def attend_in_windows(
    q: Float[Array, "V P N H"],
    k: Float[Array, "V P N H"],
    v: Float[Array, "V P N H"],
    ids: Int[Array, "V P"],
    *,
    size: int,
    attend: Callable,
) -> Float[Array, "V P N H"]:
    """Attention of patches in the order of `ids`.

    Args:
      size: patches of a window where all have as many; 0 where they differ.
      attend: takes queries, keys, values and a mask.
    """
    if not size:
        return attend(q, k, v, Mask(q_segments=ids, kv_segments=ids))
    cut = (rearrange(x, "v (w p) n h -> (v w) p n h", p=size) for x in (q, k, v))
    out = attend(*cut, Mask())
    return rearrange(out, "(v w) p n h -> v (w p) n h", v=len(q))
