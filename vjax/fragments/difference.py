"""How different frames look at the size the model sees them: the measure behind all pixel rules."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

GRID = 8


class Grey:
    """Grey frames of one clip at the model's size, resized when first asked for.

    Args:
        frames: uint8 [I, S, S, 3] RGB.
        size: side h of the model's input in pixels.
    """

    def __init__(self, frames: np.ndarray, size: int):
        self.frames, self.size = frames, size
        self._cache: dict[int, np.ndarray] = {}

    def __call__(self, rows) -> np.ndarray:
        """Grey float32 [M, h, h] in 0..255 of the frames at `rows` (Pillow luma, area averages)."""
        for row in rows:
            if row not in self._cache:
                image = Image.fromarray(self.frames[row]).convert("L")
                image = image.resize((self.size, self.size), Image.Resampling.BOX)
                self._cache[row] = np.asarray(image, np.float32)
        return np.stack([self._cache[row] for row in rows])


def block_means(values: np.ndarray, grid: int = GRID) -> np.ndarray:
    """Means over a grid of blocks: [..., h, w] -> [..., grid, grid]."""
    h, w = values.shape[-2:]
    (rows, heights), (columns, widths) = _blocks(h, grid), _blocks(w, grid)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=-2), columns, axis=-1)
    return sums / (heights[:, None] * widths)


@lru_cache
def _blocks(size: int, grid: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.arange(grid) * size // grid
    return starts, np.diff(starts, append=size)


@lru_cache
def pairs_of(M: int) -> tuple[np.ndarray, np.ndarray]:
    """Every two positions i < j of a set of M: int64 [M(M-1)/2] each."""
    return np.triu_indices(M, 1)


def differences(grey: np.ndarray, grid: int = GRID) -> np.ndarray:
    """How far apart every two of M frames are: [M, h, w] in 0..255 -> [M, M] in 0..1.

    The mean absolute difference of the block that differs most, before or after matching mean and
    contrast, whichever is smaller: a change of brightness or contrast alone counts for nothing.
    Contrasts are matched to the weaker frame's, so that noise in a dark frame is not amplified.
    """
    grey = grey.astype(np.float64)
    M = len(grey)
    i, j = pairs_of(M)
    mean = grey.mean((1, 2), keepdims=True)
    contrast = grey.std((1, 2))
    flat = contrast < 1e-6
    matched = (grey - mean) / np.where(flat, 1, contrast)[:, None, None]
    raw = block_means(np.abs(grey[i] - grey[j]), grid).max((1, 2))
    matched = block_means(np.abs(matched[i] - matched[j]), grid).max((1, 2))
    matched *= np.where(flat[i] | flat[j], 0, np.minimum(contrast[i], contrast[j]))
    result = np.zeros((M, M))
    result[i, j] = result[j, i] = np.minimum(raw, matched) / 255
    return result


def decidable(grey: np.ndarray, tau: float) -> bool:
    """Whether every two of the frames [M, h, w] (grey, 0..255) are at least `tau` (of 1) apart."""
    return bool((differences(grey)[pairs_of(len(grey))] >= tau).all())


def motion_peaks(grey: np.ndarray, position: int) -> list[tuple[int, int]]:
    """Blocks (row, column) of the 8x8 grid, those that move most around one of M frames first.

    Motion is the mean absolute difference from the frame shown before plus that from the one after.
    """
    near = [p for p in (position - 1, position + 1) if 0 <= p < len(grey)]
    motion = block_means(np.abs(grey[near] - grey[position])).sum(0)
    order = np.argsort(-motion, axis=None, kind="stable")
    return [(int(b) // GRID, int(b) % GRID) for b in order]
