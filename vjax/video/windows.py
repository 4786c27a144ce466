"""Cutting a long video into windows of a few seconds, none of which crosses a shot cut."""

from collections.abc import Sequence

import numpy as np

from vjax.video.frames import Window, milliseconds
from vjax.video.rng import philox


def cut_windows(
    times: np.ndarray,
    cuts: Sequence[int],
    *,
    seed: int,
    video_id: str,
    min_s: float = 2.0,
    max_s: float = 4.0,
    min_frames: int = 2,
) -> list[Window]:
    """Windows one after the other along every shot, each of a random length.

    Args:
        times: float64 [I], presentation times in seconds, increasing.
        cuts: frame indices at which a new shot begins (`vjax.video.motion.shot_cuts`).
        seed, video_id: with the time of the first frame, the key of the random lengths.
        min_s, max_s: shortest and longest window in seconds.
        min_frames: fewest frames in a window.

    Returns:
        [start, end) in milliseconds, ascending, not overlapping. The start is a frame's time, the
        end the time of the first frame after it. A rest of a shot that makes no window of its own
        is joined to the window before it where `max_s` allows, else left out.
    """
    if not 0 < min_s <= max_s:
        raise ValueError(f"windows need 0 < min_s <= max_s, got {min_s} and {max_s}")
    if len(times) < 2:
        return []
    frame = float(np.median(np.diff(times)))
    ms = milliseconds(np.append(times, times[-1] + frame))  # one more: the end of the last frame
    rng = philox("windows", seed, video_id, int(ms[0]))
    shortest, longest = round(min_s * 1000), round(max_s * 1000)
    windows = []
    bounds = [0, *cuts, len(times)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        while start < stop:
            # Frames that may end a window from here: the shot's own and the first of the next shot.
            length = ms[start + 1 : stop + 1] - ms[start]
            fits = (length >= shortest) & (length <= longest)
            ends = start + 1 + np.flatnonzero(fits)
            ends = ends[ends - start >= min_frames]
            if not len(ends):  # a gap, a low frame rate or the rest of the shot
                start += 1
                continue
            wanted = ms[start] + rng.uniform(shortest, longest)
            end = int(ends[np.abs(ms[ends] - wanted).argmin()])
            if ends[-1] == stop and ms[stop] - ms[end] < shortest:
                end = stop
            windows.append((int(ms[start]), int(ms[end])))
            start = end
    return windows
