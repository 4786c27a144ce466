"""How torch lays a weight out, and how we do (the layouts of a family's `weight_map`)."""

import math

import numpy as np
from einops import rearrange

CHANNELS = 3


def to_ours(w: np.ndarray, layout: str) -> np.ndarray:
    """A tensor of a file -> one layer's variable. Tensors of another rank pass as they are.

    `linear`: [out, in] -> [in, out]; `conv`: [D, C, h, w] -> [h*w*C, D]; `conv/t`: [D, C, t, h, w]
    -> [t*h*w*C, D]; `lead/n`: n axes of 1 before the others, which go; `same`.
    """
    if layout.startswith("lead/"):
        return w.reshape(our_shape(w.shape, layout))
    if layout == "linear" and w.ndim == 2:
        return w.T
    if layout == "conv" and w.ndim == 4:
        return rearrange(w, "d c h w -> (h w c) d")
    if layout.startswith("conv/") and w.ndim == 5:
        return rearrange(w, "d c t h w -> (t h w c) d")
    return w


def our_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape `to_ours` gives for a tensor of `shape`."""
    if layout == "linear" and len(shape) == 2:
        return shape[::-1]
    if layout.startswith("lead/"):
        n = int(layout.removeprefix("lead/"))
        return shape[n:] if shape[:n] == (1,) * n else shape
    if layout.startswith("conv") and len(shape) == (5 if "/" in layout else 4):
        return math.prod(shape[1:]), shape[0]
    return shape


def read_ours(tensor, layout: str, index: tuple[slice, ...]) -> np.ndarray:
    """`to_ours(tensor)[index]` of a safetensors slice, reading no more of it than that."""
    if layout == "linear":
        return tensor[index[1], index[0]].T
    if layout.startswith(("conv", "lead/")):
        return to_ours(tensor[:], layout)[index]
    return tensor[index]


def to_theirs(w: np.ndarray, layout: str) -> np.ndarray:
    """The other way, contiguous; kernels are square and see RGB."""
    if layout == "linear":
        w = w.T
    if layout.startswith("lead/"):
        w = w.reshape((1,) * int(layout.removeprefix("lead/")) + w.shape)
    if layout == "conv":
        side = math.isqrt(w.shape[0] // CHANNELS)
        w = rearrange(w, "(h w c) d -> d c h w", h=side, w=side)
    if layout.startswith("conv/"):
        frames = int(layout.removeprefix("conv/"))
        side = math.isqrt(w.shape[0] // CHANNELS // frames)
        w = rearrange(w, "(t h w c) d -> d c t h w", t=frames, h=side, w=side)
    # safetensors writes a strided array's bytes in the wrong order, without a word
    return np.asarray(w, order="C")
