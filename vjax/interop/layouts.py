"""How torch lays a weight out, and how we do (the layouts of a family's `weight_map`)."""

import math

import numpy as np

CHANNELS = 3


def to_ours(w: np.ndarray, layout: str) -> np.ndarray:
    """A tensor of a file -> one layer's variable. Tensors of another rank pass as they are.

    `linear`: [out, in] -> [in, out]; `conv`: [D, C, h, w] -> [h*w*C, D]; `same`.
    """
    if layout == "linear" and w.ndim == 2:
        return w.T
    if layout == "conv" and w.ndim == 4:
        return w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0])
    return w


def to_theirs(w: np.ndarray, layout: str) -> np.ndarray:
    """The other way, contiguous; `conv` kernels are square and see RGB."""
    if layout == "linear":
        w = w.T
    if layout == "conv":
        side = math.isqrt(w.shape[0] // CHANNELS)
        w = w.reshape(side, side, CHANNELS, -1).transpose(3, 2, 0, 1)
    # safetensors writes a strided array's bytes in the wrong order, without a word
    return np.ascontiguousarray(w)
