"""Positions of three numbers for text, images and videos (M-RoPE), by named rules."""

from collections.abc import Sequence

import numpy as np

TEXT, IMAGE, VIDEO = 0, 1, 2
RULES = ("qwen", "hf5")


def mrope_positions(
    types: Sequence[int],
    grids: Sequence[Sequence[int]],
    *,
    merge: int,
    rule: str,
    steps: Sequence[float] = (),
) -> np.ndarray:
    """Time, height and width of every token of one row, int32 [T, 3].

    Text counts on in all three. A run of image or video tokens is a grid: its time, row and column
    from where it starts (arXiv 2409.12191, section 2.1), time in steps, rounded down (absolute
    time: arXiv 2502.13923, section 2.1.2; transformers 4 rounded seconds down beforehand, which no
    rule here does). What follows it starts, by rule `qwen` (Qwen's
    own code, transformers up to 5.2), after the largest number of the grid on any axis; by `hf5`
    (transformers 5.3 and later), after the larger of rows and columns, however long it lasts. The
    rules agree where time is not the longest axis.

    Args:
      types: TEXT, IMAGE or VIDEO of each token.
      grids: (t, h, w) in patches of each run, in order.
      merge: side of the blocks of patches that are one token.
      steps: what each grid's time counts from one of its t to the next; 1 if ().

    Raises:
      ValueError: an unknown rule, or grids that do not fit the runs.
    """
    check_rule(rule)
    types = np.asarray(types)
    bounds = [0, *(np.flatnonzero(np.diff(types)) + 1), len(types)] if len(types) else [0]
    left = list(zip(grids, steps or [1.0] * len(grids), strict=True))
    parts, start = [np.zeros((0, 3), np.int32)], 0
    for first, end in zip(bounds[:-1], bounds[1:], strict=True):
        if types[first] == TEXT:
            at = start + np.arange(end - first)
            parts.append(np.stack([at] * 3, -1))
            start += end - first
            continue
        if not left:
            raise ValueError(f"tokens {first} to {end - 1} show something that has no grid")
        (t, h, w), step = left.pop(0)
        t, h, w = int(t), int(h), int(w)
        h, w = h // merge, w // merge
        if t * h * w != end - first:
            raise ValueError(
                f"tokens {first} to {end - 1}: {end - first} vision tokens for a grid of "
                f"{t} x {h} x {w} = {t * h * w}"
            )
        # in float32, as the reference classes round
        time = np.floor(np.arange(t, dtype=np.float32) * np.float32(step)).astype(int)
        at = np.stack(np.meshgrid(time, np.arange(h), np.arange(w), indexing="ij"), -1)
        parts.append(start + at.reshape(-1, 3))
        start += max(time[-1] + 1, h, w) if rule == "qwen" else max(h, w)
    if left:
        raise ValueError(f"{len(left)} of {len(grids)} grids have no vision tokens")
    return np.concatenate(parts).astype(np.int32)


def check_rule(rule: str):
    """Raises ValueError where there is no such rule."""
    if rule not in RULES:
        raise ValueError(f"position rule {rule!r} is not known; known: {', '.join(RULES)}")
