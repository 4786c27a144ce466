"""Drawing sets of frames."""

import dataclasses

import numpy as np
import pytest

from tests.fragments.clips import CFG, clip_of, moving_squares, named
from vjax.fragments import Drop, FragmentConfig, draw_sets, sets
from vjax.fragments.difference import Grey, decidable


@pytest.mark.parametrize("sampler", ["motion", "ssim", "uniform", "random"])
def test_three_sets_of_distinct_frames_in_time_order(clip, sampler):
    cfg = dataclasses.replace(CFG, sampler=sampler)
    for n in range(20):
        drawn = draw_sets(named(clip, f"{n}.mp4"), cfg)
        assert sorted(len(s.rows) for s in drawn) == [3, 4, 5]
        assert [s.number for s in drawn] == [0, 1, 2]
        for s in drawn:
            assert list(s.rows) == sorted(set(s.rows))
            assert 0 <= s.rows[0] and s.rows[-1] < len(clip.frames)


def test_every_order_of_M_occurs(clip):
    orders = {
        tuple(len(s.rows) for s in draw_sets(named(clip, f"{n}.mp4"), CFG)) for n in range(100)
    }
    assert len(orders) == 6


def test_accepted_sets_are_decidable_and_far_pairs_are_two_tau_apart(clip):
    grey = Grey(clip.frames, CFG.model_size)
    for n in range(20):
        for s in draw_sets(named(clip, f"{n}.mp4"), CFG):
            assert decidable(grey(s.rows), CFG.tau)
            assert s.far
            for pair in s.far:
                assert decidable(grey([s.rows[p] for p in pair]), 2 * CFG.tau)


def test_rejection_keeps_M(clip, monkeypatch):
    plain = [draw_sets(named(clip, f"{n}.mp4"), CFG) for n in range(30)]
    real, calls = sets.differences, []

    def refuse_some(grey):
        calls.append(len(grey))
        return real(grey) * (len(calls) % 3 == 0)

    monkeypatch.setattr(sets, "differences", refuse_some)
    again = [draw_sets(named(clip, f"{n}.mp4"), CFG) for n in range(30)]
    assert all(s.attempt == 2 for drawn in again for s in drawn)
    sizes = [[len(s.rows) for s in drawn] for drawn in plain]
    assert [[len(s.rows) for s in drawn] for drawn in again] == sizes


def test_a_clip_is_dropped_whole_after_five_attempts_with_M_fixed(clip, monkeypatch):
    sizes = []

    def refuse_fives(grey):
        sizes.append(len(grey))
        return np.full((len(grey), len(grey)), 0.03 if len(grey) == 5 else 1.0)

    monkeypatch.setattr(sets, "differences", refuse_fives)
    drop = draw_sets(clip, CFG)
    assert isinstance(drop, Drop)
    assert sizes.count(5) == 5
    assert (drop.value, drop.need) == (0.015, CFG.tau)


def test_a_static_clip_is_dropped_with_its_reason():
    drop = draw_sets(clip_of(moving_squares()[:1].repeat(30, 0)), CFG)
    assert isinstance(drop, Drop)
    assert drop.value == 0 and "look alike" in drop.reason
    assert str(drop).startswith("a/b.mp4#500-3000: ")


def test_a_clip_that_only_changes_brightness_is_dropped():
    frame = moving_squares()[5].astype(float)
    frames = np.stack([frame * gain for gain in np.linspace(0.4, 0.95, 30)]).round()
    assert isinstance(draw_sets(clip_of(frames.astype(np.uint8)), CFG), Drop)


def test_too_few_frames_is_a_drop_with_the_number():
    drop = draw_sets(clip_of(moving_squares(4)), CFG)
    assert isinstance(drop, Drop)
    assert (drop.value, drop.need) == (4, 6) and "few frames" in drop.reason


def test_a_zero_curve_falls_back_to_uniform(clip):
    still = dataclasses.replace(clip, motion=np.zeros_like(clip.motion))
    assert all(s.fallback for s in draw_sets(still, CFG))
    assert not any(s.fallback for s in draw_sets(clip, CFG))


def test_epochs_and_seeds_draw_other_sets(clip):
    rows = lambda drawn: [s.rows for s in drawn]  # noqa: E731
    first = rows(draw_sets(clip, CFG))
    assert first == rows(draw_sets(clip, CFG))
    assert first != rows(draw_sets(clip, CFG, epoch=1))
    assert first != rows(draw_sets(clip, dataclasses.replace(CFG, seed=8)))


@pytest.mark.parametrize(
    "field, value",
    [("sampler", "best"), ("tau", 10), ("sets", 4), ("mcq_share", 1.5), ("model_size", 8)],
)
def test_a_config_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        FragmentConfig(**{field: value})


def test_only_the_ssim_sampler_asks_for_another_motion_signal():
    signals = {name: FragmentConfig(sampler=name).signal for name in ("motion", "ssim", "random")}
    assert signals == {"motion": "luma", "ssim": "ssim", "random": "luma"}
