"""Rules for which frames are shown: against transformers, by hand, and what always holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.video.errors import TooFewFrames
from vjax.video.rng import philox
from vjax.video.strategies import KINDS, Sampling, choose


def at(fps, n):
    return np.arange(n) / fps


def rows(rule, times, **options):
    (found,) = choose(rule, times, **options)
    return found.tolist()


@pytest.mark.parametrize("total", [8, 17, 100, 299, 1800])
@pytest.mark.parametrize("frames", [1, 4, 7, 8])
def test_uniform_is_that_of_transformers(total, frames):
    utils = pytest.importorskip("transformers.video_utils")
    meta = utils.VideoMetadata(total_num_frames=total, fps=30)
    theirs = utils.default_sample_indices_fn(meta, num_frames=frames)
    assert rows(Sampling(frames=frames), at(30, total)) == list(theirs)


@pytest.mark.parametrize("total", [4, 5, 31, 100, 299, 1800])
@pytest.mark.parametrize(("rate", "fps", "most"), [(30, 2, 768), (25, 1, 16), (24, 4, 32)])
def test_fps_is_qwens_rule(total, rate, fps, most):
    utils = pytest.importorskip("transformers.video_utils")
    qwen = pytest.importorskip("transformers.models.qwen2_vl.video_processing_qwen2_vl")
    processor = qwen.Qwen2VLVideoProcessor(min_frames=4, max_frames=most)
    meta = utils.VideoMetadata(total_num_frames=total, fps=rate)
    theirs = processor.sample_frames(meta, fps=fps, temporal_patch_size=2).tolist()
    ours = rows(Sampling("fps", fps=fps, max_frames=most, multiple=2), at(rate, total))
    # theirs are whole numbers of a float32 sum: some fall just short of the next frame
    assert len(ours) == len(theirs)
    assert all(0 <= one - other <= 1 for one, other in zip(ours, theirs, strict=True))
    assert ours == [i * total // len(ours) for i in range(len(ours))]


def test_fps_goes_by_the_clips_own_times():
    """A second at 10 frames a second, then three at 1: equal steps of time, not of frames."""
    times = np.concatenate([np.arange(10) / 10, [1.0, 2.0, 3.0]])
    assert rows(Sampling("fps", fps=1, min_frames=1), times) == [0, 10, 11]


def test_fps_keeps_its_bounds():
    rule = Sampling("fps", fps=2, min_frames=4, max_frames=16)
    assert len(rows(rule, at(30, 30))) == 4
    assert len(rows(rule, at(30, 3000))) == 16
    assert rows(rule, at(30, 3)) == [0, 1, 2]


def test_stride():
    rule = Sampling("stride", stride=4, max_frames=3)
    assert rows(rule, at(30, 100)) == [0, 4, 8]
    assert {rows(rule, at(30, 100), rng=philox(k))[0] for k in range(40)} == {0, 1, 2, 3}


def test_segments_are_tsns():
    rule = Sampling("segments", frames=4)
    assert rows(rule, at(30, 16)) == [2, 6, 10, 14]
    drawn = np.array([rows(rule, at(30, 16), rng=philox(k)) for k in range(60)])
    assert (drawn // 4 == np.arange(4)).all()
    assert set(drawn[:, 0]) == {0, 1, 2, 3}


def test_window_is_in_the_middle_or_anywhere():
    rule = Sampling("window", frames=4, stride=2)
    assert rows(rule, at(30, 27)) == [10, 12, 14, 16]
    starts = {rows(rule, at(30, 10), rng=philox(k))[0] for k in range(60)}
    assert starts == {0, 1, 2, 3}


def test_views_are_spread_from_first_to_last():
    found = choose(Sampling("views", frames=4, stride=2, views=3), at(30, 27))
    assert found.tolist() == [[0, 2, 4, 6], [10, 12, 14, 16], [20, 22, 24, 26]]


def test_motion_is_mgsamplers():
    curve = np.array([1, 4, 9, 16])
    assert rows(Sampling("motion", frames=2), at(30, 5), motion=curve) == [1, 2]


@pytest.mark.parametrize("curve", [None, np.ones(3)])
def test_motion_needs_the_clips_curve(curve):
    with pytest.raises(ValueError, match="a curve of 4 numbers, got (none|one of 3)"):
        choose(Sampling("motion"), at(30, 5), motion=curve)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [3, lambda times: len(times) // 20])
def test_a_budget_bounds_every_rule(kind, budget):
    rule = Sampling(kind, frames=8, fps=30)
    found = choose(rule, at(30, 60), motion=np.ones(59), budget=budget)
    assert found.shape[1] == 3


@given(
    kind=st.sampled_from(KINDS),
    T=st.integers(1, 200),
    frames=st.integers(1, 20),
    stride=st.integers(1, 9),
    seed=st.none() | st.integers(0, 99),
)
def test_always_ascending_rows_of_the_clip(kind, T, frames, stride, seed):
    rule = Sampling(kind, frames=frames, stride=stride, views=3)
    rng = None if seed is None else philox(seed)
    motion = np.arange(T - 1)
    found = choose(rule, at(25, T), motion=motion, rng=rng)
    assert found.dtype == np.int64 and found.ndim == 2
    assert found.min() >= 0 and found.max() < T
    assert (np.diff(found, axis=1) >= 0).all()
    if kind not in ("fps", "stride"):
        assert found.shape == (3 if kind == "views" else 1, frames)


def test_nothing_to_choose_from():
    with pytest.raises(TooFewFrames, match="0 frames"):
        choose(Sampling(), np.zeros(0))
    with pytest.raises(TooFewFrames, match="budget of 0"):
        choose(Sampling(), at(30, 5), budget=0)


@pytest.mark.parametrize("wrong", [{"kind": "best"}, {"frames": 0}, {"stride": 0}, {"fps": 0}])
def test_rules_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="best|at least 1|above 0"):
        Sampling(**wrong)
