"""Conversations in words alone: what they say is so, in their shares."""

import re

import numpy as np
import pytest

from tests.data.made_up import options_of
from tests.video.world.test_world import FORBIDDEN
from vjax.data import words
from vjax.video.world import scene as scene_lib

pytestmark = pytest.mark.smoke
SCENES = [scene_lib.sample_scene(seed, "base") for seed in range(40)]


def drawn(make, count=400):
    rng = np.random.default_rng(0)
    return [make(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def asked():
    return drawn(words.about(SCENES), 4000)


def test_nothing_is_shown_and_nothing_said_of_number_order_or_position(asked):
    turns = [turn for turns in asked for turn in turns]
    assert not any(turn.images for turn in turns)
    said = {w for turn in turns for _, text in turn.parts for w in re.findall(r"\w+", text.lower())}
    assert not said & FORBIDDEN


def test_shares(asked):
    reading = np.mean([len(turns[0].parts) == 2 for turns in asked])
    adding = np.mean([" + " in turns[0].parts[0][1] for turns in asked])
    assert reading == pytest.approx(words.READING_SHARE, abs=0.03)
    assert adding == pytest.approx(words.SUM_SHARE, abs=0.03)


def test_a_caption_is_read_and_answered_by_letters(asked):
    read = [turns for turns in asked if len(turns[0].parts) == 2]
    assert all(turn.answer in turn.candidates for turns in read for turn in turns)
    assert all(turns[0].parts[0][1].endswith(".\n") for turns in read)


def test_numerals_are_said_as_they_are_written():
    answers = set()
    for (turn,) in drawn(words.echo):
        text = turn.parts[0][1]
        if turn.candidates:
            assert text.startswith(f"Which is {options_of(turn)[turn.answer]}?")
        else:
            assert text.endswith(f" {turn.answer}.")
        answers.add(turn.answer)
    assert answers >= {*"12345", *"ABCDE"}


def test_sums_are_right():
    answers = set()
    for (turn,) in drawn(words.adding):
        one, other = map(int, re.match(r"(\d) \+ (\d)\?", turn.parts[0][1]).groups())
        said = options_of(turn)[turn.answer] if turn.candidates else turn.answer
        assert int(said) == one + other
        answers.add(turn.answer)
    assert answers == {*"2345", *"ABCDE"}


def test_the_letter_is_that_of_the_thing_and_letters_come_in_any_order():
    orders = set()
    for first, *later in drawn(words.finding):
        named = dict(re.findall(r"^([A-E])\. (.+)$", first.parts[0][1], re.MULTILINE))
        assert len(set(named.values())) == len(named) == 1 + len(later)
        for turn in (first, *later):
            text = turn.parts[0][1].split("\n")[-1]
            ask = next(ask for ask in words.FIND if text.startswith(ask))
            assert named[turn.answer] == text.removeprefix(ask)[1:]
            assert set(turn.candidates) == set(named)
        orders.add(tuple(named))
    assert len(orders) > 100


def test_things_differ_where_they_do():
    for (turn,) in drawn(words.alike):
        one, other, *_ = turn.parts[0][1].split("\n")
        said = options_of(turn).get(turn.answer, turn.answer)
        assert said == ("Yes" if one != other else "No")
