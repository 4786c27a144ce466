"""What vjax-tiny is pretrained on: true captions and questions, and nothing that SF2T will ask."""

import re
from collections import Counter

import numpy as np
import pytest

from tests.data import made_up
from tests.video.world.test_world import FORBIDDEN
from vjax.data import sight, words
from vjax.data.collate import Shape
from vjax.data.conversations import (
    ASKED,
    FRAMES,
    SAME_SHARE,
    SPOT,
    TALK,
    YES_NO_SHARE,
    SceneClip,
    about,
    conversation,
)
from vjax.data.scenes import ConversationBatches, vocabulary
from vjax.video.world import questions
from vjax.video.world import scene as scene_lib
from vjax.video.world.differences import NOTHING

pytestmark = pytest.mark.smoke
LETTER_MARKS = [f"{letter}." for letter in "ABCDE"]


def clip(seed):
    rng = np.random.default_rng(seed)
    scene = scene_lib.sample_scene(seed, "base")
    frames = rng.integers(0, 256, (scene.n_frames, 16, 16, 3)).astype(np.uint8)
    return SceneClip(scene, np.arange(scene.n_frames) / scene.fps, frames)


@pytest.fixture(scope="module")
def clips():
    return [clip(seed) for seed in range(60)]


@pytest.fixture(scope="module")
def asked(clips):
    """7,200 conversations."""
    rng = np.random.default_rng(0)
    others = [clips[-1], *clips[:-1]]
    return [
        (c, conversation(c, other, 3.0, rng))
        for _ in range(120)
        for c, other in zip(clips, others, strict=True)
    ]


def texts(turns):
    said = [value for turn in turns for kind, value in turn.parts if kind == "text"]
    return said + [turn.answer for turn in turns]


def says(turns, phrases):
    return any(phrase in text for turn in turns for text in texts([turn]) for phrase in phrases)


def kind_of(turns):
    if says(turns, ["noise patch"]):
        return "spotting"
    if not turns[0].images:
        return "words"
    if says(turns, words.FIND):
        return "matching"
    return {1: "naming", 2: "comparing"}.get(len(turns[0].images), "watching")


def of_kind(asked, kind):
    return [(c, turns) for c, turns in asked if kind_of(turns) == kind]


def shown(asked):
    return of_kind(asked, "watching")


def test_conversations_in_words_alone_show_nothing_in_any_turn(asked):
    found = of_kind(asked, "words")
    assert found and not any(turn.images for _, turns in found for turn in turns)


@pytest.mark.parametrize("kind", ["words", "naming", "comparing", "matching", "spotting"])
def test_each_kind_has_its_share(asked, kind):
    share = getattr(TALK, kind)
    if kind == "comparing":  # what does not move is watched instead
        share *= np.mean([c.scene.speed != "frozen" for c, _ in asked])
    assert abs(len(of_kind(asked, kind)) / len(asked) - share) < 0.02


def test_things_are_named_from_one_picture(asked):
    named = of_kind(asked, "naming")
    whole = [(c, turn) for c, (turn,) in named if " and " in turn.answer]
    assert len(whole) > len(named) / 2
    for c, turn in whole:
        names = [(c.scene.actor_colour, c.scene.actor_shape)]
        names.append((c.scene.target_colour, c.scene.target_shape))
        assert all(f"{colour} {shape}" in turn.answer for colour, shape in names)


def test_comparisons_show_two_moments_and_one_after_the_words_in_half_of_them(asked):
    compared = [turns for _, turns in of_kind(asked, "comparing")]
    kinds = [tuple(kind for kind, _ in turns[0].parts if kind != "text") for turns in compared]
    assert set(kinds) == {("frame", "frame"), ("frame", "image")}
    assert abs(kinds.count(("frame", "image")) / len(kinds) - 0.5) < 0.1
    described = [turns[0] for turns in compared if turns[0].answer.endswith(".")]
    assert abs(len(described) / len(compared) - (1 - YES_NO_SHARE)) < 0.05
    same = np.mean([turn.answer == NOTHING for turn in described])
    assert SAME_SHARE - 0.05 < same < SAME_SHARE + 0.15


def test_a_second_question_about_two_moments_agrees_with_what_was_said(asked):
    """Where nothing differs, the second question has No for its answer."""
    found = Counter()
    for _, (first, second) in of_kind(asked, "comparing"):
        assert not second.images
        if first.answer == NOTHING:
            found[made_up.options_of(second).get(second.answer, second.answer)] += 1
    assert set(found) == {"No"}


def lettered(turns):
    """Letters in the order shown, and the pictures after them."""
    letters = [text[0] for kind, text in turns[0].parts if kind == "text" and text in LETTER_MARKS]
    return letters, turns[0].images[: len(letters)]


def test_views_are_matched_with_the_letters_of_their_moments(asked):
    """The fake frames are noise, so that a jittered one is still nearest to itself."""
    right, sizes, kinds, answers, views = 0, Counter(), Counter(), set(), 0
    for _, turns in of_kind(asked, "matching"):
        letters, frames = lettered(turns)
        kinds += Counter(kind for kind, _ in turns[0].parts[:-1] if kind != "text")
        assert len({turn.answer for turn in turns}) == len(turns) <= ASKED
        for turn in turns:
            view = turn.images[-1]
            assert turn.candidates == tuple(sorted(letters))
            alike = [np.corrcoef(small(f).ravel(), small(view).ravel())[0, 1] for f in frames]
            right += letters[np.argmax(alike)] == turn.answer
            answers.add(turn.answer)
            views += 1
        sizes[len(frames)] += 1
    assert right > 0.9 * views
    assert set(sizes) == {2, 3, 4, 5} and set(kinds) == {"frame", "image"}
    assert len(answers) == 5


def test_the_noise_patch_is_where_the_answer_says(asked):
    """Fake frames: what is pasted is not to be found in the clip."""
    found = Counter()
    for c, turns in of_kind(asked, "spotting"):
        letters, frames = lettered(turns)
        clean = [
            bool((image == c.frames).all((1, 2, 3)).any()) for image in frames or turns[0].images
        ]
        if letters:
            right = [letters[n] for n, so in enumerate(clean) if not so]
            assert [turn.answer for turn in turns if says([turn], SPOT)] == right
        else:
            said = made_up.options_of(turns[0]).get(turns[0].answer, turns[0].answer)
            assert said == ("No" if all(clean) else "Yes")
            found[said] += 1
    assert abs(found["Yes"] / found.total() - 0.5) < 0.1


def small(picture):
    return picture.reshape(4, 4, 4, 4, 3).mean((1, 3)).astype(float) - picture.mean()


def test_nothing_is_said_of_number_order_or_position(asked):
    said = {w for _, turns in asked for t in texts(turns) for w in re.findall(r"\w+", t.lower())}
    assert not said & FORBIDDEN


def test_numerals_are_said_where_no_frame_is_shown(asked):
    said = [turns for _, turns in asked if any(c.isdigit() for t in texts(turns) for c in t)]
    assert said and not any(turn.images for turns in said for turn in turns)


def test_answers_do_not_depend_on_how_many_frames_are_shown(asked):
    """Captions and questions are drawn after the frames, and from the scene alone."""
    lengths = {}
    for _, turns in shown(asked):
        lengths.setdefault(len(turns[0].images), []).append(len(texts(turns)[0]))
    assert sorted(lengths) == list(range(FRAMES[0], FRAMES[1] + 1))
    means = [np.mean(of) for of in lengths.values()]
    assert max(means) - min(means) < 0.1 * np.mean(means)


def test_frames_are_shown_once_and_come_from_one_stretch_in_order(asked):
    for c, turns in shown(asked)[:300]:
        assert len(turns) == 2
        assert not turns[1].images and turns[1].parts[0][0] == "text"
        rows = [np.flatnonzero([(f == g).all() for g in c.frames])[0] for f in turns[0].images]
        steps = np.diff(rows)
        assert (steps == 4).all()  # 3 a second of 12


def test_choices_are_answered_by_their_letter_and_words_otherwise(asked):
    kinds = set()
    for c, turns in shown(asked)[:300]:
        for turn in turns:
            lines = turn.parts[-1][1].splitlines()
            if lines[-1] == "Answer with the letter.":
                option = dict(line.split(". ", 1) for line in lines[1:-1])[turn.answer]
                truth = {
                    text
                    for task in questions.tasks(c.scene)
                    for _, options, n in [
                        questions.scene_question(c.scene, task, np.random.default_rng(0))
                    ]
                    for text in [options[n]]
                }
                assert option in truth
                kinds.add("choice")
            else:
                kinds.add("caption" if turn.answer.endswith(".") else "words")
    assert kinds == {"choice", "caption", "words"}


def make_batches(clips, length=160, images=24, **options):
    shape = Shape(4, length, images, 16, made_up.SPEC.vision.patches)
    return ConversationBatches(about(clips, 3.0), made_up.chat(), shape, made_up.PAD, 7, **options)


def test_a_batch_is_a_pure_function_of_its_number(clips):
    one, other = make_batches(clips), make_batches(clips)
    want = {i: one(i) for i in (0, 1, 5)}
    for i in (5, 1, 0):
        got = other(i)
        for name in got:
            np.testing.assert_array_equal(got[name], want[i][name])
    assert any((want[0][name] != want[1][name]).any() for name in ("tokens", "images"))


def test_letters_weigh_more_and_nothing_else_does(clips):
    plain, heavy = make_batches(clips, letter_weight=1.0), make_batches(clips, letter_weight=5.0)
    short = (*"ABCDE", "Yes", "No")
    letters = {made_up.chat().candidate(text, end=False)[0] for text in short}
    found = 0
    for i in range(6):
        a, b = plain(i), heavy(i)
        changed = a["loss_weights"] != b["loss_weights"]
        np.testing.assert_array_equal(
            changed, (a["loss_weights"] > 0) & np.isin(a["targets"], list(letters))
        )
        assert set(b["loss_weights"][changed]) <= {5.0}
        found += changed.sum()
    assert found


def test_a_full_buffer_takes_no_more_pictures_and_rows_stay_whole(clips):
    for i in range(5):
        batch = make_batches(clips, images=7)(i)
        patches = made_up.SPEC.vision.patches
        shown = batch["vision_index"][batch["vision_index"] >= 0]
        assert len(shown) <= 7 * patches
        np.testing.assert_array_equal(np.sort(shown), np.arange(len(shown)))


def test_conversations_too_long_for_a_row_are_an_error(clips):
    with pytest.raises(ValueError, match="a row of 20 tokens"):
        make_batches(clips, length=20)(0)


def test_the_tokenizers_texts_are_what_is_asked(clips):
    said = {w for text in vocabulary([c.scene for c in clips]) for w in re.findall(r"\w+", text)}
    assert {"Answer", "letter"} <= said
    assert not {word.lower() for word in said} & FORBIDDEN


def test_states_move_with_the_crop(clips):
    c = next(c for c in clips if c.scene.target_shape)
    whole, half = (
        sight.state_of(c, 5, box) for box in ((0.0, 0.0, 1.0, 1.0), (0.25, 0.5, 0.75, 1.0))
    )
    np.testing.assert_allclose(half[:2, :2], (whole[:2, :2] - (0.25, 0.5)) * 2, rtol=1e-5)
    np.testing.assert_allclose(half[:2, 2:4], whole[:2, 2:4] * 2, rtol=1e-5)
    np.testing.assert_array_equal(half[:, 4:], whole[:, 4:])
    assert half[2, 0] == whole[2, 0] == np.float32(c.timeline.ambient[5])


def test_sight_batches_name_what_is_asked(clips):
    batch = sight.SightBatches(clips, 42, 0)(3)
    again = sight.SightBatches(clips, 42, 0)(3)
    for name in batch:
        np.testing.assert_array_equal(batch[name], again[name])
    assert sorted(set(Counter(batch["moment"].tolist()).values())) in ([2], [2, 6])  # 6: frozen
    for asked, state, objects in zip(batch["asked"], batch["state"], batch["objects"], strict=True):
        things = asked[asked != sight.PROCESS]
        assert set(things) == set(np.flatnonzero(objects)) and asked[2] == sight.PROCESS
        assert np.isfinite(state[: len(things)]).all() and np.isfinite(state[2, 0])
