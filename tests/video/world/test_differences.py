"""What two moments of a scene are said to differ in is what differs, and says nothing of time."""

import dataclasses
import re

import numpy as np
import pytest

from tests.video.world.test_world import CASES, FORBIDDEN, scene_of
from vjax.video.world import differences, motion
from vjax.video.world.scene import AMBIENTS

pytestmark = pytest.mark.smoke


def facts_of(scene, a, b):
    return differences.differences(scene, motion.simulate(scene), a, b)


@pytest.mark.parametrize(("action", "effect"), CASES)
def test_the_other_way_round_it_says_the_opposite(action, effect):
    for ambient in AMBIENTS:
        scene = scene_of(action, effect, ambient=ambient)
        there, back = facts_of(scene, 1, 20), facts_of(scene, 20, 1)
        assert len(there) == len(back) and there
        turned = [fact for fact in there if fact in back]
        assert all(fact.endswith("is turned") for fact in turned)


@pytest.mark.parametrize(("action", "effect"), CASES)
def test_one_moment_differs_from_itself_in_nothing(action, effect):
    scene = scene_of(action, effect)
    assert facts_of(scene, 7, 7) == []
    rng = np.random.default_rng(0)
    _, answer = differences.difference_question(scene, motion.simulate(scene), 7, 7, rng)
    assert answer == differences.NOTHING


@pytest.mark.parametrize(
    ("action", "effect", "fact"),
    [
        ("push", "grows", "the blue circle is further right and bigger"),
        ("pull", "trail", "the yellow trail is longer"),
        ("drop", "nothing", "lower"),
        ("turn", "paints", "the red square is turned and more yellow"),
        ("pass", "fades", "the blue circle is paler"),
        ("push", "breaks", "the blue circle is further right and more broken"),
        ("cover", "melts", "the blue circle is flatter"),
    ],
)
def test_what_is_said(action, effect, fact):
    scene = scene_of(action, effect)
    said = facts_of(scene, 0, scene.n_frames - 1)
    assert any(fact in one for one in said), said


def test_the_background_process_is_said_by_its_progress():
    for ambient in AMBIENTS:
        scene = scene_of("turn", "nothing", ambient=ambient)
        more, less = differences._AMBIENT[ambient]
        assert more in facts_of(scene, 0, 20) and less in facts_of(scene, 20, 0)


@pytest.mark.parametrize(("action", "effect"), CASES)
def test_yes_no_questions_ask_for_a_fact_or_its_opposite(action, effect):
    scene, rng = scene_of(action, effect), np.random.default_rng(0)
    t = motion.simulate(scene)
    facts = differences.differences(scene, t, 2, 18)
    answers = set()
    for _ in range(60):
        text, so = differences.yes_no_question(scene, t, 2, 18, rng)
        answers.add(so)
        asked = text.removeprefix("Is ").removesuffix("?")
        stated = [fact.replace(" is ", " ", 1) for fact in facts]
        assert so == (asked in stated or text in differences.ANY), text
        none, anything = differences.yes_no_question(scene, t, 5, 5, rng)
        assert none in differences.ANY and anything is False
    assert answers == {True, False}


def test_things_are_named_from_left_to_right_while_they_can_be_seen():
    scene = scene_of("pass", "nothing")
    t, rng = motion.simulate(scene), np.random.default_rng(0)
    first, last = (differences.things_question(scene, t, row, rng)[1] for row in (0, -1))
    assert first.startswith("A red square and a blue circle by a wall with ")
    assert last.startswith("A blue circle and a red square by a wall with ")
    scene = scene_of("cover", "nothing")
    t = motion.simulate(scene)
    last = differences.things_question(scene, t, scene.n_frames - 1, rng)[1]
    assert last.startswith("A red lid by a wall with ")


def test_no_word_of_number_order_or_position():
    said = set()
    for action, effect in CASES:
        scene = scene_of(action, effect)
        rng = np.random.default_rng(0)
        for a, b in ((0, 20), (20, 0), (5, 6)):
            t = motion.simulate(scene)
            said |= set(differences.difference_question(scene, t, a, b, rng))
            said |= set(differences.things_question(scene, t, a, rng))
            said |= {differences.yes_no_question(scene, t, a, b, rng)[0] for _ in range(9)}
        said |= set(differences.vocabulary(scene))
    words = {word for text in said for word in re.findall(r"\w+", text.lower())}
    assert not words & FORBIDDEN


def test_a_frozen_scene_never_differs():
    scene = dataclasses.replace(scene_of("push", "grows"), speed="frozen")
    assert facts_of(scene, 0, 20) == []
