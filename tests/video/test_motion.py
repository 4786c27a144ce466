import itertools

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from vjax.video.motion import motion_curve, shot_cuts, ssim


def noise(seed, shape=(64, 86)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def pan(seed, n, step):
    """uint8 [n, 64, 86]: a textured scene passing by, `step` pixels a frame."""
    scene = noise(seed, (4, 100)).repeat(16, 0).repeat(16, 1)
    return np.stack([scene[:, step * i : step * i + 86] for i in range(n)])


def test_luma_curve_is_the_exact_sum_of_absolute_differences():
    frames = np.stack([noise(i) for i in range(4)])
    wide = frames.astype(np.int64)
    expected = np.abs(wide[1:] - wide[:-1]).sum((1, 2))
    curve = motion_curve(frames)
    np.testing.assert_array_equal(curve, expected)
    assert curve.dtype == np.int64


def test_ssim_equals_scikit_image():
    rng = np.random.default_rng(0)
    first = pan(0, 1, 0)[0]
    blurred = np.clip(first + rng.normal(0, 20, first.shape), 0, 255).astype(np.uint8)
    frames = np.stack([first, blurred, noise(3), np.zeros_like(first)])
    for a, b in itertools.pairwise(frames):
        np.testing.assert_allclose(ssim(a, b), structural_similarity(a, b), atol=1e-12)


def test_ssim_signal_is_in_millionths():
    frames = pan(0, 3, 2)
    expected = [round(1e6 * (1 - ssim(a, b))) for a, b in itertools.pairwise(frames)]
    np.testing.assert_array_equal(motion_curve(frames, "ssim"), expected)


def test_static_frames_do_not_move():
    frames = np.stack([noise(0)] * 3)
    assert motion_curve(frames).tolist() == [0, 0]
    assert motion_curve(frames, "ssim").tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.zeros((3, 8, 8)), np.zeros((3, 8, 8, 3), np.uint8)])
def test_only_grey_frames_are_taken(bad):
    with pytest.raises(ValueError, match="uint8"):
        motion_curve(bad)


def test_unknown_signal():
    with pytest.raises(ValueError, match="flow"):
        motion_curve(pan(0, 3, 2), "flow")


def test_hard_cut_is_found():
    dark = pan(1, 20, 2) // 2
    assert shot_cuts(np.concatenate([pan(0, 20, 2), dark])) == [20]


def test_two_hard_cuts_close_together_are_found():
    flat = np.full((3, 64, 86), 128, np.uint8)
    assert shot_cuts(np.concatenate([pan(0, 20, 1), flat, pan(1, 20, 1) // 2])) == [20, 23]


@pytest.mark.parametrize("step", [8, 20])
def test_fast_motion_is_no_cut(step):
    assert shot_cuts(pan(0, 40, step)) == []


def test_flash_is_no_cut():
    frames = pan(0, 40, 1)
    frames[20] = np.maximum(frames[20], 200)
    assert shot_cuts(frames) == []


def test_static_clip_has_no_cut():
    assert shot_cuts(np.stack([noise(0)] * 20)) == []
