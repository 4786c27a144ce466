"""What reading frames costs: how many are decoded for those wanted, and how long it takes."""

import time
from collections.abc import Sequence

import numpy as np

from vjax.video.probe import Source
from vjax.video.read import read_frames


def decoded_frames(source: Source, rows: Sequence[int]) -> int:
    """Frames between each key frame and the last one wanted of its group.

    An upper bound: those that no other frame refers to are skipped on the way.
    """
    rows = np.unique(np.asarray(rows, np.int64))
    if not len(rows):
        return 0
    if source.counted or not len(source.keys):
        return int(rows[-1]) + 1
    starts = np.searchsorted(source.pts, source.keys)
    group = np.searchsorted(starts, rows, "right") - 1
    last = {int(g): int(row) for g, row in zip(group, rows, strict=True)}
    return sum(row + 1 - (int(starts[g]) if g >= 0 else 0) for g, row in last.items())


def evenly(frames: int, n: int) -> list[int]:
    """n rows spread evenly over all frames, fewer where there are fewer."""
    n = min(n, frames)
    return [(2 * i + 1) * frames // (2 * n) for i in range(n)]


def seconds_of(source: Source, rows: Sequence[int], size: int, resize: str) -> float:
    """CPU-seconds that reading these frames takes (runs in a child, which does nothing else)."""
    start = time.process_time()
    read_frames(source, rows, size=size, resize=resize)
    return time.process_time() - start
