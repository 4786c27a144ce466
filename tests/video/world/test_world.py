"""The procedural world: what a clip shows is what its truth says, and time runs one way in it."""

import dataclasses
import itertools
import json
import re

import av
import numpy as np
import pytest
from PIL import Image

from vjax.video.world import corpus, encode, motion, questions, render
from vjax.video.world import scene as scene_lib

FORBIDDEN = set(
    "frame frames picture pictures image images order first last before after then next previous "
    "earlier later start starts end ends begin begins beginning final finally until again once "
    "second third fourth fifth zero one two three four five six seven eight nine ten count many "
    "number position sequence reverse backwards".split()
)


def scene_of(action, effect, speed="normal", seed=0, **changes):
    scene = scene_lib.sample_scene(seed, "test", speed=speed)
    direction = {"drop": "down", "turn": "place"}.get(action, "right")
    return dataclasses.replace(
        scene, action=action, effect=effect, direction=direction,
        actor_shape="lid" if action == "cover" else "square", target_shape="circle",
        actor_colour="red", target_colour="blue", paint_colour="yellow", **changes,
    )  # fmt: skip


def all_effects(action):
    return scene_lib.COVER_EFFECTS if action == "cover" else scene_lib.EFFECTS


CASES = [(a, e) for a in scene_lib.ACTIONS for e in all_effects(a)]


def small_grey(frames):
    small = [Image.fromarray(f).convert("L").resize((48, 48), Image.BICUBIC) for f in frames]
    return np.stack([np.asarray(image, float) for image in small])


def near(frames, colour):
    """Pixels [I] within 40 of a named colour."""
    away = np.abs(frames.astype(int) - scene_lib.COLOURS[colour]).max(-1)
    return (away < 40).sum((1, 2))


# ---- the truth is a pure function of the seed


def test_same_seed_same_pixels():
    scene = scene_lib.sample_scene(5, "eval")
    assert scene == scene_lib.sample_scene(5, "eval")
    np.testing.assert_array_equal(render.render(scene), render.render(scene))


def test_splits_differ():
    splits = [
        [scene_lib.sample_scene(seed, split) for seed in range(20)] for split in scene_lib.SPLITS
    ]
    looks = [tuple(dataclasses.replace(s, split="base") for s in scenes) for scenes in splits]
    assert len(set(looks)) == len(scene_lib.SPLITS)
    names = {scene.video_id for scenes in splits for scene in scenes}
    assert len(names) == 20 * len(scene_lib.SPLITS)


def test_asked_speed_changes_speed_alone():
    drawn = scene_lib.sample_scene(7, "train")
    asked = scene_lib.sample_scene(7, "train", speed="frozen")
    assert dataclasses.replace(asked, speed=drawn.speed, asked=None) == drawn
    assert asked.video_id != drawn.video_id


def test_frozen_is_drawn_for_the_base_alone():
    share = {
        split: np.mean([scene_lib.sample_scene(i, split).speed == "frozen" for i in range(600)])
        for split in scene_lib.SPLITS
    }
    assert all(0.1 < share[split] < 0.2 for split in ("base", "base_eval")), share
    assert all(share[split] == 0 for split in ("train", "eval", "test")), share


def test_effect_does_not_follow_from_action():
    scenes = [scene_lib.sample_scene(i, "base") for i in range(3000)]
    for action in scene_lib.ACTIONS:
        effects = [s.effect for s in scenes if s.action == action]
        assert {e: effects.count(e) for e in set(effects)}.keys() == set(all_effects(action))
        assert max(effects.count(e) for e in set(effects)) / len(effects) < 0.27


@pytest.mark.parametrize("kwargs", [{"split": "nope"}, {"split": "test", "speed": "quick"}])
def test_unknown_names_are_errors(kwargs):
    with pytest.raises(ValueError, match="unknown .* choose one of"):
        scene_lib.sample_scene(0, **kwargs)


def test_negative_seed_is_an_error():
    with pytest.raises(ValueError, match="-1"):
        scene_lib.sample_scene(-1)


# ---- time runs one way


@pytest.mark.parametrize("action,effect", CASES)
def test_processes_never_run_back(action, effect):
    for speed, seed in itertools.product(("slow", "normal", "fast"), range(3)):
        t = motion.simulate(scene_of(action, effect, speed, seed))
        assert (np.diff(t.ambient) > 0).all(), "ambient"
        assert (np.diff(t.action) >= 0).all() and t.action[-1] > 0.6, "action"
        assert (np.diff(t.effect) >= 0).all() and t.effect[-1] > 0.45, "effect"


@pytest.mark.parametrize("speed,low,high", [("slow", 0.6, 0.9), ("normal", 1, 1), ("fast", 1, 1)])
def test_action_is_as_far_as_its_speed_says(speed, low, high):
    for seed in range(20):
        done = motion.simulate(scene_lib.sample_scene(seed, "test", speed=speed)).action
        assert low <= done[-1] <= high
        if speed == "fast":
            assert done[len(done) // 2] == 1


@pytest.mark.parametrize("ambient", scene_lib.AMBIENTS)
def test_background_process_moves_on_in_the_pixels(ambient):
    for seed in range(3):  # a push stays on the floor: above it only the background moves
        frames = render.render(scene_of("push", "nothing", "normal", seed, ambient=ambient))
        top = frames[:, :44].astype(int)
        away = np.abs(top - top[0]).mean((1, 2, 3))[::4]
        assert (np.diff(away) > 0).all(), away


def test_frozen_clip_is_a_still():
    frames = render.render(scene_lib.sample_scene(3, "test", speed="frozen"))
    assert (frames == frames[0]).all()


def test_trail_only_grows_in_the_pixels():
    for action in ("push", "pass", "pull"):
        seen = near(render.render(scene_of(action, "trail")), "yellow")
        assert (np.diff(seen) >= -2).all() and seen[-1] > seen[0] + 100, (action, seen)


def test_covered_stays_covered():
    for seed in range(5):
        seen = near(render.render(scene_of("cover", "nothing", "fast", seed)), "blue")
        assert seen[0] > 150 and (seen[len(seen) // 2 :] == 0).all(), seen


def test_pushed_bodies_touch_and_stop_and_never_overlap():
    for seed in range(20):
        t = motion.simulate(scene_of("push", "nothing", "normal", seed))
        gap = t.target.centre[:, 0] - t.actor.centre[:, 0]
        assert np.isclose(gap.min(), 0.93 * (t.actor.radius + t.target.radius))
        assert (np.diff(gap) <= 1e-9).all()
        assert t.target.centre[-1, 0] - t.target.centre[0, 0] > 8
        assert np.diff(t.target.centre[-4:, 0]).max() == 0


def test_drop_bounces_lower_each_time_and_rests():
    scene = dataclasses.replace(scene_of("drop", "nothing"), fps=1000, n_frames=2500)
    y = motion.simulate(scene).actor.centre[:, 1]
    tops = [-y[i] for i in range(1, len(y) - 1) if y[i - 1] > y[i] <= y[i + 1]]
    assert len(tops) == 3 and tops == sorted(tops, reverse=True)
    assert y[-1] == y.max()


@pytest.mark.parametrize("action", ["drop", "turn"])
def test_effect_waits_for_its_cause(action):
    t = motion.simulate(scene_of(action, "melts"))
    assert t.puddle[0] == 0 and t.puddle[-1] > t.actor.radius


def test_most_draws_of_frames_can_be_told_apart():
    rng, told, total = np.random.default_rng(0), 0, 0
    for seed in range(25):
        frames = render.render(scene_lib.sample_scene(seed, "test"))
        grey = small_grey(frames)
        moved = np.sqrt(np.abs(np.diff(grey, axis=0)).sum((1, 2)))
        cumulative = np.concatenate([[0], np.cumsum(moved)]) / moved.sum()
        for M in (3, 4, 5):
            rows = np.searchsorted(cumulative, (np.arange(M) + rng.random(M)) / M, "right") - 1
            blocks = grey[rows].reshape(M, 8, 6, 8, 6)
            away = np.abs(blocks[:, None] - blocks[None]).mean((3, 5)).max((2, 3))
            told += bool((away[np.triu_indices(M, 1)] > 10).all())
            total += 1
    assert told / total >= 0.85


def test_objects_are_large_at_the_size_models_see():
    for seed in range(50):
        t = motion.simulate(scene_lib.sample_scene(seed, "test"))
        assert t.actor.radius >= 10 and (t.target is None or t.target.radius >= 10)


# ---- files


def test_mp4_gives_the_frames_back(tmp_path):
    scene = scene_lib.sample_scene(11, "test")
    frames = render.render(scene)
    encode.write_mp4(tmp_path / "a.mp4", frames, scene.fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    np.testing.assert_allclose([time for time, _ in decoded], np.arange(scene.n_frames) / 12)
    error = np.mean((np.stack([f for _, f in decoded]).astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 28


def test_mp4_bytes_repeat_and_nothing_else_is_left(tmp_path):
    # x264 as it comes has written four different files of this scene
    frames = render.render(scene_lib.sample_scene(4, "train"))
    litter, written = [], set()
    for n in range(12):  # whatever the allocator hands out
        litter = [*litter[-3:], np.full(1000 << n % 11, n, np.uint8)]
        encode.write_mp4(tmp_path / "a.mp4", frames, 12)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_mp4_refuses_what_is_no_clip(tmp_path):
    with pytest.raises(ValueError, match="need uint8"):
        encode.write_mp4(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3)), 12)
    with pytest.raises(ValueError, match="even"):
        encode.write_mp4(tmp_path / "a.mp4", np.zeros((2, 8, 7, 3), np.uint8), 12)


def test_corpus_truth_round_trip(tmp_path):
    paths = corpus.make_corpus(tmp_path, "test", [3, 1])
    paths += corpus.make_corpus(tmp_path, "test", [1], speed="frozen")
    names = ["world/test/000003.mp4", "world/test/000001.mp4", "world/test/000001-frozen.mp4"]
    assert paths == [tmp_path / name for name in names] and all(p.exists() for p in paths)
    truth = corpus.read_truth(tmp_path, "test")
    assert list(truth) == names
    assert truth[names[0]] == scene_lib.sample_scene(3, "test")
    assert truth[names[2]] == scene_lib.sample_scene(1, "test", speed="frozen")


def test_corpus_resumes_and_keeps_what_exists(tmp_path):
    kept, lost = corpus.make_corpus(tmp_path, "test", [0, 1])
    stamp, clip = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    made = []
    corpus.make_corpus(tmp_path, "test", [0, 1], on_clip=lambda: made.append(1))
    assert len(made) == 1 and lost.read_bytes() == clip and kept.stat().st_mtime_ns == stamp


def test_corpus_of_another_version_is_made_again(tmp_path):
    stale, _ = corpus.make_corpus(tmp_path, "test", [0, 1])
    truth = stale.with_name(corpus.TRUTH)
    rows = [json.loads(line) | {"version": -1, "gone": 0} for line in open(truth)]
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(corpus.StaleTruthError, match="version -1"):
        corpus.read_truth(tmp_path, "test")
    corpus.make_corpus(tmp_path, "test", [1])
    assert list(corpus.read_truth(tmp_path, "test")) == ["world/test/000001.mp4"]
    assert not stale.exists()


def test_broken_truth_names_its_line(tmp_path):
    (path,) = corpus.make_corpus(tmp_path, "test", [0])
    with open(path.with_name(corpus.TRUTH), "a") as f:
        f.write("{half\n")
    with pytest.raises(ValueError, match=r"truth\.jsonl:2"):
        corpus.make_corpus(tmp_path, "test", [0])
    with pytest.raises(FileNotFoundError, match="make_corpus"):
        corpus.read_truth(tmp_path, "eval")


def test_corpus_with_workers_equals_without(tmp_path):
    alone = corpus.make_corpus(tmp_path / "a", "test", range(3))
    pool = corpus.make_corpus(tmp_path / "b", "test", range(3), workers=2)
    assert [p.read_bytes() for p in alone] == [p.read_bytes() for p in pool]


# ---- questions


@pytest.fixture(scope="module")
def asked():
    """(task, question, options, index) of many scenes, and (question, caption) pairs."""
    items, captions = [], []
    for seed in range(600):
        scene, rng = scene_lib.sample_scene(seed, "base"), np.random.default_rng(seed)
        captions += [(scene, *questions.caption(scene, rng)) for _ in range(3)]
        items += [(t, *questions.scene_question(scene, t, rng)) for t in questions.tasks(scene)]
    return items, captions


def words_of(asked):
    items, captions = asked
    texts = [text for _, question, options, _ in items for text in (question, *options)]
    texts += [text for _, question, answer in captions for text in (question, answer)]
    return {word for text in texts for word in re.findall(r"\w+", text.lower())}


def test_nothing_is_said_of_frames_or_their_order(asked):
    words = words_of(asked)
    assert not words & FORBIDDEN
    assert not [word for word in words if any(c.isdigit() for c in word)]


def test_few_words_and_short_sentences(asked):
    items, captions = asked
    assert len(words_of(asked)) < 250
    assert max(len(answer.split()) for _, _, answer in captions) <= 26
    assert max(len(question.split()) for _, question, _, _ in items) <= 10


def test_four_distinct_options_and_the_right_one_anywhere(asked):
    items, _ = asked
    assert all(len(set(options)) == 4 for _, _, options, _ in items)
    share = np.bincount([index for *_, index in items], minlength=4) / len(items)
    assert np.abs(share - 0.25).max() < 0.03


def test_every_task_has_four_phrasings_and_all_its_answers(asked):
    items, _ = asked
    for task in questions.SCENE_TASKS + questions.PLAIN_TASKS:
        mine = [item for item in items if item[0] == task]
        assert len({question for _, question, _, _ in mine}) >= 4, task
        right = {options[index] for _, _, options, index in mine}
        assert right == {text for _, _, options, _ in mine for text in options}, task


def test_caption_tells_the_truth(asked):
    _, captions = asked
    assert len({question for _, question, _ in captions}) >= 6
    for scene, _, answer in captions:
        assert f"{scene.actor_colour} {scene.actor_shape}" in answer.lower()
        if scene.speed == "frozen":
            assert "othing moves" in answer
        else:
            assert scene.speed in answer and f" {scene.action}" in answer


def test_of_a_still_no_motion_is_asked():
    scene = scene_lib.sample_scene(0, "test", speed="frozen")
    assert questions.tasks(scene) == ("speed", "background")
    with pytest.raises(ValueError, match="cannot ask 'action'"):
        questions.scene_question(scene, "action", np.random.default_rng(0))
