"""Stills cut into tiles: which size they are fitted to, and which tokens they become.

Reference: pack_image_features of transformers' LlavaNextVideoModel and LlavaOnevisionModel (arXiv
2408.03326, section 3.3).
"""

import math

import numpy as np

from vjax.families.spec import TilesSpec

NEWLINE = -1


def best_size(height: int, width: int, spec: TilesSpec) -> tuple[int, int]:
    """The size of `spec.sizes` that keeps most of the picture and, among those, wastes least."""

    def merit(size: tuple[int, int]) -> tuple[int, int]:
        scale = min(size[1] / width, size[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - size[0] * size[1]

    return max(spec.sizes, key=merit)


def tile_count(height: int, width: int, spec: TilesSpec, tile: int) -> int:
    """Pictures of tile x tile pixels that a still becomes: the whole of it, and its tiles."""
    h, w = best_size(height, width, spec)
    return 1 + (h // tile) * (w // tile)


def tile_tokens(
    height: int, width: int, spec: TilesSpec, tile: int, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """A still's tokens as weighted sums of those of its pictures.

    First all of the whole picture; then, row by row, those of the tiles as one grid, less what is
    padding, shrunk (bilinear) if they are more than `spec.most` tiles' worth, a newline after each
    row.

    Args:
      height, width: of the still in pixels.
      tile: side of a picture in pixels.
      side: side of a picture in tokens.

    Returns:
      index int32 [n, 4] into the tokens of the pictures, side * side each, NEWLINE apart; and
      weight float32 [n, 4].
    """
    best = best_size(height, width, spec)
    down, across = best[0] // tile, best[1] // tile
    row, column = np.meshgrid(np.arange(down * side), np.arange(across * side), indexing="ij")
    at = 1 + (row // side) * across + column // side
    grid = at * side * side + (row % side) * side + column % side
    rows, columns = grid.shape
    if width / height > columns / rows:
        pad = (rows - int(round(height * (columns / width), 7))) // 2
        grid = grid[pad : rows - pad]
    else:
        pad = (columns - int(round(width * (rows / height), 7))) // 2
        grid = grid[:, pad : columns - pad]
    ratio = math.sqrt(grid.size / (spec.most * side**2)) if spec.most else 0
    shrunk = tuple(int(n // ratio) if ratio > 1.1 else n for n in grid.shape)
    (r0, r1, rw), (c0, c1, cw) = (_between(n, m) for n, m in zip(grid.shape, shrunk, strict=True))
    index = np.stack([grid[np.ix_(r, c)] for r in (r0, r1) for c in (c0, c1)], -1)
    weight = np.stack([np.outer(r, c) for r in (1 - rw, rw) for c in (1 - cw, cw)], -1)
    index = np.pad(index, ((0, 0), (0, 1), (0, 0)), constant_values=NEWLINE)
    weight = np.pad(weight, ((0, 0), (0, 1), (0, 0)))
    weight[:, -1, 0] = 1
    whole, one = plain(np.arange(side * side))
    return (
        np.concatenate([whole, index.reshape(-1, 4)]).astype(np.int32),
        np.concatenate([one, weight.reshape(-1, 4)]).astype(np.float32),
    )


def plain(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are no sums, in the form of `tile_tokens`: int32 [n, 4] and float32 [n, 4]."""
    weight = np.tile(np.array([1, 0, 0, 0], np.float32), (len(index), 1))
    return np.repeat(index[:, None], 4, axis=1).astype(np.int32), weight


def _between(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours before and after, and the share of the latter, of m samples of n (bilinear)."""
    at = np.maximum((np.arange(m) + 0.5) * n / m - 0.5, 0)
    before = np.minimum(at.astype(int), n - 1)
    return before, np.minimum(before + 1, n - 1), at - before
