import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.video.errors import TooFewFrames
from vjax.video.rng import philox
from vjax.video.sampling import SAMPLERS, distinct, pick


# Worked by hand from the released code of MGSampler: cumulative curve, then nearest quantile.
@pytest.mark.parametrize(
    "curve, n, expected",
    [
        ([1, 4, 9, 16], 4, [0, 1, 2, 3]),
        ([1, 4, 9, 16], 2, [1, 2]),
        ([0, 0, 4, 0], 2, [0, 2]),
        ([0, 0, 0, 1, 1, 0, 0, 0], 3, [0, 3, 4]),
        ([1] * 16, 4, [1, 5, 9, 13]),
    ],
)
def test_check_vectors(curve, n, expected):
    picks, static = pick(np.array(curve), n, mode="test")
    assert picks.tolist() == expected
    assert not static


def test_training_draws_once_in_each_stratum():
    class Low:
        def random(self, n):
            return np.zeros(n)

    class High:
        def random(self, n):
            return np.full(n, 0.999)

    curve = np.ones(100)
    assert pick(curve, 4, rng=Low())[0].tolist() == [0, 24, 49, 74]
    assert pick(curve, 4, rng=High())[0].tolist() == [24, 49, 74, 99]


def test_static_clip_falls_back_to_uniform_and_says_so():
    picks, static = pick(np.zeros(16), 4, mode="test")
    assert static
    assert picks.tolist() == pick(np.ones(16), 4, mode="test")[0].tolist()


def test_power_zero_is_uniform():
    curve = np.array([1, 100, 1, 1, 1000, 1, 1, 1])
    flat = pick(np.ones(8), 3, mode="test")[0]
    assert pick(curve, 3, mode="test", power=0)[0].tolist() == flat.tolist()


def test_motion_draws_where_things_move():
    curve = np.concatenate([np.zeros(50), np.ones(10), np.zeros(50)])
    picks, _ = pick(curve, 5, rng=philox(0))
    assert (picks[1:] >= 50).all() and (picks < 60).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_share_a_contract(name):
    curve = np.arange(1, 30)
    picks, static = SAMPLERS[name](curve, 5, rng=philox(name))
    assert picks.shape == (5,) and (np.diff(picks) >= 0).all()
    assert picks.min() >= 0 and picks.max() <= 28  # the last frame, 29, is never drawn
    assert not static
    again, _ = SAMPLERS[name](curve, 5, rng=philox(name))
    assert picks.tolist() == again.tolist()


def test_random_reaches_every_drawable_frame():
    rng = philox(0)
    seen = {int(k) for _ in range(200) for k in SAMPLERS["random"](np.ones(9), 3, rng=rng)[0]}
    assert seen == set(range(9))


@pytest.mark.parametrize("name", ["motion", "random"])
def test_drawing_needs_rng(name):
    with pytest.raises(ValueError, match="rng"):
        SAMPLERS[name](np.ones(9), 3)


@pytest.mark.parametrize("curve", [[], [1.0, np.nan], [1.0, -1.0]])
def test_bad_curves(curve):
    with pytest.raises(ValueError, match="motion curve"):
        pick(np.array(curve), 2, mode="test")


@pytest.mark.parametrize(
    "picks, n_frames, expected",
    [
        ([0, 3, 7], 9, [0, 3, 7]),
        ([2, 2, 2], 9, [2, 3, 4]),
        ([2, 2, 3], 9, [2, 3, 4]),
        ([7, 7, 7], 9, [6, 7, 8]),
        ([0, 0, 0], 3, [0, 1, 2]),
    ],
)
def test_distinct(picks, n_frames, expected):
    assert distinct(np.array(picks), n_frames).tolist() == expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(21, 40))
def test_distinct_is_strictly_increasing_and_keeps_what_is_free(picks, n_frames):
    picks = sorted(picks)
    moved = distinct(np.array(picks), n_frames)
    assert (np.diff(moved) > 0).all() and moved.min() >= 0 and moved.max() < n_frames
    if len(set(picks)) == len(picks):
        assert moved.tolist() == picks


def test_distinct_needs_room():
    with pytest.raises(TooFewFrames, match="4 frames, 5"):
        distinct(np.zeros(5, int), 4)
