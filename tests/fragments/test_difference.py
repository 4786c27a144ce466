"""The measure of how far apart frames are."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.fragments.difference import Grey, block_means, decidable, differences, motion_peaks

TAU = 10 / 255


def noise(M=2, h=48, seed=0):
    return np.random.default_rng(seed).integers(60, 180, (M, h, h)).astype(float)


def test_block_means_of_an_uneven_side():
    values = np.arange(20.0)[:, None] + np.zeros(20)
    starts = [0, 2, 5, 7, 10, 12, 15, 17, 20]
    expected = [values[a:b, 0].mean() for a, b in pairwise(starts)]
    np.testing.assert_allclose(block_means(values)[:, 3], expected)


def test_one_changed_block_counts_by_its_own_mean():
    # Two halves give the frame a contrast that one block barely changes.
    grey = np.full((2, 48, 48), 50.0)
    grey[:, :, 24:] = 200
    grey[1, 6:12, 6:12] += 40
    assert differences(grey)[0, 1] == pytest.approx(40 / 255, rel=0.05)
    assert decidable(grey, TAU)


@given(gain=st.floats(0.5, 1.5), offset=st.floats(-60, 60))
def test_brightness_and_contrast_alone_count_for_nothing(gain, offset):
    frame = noise(1)[0]
    grey = np.stack([frame, frame * gain + offset])
    assert differences(grey)[0, 1] < 1e-9
    assert not decidable(grey, TAU)


def test_noise_in_a_dark_frame_is_not_amplified():
    dark = np.random.default_rng(1).integers(0, 3, (48, 48)).astype(float)
    assert not decidable(np.stack([noise(1)[0], dark]), TAU)


def test_a_black_frame_is_not_decidable():
    assert not decidable(np.stack([noise(1)[0], np.zeros((48, 48))]), TAU)


def test_every_pair_must_be_apart():
    a, b = noise(2)
    assert decidable(np.stack([a, b]), TAU)
    assert not decidable(np.stack([a, b, a]), TAU)


def test_differences_are_symmetric_with_zero_diagonal():
    d = differences(noise(4))
    assert (d == d.T).all() and (d.diagonal() == 0).all() and (d[np.triu_indices(4, 1)] > 0).all()


def test_peak_is_where_the_motion_is():
    grey = np.full((3, 48, 48), 100.0)
    grey[1, 30:36, 12:18] = 220
    assert motion_peaks(grey, 1)[0] == (5, 2)


def test_grey_is_pillows_luma_at_the_model_size():
    frames = np.zeros((2, 96, 96, 3), np.uint8)
    frames[1] = (255, 0, 0)
    grey = Grey(frames, 48)((0, 1))
    assert grey.shape == (2, 48, 48)
    assert grey[0].max() == 0 and (grey[1] == 76).all()
