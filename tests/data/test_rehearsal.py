"""Rehearsal: the base model's own answers, drawn as probable as it thinks them."""

import dataclasses

import numpy as np
import pytest

from tests.data import made_up
from vjax.data.fragments import ROW_TOKENS, FragmentBatches, with_rehearsal
from vjax.data.rehearsal import Rehearsal, rehearsal_items
from vjax.video.rng import philox

pytestmark = pytest.mark.smoke

QUESTIONS = ("What do you see?", "What is the action?|pushes|pulls|covers|drops|turns")


@pytest.fixture(scope="module")
def items():
    return rehearsal_items(made_up.keys("real"), QUESTIONS, 40, frames=3, fps=3.0, seed=5)


@pytest.fixture(scope="module")
def rehearsal(items):
    prompts = [item.prompt(made_up.clip_at) for item in items]
    scores = np.log([0.5, 0.3, 0.15, 0.05])
    answers = [(scores, "") if p.candidates else (np.zeros(0), "a red ring") for p in prompts]
    return Rehearsal(prompts, answers, made_up.chat())


def test_questions_take_turns_and_options_are_four_in_any_order(items):
    assert [item.text for item in items[:4]] == [q.split("|")[0] for q in QUESTIONS * 2]
    assert all(item.options == () for item in items[::2])
    assert all(len(set(item.options)) == 4 for item in items[1::2])
    assert len({item.options for item in items[1::2]}) > 10
    again = rehearsal_items(made_up.keys("real"), QUESTIONS, 40, frames=3, fps=3.0, seed=5)
    assert again == items


def test_prompts_show_a_stretch_at_the_models_rate_and_know_no_answer(items):
    for item in items:
        prompt = item.prompt(made_up.clip_at)
        clip = made_up.clip_at(item.key)
        rows = [np.flatnonzero([(f == g).all() for g in clip.frames])[0] for f in prompt.images]
        gaps = np.diff(clip.table.time[rows])
        assert len(rows) == 3 and np.allclose(gaps, 1 / 3, atol=0.081)
        assert prompt.answer == "" and prompt.options == item.options
        assert len(prompt.candidates) == len(item.options)


def test_letters_come_as_often_as_the_base_model_thinks(rehearsal):
    chat = made_up.chat()
    letters = {chat.candidate(letter, end=False)[0]: letter for letter in "ABCD"}
    rng = np.random.default_rng(0)
    said = [e.tokens[e.answer] for e in rehearsal.draw(rng, 4000)]
    said = [letters[tokens[0]] for tokens in said if tokens[0] in letters]
    shares = [said.count(letter) / len(said) for letter in "ABCD"]
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_words_are_the_ones_the_base_model_said(rehearsal):
    chat = made_up.chat()
    want = chat.candidate("a red ring")
    said = [list(e.tokens[e.answer]) for e in rehearsal.draw(np.random.default_rng(0), 100)]
    assert want in said


def shape(plan):
    return plan.shape(ROW_TOKENS, image_size=16, patches=made_up.SPEC.vision.patches)


def batches(plan, rehearsal, count):
    room = with_rehearsal(shape(plan), rehearsal, count)
    return FragmentBatches(
        plan, made_up.chat(), room, made_up.PAD, rehearsal=rehearsal, rehearsed=count
    )


def test_examples_join_the_batch_and_leave_its_items_alone(rehearsal):
    plan = made_up.plan()
    plain, mixed = made_up.batches(plan), batches(plan, rehearsal, 3)
    examples = rehearsal.draw(philox("rehearsed", plan.cfg.seed, 2), 3)
    a, b = plain(2), mixed(2)
    extra = sum(len(e.tokens) for e in examples)
    assert (b["segment_ids"] > 0).sum() == (a["segment_ids"] > 0).sum() + extra
    weight = sum(int(e.answer.sum()) for e in examples)
    assert b["loss_weights"].sum() == a["loss_weights"].sum() + weight
    again = batches(plan, rehearsal, 3)(2)
    for name in b:
        np.testing.assert_array_equal(b[name], again[name])


def test_every_batch_of_two_epochs_finds_room(rehearsal):
    plan = made_up.plan()
    mixed = batches(plan, rehearsal, 3)
    for i in range(2 * plan.steps_per_epoch):
        mixed(i)


def test_an_example_too_long_for_a_row_is_an_error(rehearsal):
    short = dataclasses.replace(shape(made_up.plan()), length=20)
    with pytest.raises(ValueError, match="does not fit a row of 20"):
        with_rehearsal(short, rehearsal, 3)
