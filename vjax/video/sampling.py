"""Which frames of a video to look at: MGSampler, and uniform and random beside it.

All samplers have one signature and draw from frames 0..I-2, one per pair of neighbours; the last
frame is reached only when `distinct` has to move a pick.
"""

import numpy as np

from vjax.video.errors import TooFewFrames


def pick(
    curve: np.ndarray,
    n: int,
    *,
    mode: str = "train",
    power: float = 0.5,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, bool]:
    """MGSampler (Zhi et al., arXiv 2104.09952), as in the released code.

    Each of n equal strata of the cumulative curve of `curve ** power` gives one frame: the earlier
    one of the pair whose cumulative value is nearest (the first on ties).

    Args:
        curve: [I-1], motion between neighbouring frames, not negative.
        n: frames to pick.
        mode: `train` draws uniformly inside each stratum, `test` takes its middle.
        power: smoothing exponent; 0 makes every pair equal.
        rng: needed in mode `train`.

    Returns:
        int64 [n], non-decreasing frame indices, duplicates possible; and whether nothing moves
        (the curve sums to zero), in which case all pairs counted the same.
    """
    curve = np.asarray(curve, np.float64)
    if curve.ndim != 1 or len(curve) == 0:
        raise ValueError(f"a motion curve must be [I-1] with I >= 2 frames, got {curve.shape}")
    if n < 1:
        raise ValueError(f"cannot pick {n} frames; ask for at least 1")
    if not np.isfinite(curve).all() or curve.min() < 0:
        raise ValueError("a motion curve must be finite and not negative")
    static = bool(curve.sum() == 0)
    weights = np.ones_like(curve) if static else curve**power
    cumulative = np.cumsum(weights) / weights.sum()
    quantiles = (np.arange(n) + _offsets(n, mode, rng)) / n
    return np.abs(cumulative[None] - quantiles[:, None]).argmin(1), static


def uniform(
    curve: np.ndarray,
    n: int,
    *,
    mode: str = "train",
    power: float = 0.5,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, bool]:
    """`pick` with every pair of neighbours counting the same; the flag is always False."""
    return pick(np.ones(len(curve)), n, mode=mode, power=power, rng=rng)[0], False


def random(
    curve: np.ndarray,
    n: int,
    *,
    mode: str = "train",
    power: float = 0.5,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, bool]:
    """n frames anywhere, in order, all sets equally likely; both modes draw and need `rng`.

    Raises:
        TooFewFrames: fewer than n frames to draw from.
    """
    if rng is None:
        raise ValueError("the random sampler needs rng=")
    if n > len(curve):
        raise TooFewFrames(f"{n} frames asked of the first {len(curve)}; ask for fewer")
    return np.sort(rng.choice(len(curve), n, replace=False)), False


SAMPLERS = {"motion": pick, "uniform": uniform, "random": random}


def distinct(picks: np.ndarray, n_frames: int) -> np.ndarray:
    """Make non-decreasing picks strictly increasing (our choice; MGSampler keeps duplicates).

    A duplicate moves to the next free frame; where the room is gone, picks move back from the end.

    Args:
        picks: int [n], non-decreasing frame indices.
        n_frames: I, frames of the video.

    Returns:
        int64 [n], strictly increasing, in 0..I-1.

    Raises:
        TooFewFrames: n > I.
    """
    n = len(picks)
    if n > n_frames:
        raise TooFewFrames(f"the video has {n_frames} frames, {n} distinct ones are needed")
    steps = np.arange(n)
    # Strictly increasing k is non-decreasing k - i, bounded so that all n fit.
    moved = np.maximum.accumulate(np.asarray(picks, np.int64) - steps) + steps
    return np.minimum(moved, n_frames - n + steps)


def _offsets(n: int, mode: str, rng: np.random.Generator | None) -> np.ndarray:
    if mode == "test":
        return np.full(n, 0.5)
    if mode != "train":
        raise ValueError(f"sampling mode {mode!r} is unknown; use train or test")
    if rng is None:
        raise ValueError("sampling in mode train needs rng=")
    return rng.random(n)
