"""Consistency and localization: jitter, far pairs, crops and patches."""

import dataclasses
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.fragments.clips import CFG, clip_of, named
from vjax.fragments import make_records, render
from vjax.fragments.common import draw_jitter, jittered
from vjax.fragments.difference import Grey, decidable, differences
from vjax.fragments.localization import find_crop

PLAIN = {"brightness": 1.0, "contrast": 1.0, "box": [0.0, 0.0, 1.0, 1.0]}


def rows(record):
    return [(index - 10) // 2 for index in record.index]


@given(st.integers(0, 2**32))
def test_jitter_stays_within_its_bounds(seed):
    jitter = draw_jitter(np.random.default_rng(seed))
    left, top, right, bottom = jitter["box"]
    assert 0.85 <= jitter["brightness"] <= 1.15 and 0.85 <= jitter["contrast"] <= 1.15
    assert 0 <= left < right <= 1 + 1e-12 and 0 <= top < bottom <= 1 + 1e-12
    assert 0.85 - 1e-9 <= (right - left) * (bottom - top) <= 1 + 1e-9


def test_no_jitter_is_the_frame_itself(clip):
    np.testing.assert_array_equal(jittered(clip.frames[3], PLAIN), clip.frames[3])


def test_brightness_scales_and_contrast_keeps_the_mean():
    frame = np.full((96, 96, 3), 100, np.uint8)
    frame[:48] = 140
    bright = jittered(frame, PLAIN | {"brightness": 1.1})
    assert (bright[0, 0, 0], bright[-1, 0, 0]) == (154, 110)
    flat = jittered(frame, PLAIN | {"contrast": 0.9})
    assert (flat[0, 0, 0], flat[-1, 0, 0]) == (138, 102)


def test_crop_and_jitter_box_are_composed():
    frame = np.zeros((96, 96, 3), np.uint8)
    frame[48:, 48:] = 200
    corner = jittered(frame, PLAIN | {"box": [0.1, 0.1, 1.0, 1.0]}, [0.5, 0.5, 1.0, 1.0])
    assert corner.shape == (96, 96, 3) and (corner == 200).all()


def test_both_classes_of_consistency_are_jittered_twice(of_task, clip):
    for label in ("Yes", "No"):
        items = [r for r in of_task("consistency") if r.label == label][:40]
        for r in items:
            first, second = r.edits["jitter"]
            assert first != second
            prompt = render(r, named(clip, r.video_id))
            assert not np.array_equal(*prompt.images)
            for image, position in zip(prompt.images, r.shown, strict=True):
                assert not np.array_equal(image, clip.frames[rows(r)[position]])


def test_yes_is_one_frame_and_no_is_two_frames_two_tau_apart(of_task, clip):
    grey = Grey(clip.frames, CFG.model_size)
    orders = Counter()
    for r in of_task("consistency"):
        first, second = r.shown
        assert (r.label == "Yes") == (first == second)
        if r.label == "No":
            orders[first < second] += 1
            assert decidable(grey([rows(r)[first], rows(r)[second]]), 2 * CFG.tau)
    assert abs(orders[True] / orders.total() - 0.5) < 0.1


def test_half_of_localization_is_views_and_half_is_patches(of_task):
    items = of_task("localization")
    counts = Counter(r.variant for r in items)
    views = counts["query-frame"] + counts["query-crop"]
    assert abs(views / len(items) - 0.5) < 0.06
    assert abs(counts["patch-first"] / (len(items) - views) - 0.5) < 0.09


def test_a_view_stands_after_its_question_and_comes_from_the_answer(of_task, clip):
    for variant in ("query-frame", "query-crop"):
        for r in of_task("localization", variant=variant)[:60]:
            prompt = render(r, named(clip, r.video_id))
            kinds = [kind for kind, _ in prompt.parts]
            assert kinds[: r.M + 2] == ["frame"] * r.M + ["text", "image"]
            frame = clip.frames[rows(r)[int(r.label) - 1]]
            expected = jittered(frame, r.edits["jitter"], r.edits["crop"])
            np.testing.assert_array_equal(prompt.images[-1], expected)


def test_crops_are_half_the_side_and_two_tau_from_every_other_frame(of_task, clip):
    grey = Grey(clip.frames, CFG.model_size)
    for r in of_task("localization", variant="query-crop"):
        left, top, right, bottom = r.edits["crop"]
        assert right - left == bottom - top == 0.5
        h = CFG.model_size
        part = grey(rows(r))[:, int(top * h) : int(bottom * h), int(left * h) : int(right * h)]
        others = [p for p in range(r.M) if p != int(r.label) - 1]
        assert (differences(part, 4)[int(r.label) - 1, others] >= 2 * CFG.tau).all()
        assert r.tags == []


def test_the_crop_is_around_the_strongest_motion():
    grey = np.random.default_rng(0).integers(90, 110, (1, 48, 48)).repeat(3, 0).astype(float)
    grey[1, 36:42, 24:30] = 250
    left, top, right, bottom = find_crop(grey, 1, 20 / 255)
    assert left <= 24 / 48 and right >= 30 / 48 and top <= 36 / 48 and bottom >= 42 / 48
    assert find_crop(grey, 0, 20 / 255) is None  # frames 0 and 2 are equal everywhere


def test_without_a_telling_crop_the_whole_frame_is_asked_for():
    """Two shots 60 levels apart in one block; within a shot frames are 15 apart: tau, not 2 tau."""
    frames = np.random.default_rng(0).integers(60, 150, (1, 96, 96, 3)).repeat(40, 0)
    frames[20:, 84:, 84:] += 60
    for i in range(40):
        y, x = 12 * (i // 8), 12 * (i % 8)
        frames[i, y : y + 12, x : x + 12] += 15
    clip = clip_of(frames.astype(np.uint8))
    cfg = dataclasses.replace(CFG, sampler="uniform")
    made = [r for n in range(20) for r in make_records(named(clip, f"{n}.mp4"), cfg)[0]]
    tagged = [r for r in made if "no-crop" in r.tags]
    assert tagged and {(r.task, r.variant) for r in tagged} == {("localization", "query-frame")}
    assert all(r.edits["crop"] == [0, 0, 1, 1] for r in tagged)


def test_the_patch_is_in_its_range_in_one_place(of_task, clip):
    for variant in ("patch-first", "patch-last"):
        for r in of_task("localization", variant=variant)[:60]:
            images = render(r, named(clip, r.video_id)).images
            true = clip.frames[rows(r)]
            changed = [i for i in range(r.M) if not np.array_equal(images[i], true[i])]
            patch = r.edits["patch"]
            assert changed == list(range(patch["first"], patch["last"] + 1))
            end = changed[0] if variant == "patch-first" else changed[-1]
            assert r.label == str(end + 1)
            y, x = int(patch["top"] * 96), int(patch["left"] * 96)
            places = [images[i][y : y + 16, x : x + 16] for i in changed]
            assert all(np.array_equal(place, places[0]) for place in places)
            for i in changed:
                outside = images[i].copy()
                outside[y : y + 16, x : x + 16] = true[i, y : y + 16, x : x + 16]
                np.testing.assert_array_equal(outside, true[i])


def test_every_range_of_the_patch_occurs(of_task):
    for M in (3, 4, 5):
        patches = [r.edits["patch"] for r in of_task("localization", M=M) if "patch" in r.edits]
        found = {(patch["first"], patch["last"]) for patch in patches}
        assert found == {(a, b) for a in range(M) for b in range(a, M)}


def test_the_patch_outlives_downsizing_to_the_model(of_task, clip):
    r = of_task("localization", variant="patch-first")[0]
    position = int(r.label) - 1
    image = render(r, named(clip, r.video_id)).images[position]
    pair = np.stack([image, clip.frames[rows(r)[position]]])
    assert differences(Grey(pair, 48)((0, 1)))[0, 1] > 2 * CFG.tau
