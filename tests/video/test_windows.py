import numpy as np
import pytest

from vjax.video.frames import milliseconds
from vjax.video.windows import cut_windows

TIMES = np.arange(0, 79.4, 0.04)
CUTS = [100, 137, 1000]


def windows(times=TIMES, cuts=CUTS, seed=0, video_id="a.mp4", **lengths):
    return cut_windows(times, cuts, seed=seed, video_id=video_id, **lengths)


def test_windows_are_two_to_four_seconds():
    lengths = np.array([end - start for start, end in windows()])
    assert (lengths >= 2000).all() and (lengths <= 4000).all()
    assert len(np.unique(lengths)) > 5


def test_windows_do_not_overlap():
    found = windows()
    assert all(a[1] <= b[0] for a, b in zip(found[:-1], found[1:], strict=True))


def test_windows_cross_no_cut():
    for cut in milliseconds(TIMES[CUTS]):
        assert not any(start < cut < end for start, end in windows())


def test_little_of_a_long_shot_is_left_out():
    assert sum(end - start for start, end in windows(cuts=[])) > 0.95 * 79_400


def test_windows_depend_on_seed_and_video_alone():
    assert windows() == windows()
    assert windows() != windows(seed=1)
    assert windows() != windows(video_id="b.mp4")


def test_shot_of_two_to_four_seconds_is_one_window_or_less():
    assert windows(TIMES[:75], cuts=[]) == [(0, 3000)]


def test_short_shots_give_none():
    assert windows(TIMES[:100], cuts=[30, 70]) == []


def test_low_frame_rates_keep_min_frames():
    times = np.arange(40) / 2.0
    found = windows(times, cuts=[], min_frames=5)
    counts = [((times * 1000 >= a) & (times * 1000 < b)).sum() for a, b in found]
    assert found and min(counts) >= 5


def test_a_gap_between_frames_is_left_out():
    times = np.concatenate([np.arange(0, 5, 0.04), np.arange(20, 25, 0.04)])
    assert not any(start < 10_000 < end for start, end in windows(times, cuts=[]))


def test_lengths_must_be_in_order():
    with pytest.raises(ValueError, match="min_s"):
        windows(min_s=4, max_s=2)
