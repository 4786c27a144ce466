"""Which frames of a clip a model is shown: one rule for training, evaluation and chat.

`sampling.py` has MGSampler, which fragments are drawn by; here are the rules for whole clips.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from vjax.video import sampling
from vjax.video.errors import TooFewFrames
from vjax.video.frames import on_screen

KINDS = ("uniform", "fps", "stride", "segments", "window", "views", "motion")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A rule. Which fields count depends on `kind`.

    Attributes:
        kind: with T frames in the clip,
            `uniform`: `frames` of them, the i-th being floor(i T / frames), as in transformers;
            `fps`: `fps` a second by the clip's own times, at least `min_frames` and at most
                `max_frames` (Qwen2-VL's rule; at a constant rate its very frames);
            `stride`: every `stride`-th, at most `max_frames`;
            `segments`: one in each of `frames` equal parts, in training a random one, else the
                middle one (TSN, Wang et al., ECCV 2016);
            `window`: `frames` neighbours `stride` apart, in training anywhere, else in the middle;
            `views`: `views` such windows, spread evenly from first to last (in training anywhere);
            `motion`: `frames` of them by the motion curve (MGSampler).
        multiple: of `fps`: the number of frames is rounded down to a multiple of this, Qwen's
            temporal patch of 2.
        power: of `motion`.
    """

    kind: str = "uniform"
    frames: int = 8
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    multiple: int = 1
    stride: int = 1
    views: int = 1
    power: float = 0.5

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"sampling {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        for name in ("frames", "min_frames", "max_frames", "multiple", "stride", "views"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampling {name}={getattr(self, name)}: at least 1 is needed")
        if self.fps <= 0 or self.power < 0:
            raise ValueError(f"sampling fps={self.fps}, power={self.power}: above 0 is needed")


Budget = Callable[[np.ndarray], int]


def choose(
    rule: Sampling,
    times: np.ndarray,
    *,
    motion: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    budget: int | Budget | None = None,
) -> np.ndarray:
    """Rows of the frames that are shown.

    A clip shorter than what is asked for gives `fps` and `stride` fewer frames (`fps` in whole
    multiples), and the others, whose number is fixed, the same ones more than once.

    Args:
        rule: the rule.
        times: float64 [T], presentation times in seconds, ascending (`FrameTable.time`).
        motion: int [T-1], motion curve; `motion` needs it.
        rng: training draws with it; None is the fixed choice of evaluation and chat.
        budget: most frames of each view of this sample, or a function of `times` that says so.

    Returns:
        int64 [V, N], ascending along N; V is 1 but for `views`.

    Raises:
        TooFewFrames: no frame at all, or a budget below 1 (or below `multiple`).
        ValueError: `motion` without a curve of the clip's length.
    """
    T = len(times)
    if T < 1:
        raise TooFewFrames("0 frames to choose from; the file is empty or was cut to nothing")
    most = budget(times) if callable(budget) else budget
    if most is not None and most < 1:
        raise TooFewFrames(f"a budget of {most} frames; at least 1 is needed")
    n = rule.frames if most is None else min(rule.frames, int(most))
    top = rule.max_frames if most is None else min(rule.max_frames, int(most))
    if rule.kind == "fps":
        rows = _at_rate(rule, times, top)
    elif rule.kind == "stride":
        start = 0 if rng is None else int(rng.integers(min(rule.stride, T)))
        rows = np.arange(start, T, rule.stride)
        rows = rows[:top]
    elif rule.kind == "uniform":
        rows = np.arange(n) * T // n
    elif rule.kind == "segments":
        inside = np.full(n, 0.5) if rng is None else rng.random(n)
        rows = np.minimum(((np.arange(n) + inside) * T / n).astype(np.int64), T - 1)
    elif rule.kind == "motion":
        if motion is None or len(motion) != T - 1:
            got = "none" if motion is None else f"one of {len(motion)}"
            raise ValueError(f"motion sampling needs a curve of {T - 1} numbers, got {got}")
        mode = "test" if rng is None else "train"
        curve = motion if T > 1 else np.ones(1)
        rows = sampling.pick(curve, n, mode=mode, power=rule.power, rng=rng)[0]
    else:
        return _windows(rule, T, n, rng)
    return rows.astype(np.int64)[None]


def _at_rate(rule: Sampling, times: np.ndarray, most: int) -> np.ndarray:
    """Frames on screen at equal steps of time, their number as in Qwen2-VL."""
    T = len(times)
    gap = float(np.median(np.diff(times))) if T > 1 else 1.0 / rule.fps
    duration = float(times[-1] - times[0]) + gap
    top = min(most, T) // rule.multiple * rule.multiple
    n = min(max(duration * rule.fps, rule.min_frames), top, T)
    n = int(n + 1e-6) // rule.multiple * rule.multiple
    if n < 1:
        raise TooFewFrames(f"{T} frames, at most {most} allowed, in multiples of {rule.multiple}")
    wanted = times[0] + np.arange(n) * (duration / n)
    return on_screen(times, wanted)


def _windows(rule: Sampling, T: int, n: int, rng: np.random.Generator | None) -> np.ndarray:
    span = (n - 1) * rule.stride + 1
    last = max(T - span, 0)  # the last place where a window can start
    count = rule.views if rule.kind == "views" else 1
    if rng is not None:
        starts = np.sort(rng.integers(0, last + 1, count))
    elif count == 1:
        starts = np.array([last // 2])
    else:
        starts = np.rint(np.linspace(0, last, count)).astype(np.int64)
    return np.minimum(starts[:, None] + np.arange(n) * rule.stride, T - 1)
