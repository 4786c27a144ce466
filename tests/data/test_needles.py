"""Needles: where they go, what is asked, what a file of them may be wrong in."""

import json

import numpy as np
import pytest
from PIL import Image

from vjax.data import needles
from vjax.data.needles import Needle
from vjax.data.rows import BadFile
from vjax.video.rng import philox

RED = np.full((8, 8, 3), (200, 30, 30), np.uint8)


def frames(count):
    return [np.full((8, 8, 3), n, np.uint8) for n in range(count)]


def needle(**fields):
    return Needle(**{"id": "n", "image": RED, "question": "What?", "answer": "red"} | fields)


@pytest.mark.parametrize(
    ("depth", "length", "at"),
    [(0, 10, 0), (1, 10, 10), (0.5, 10, 5), (0.25, 10, 3), (0.29, 100, 29), (0, 1, 0), (1, 1, 1)],
)
def test_a_depth_says_how_many_frames_come_before(depth, length, at):
    assert needles.place(depth, length) == at
    shown = needles.hide(frames(length), needle(), depth)
    assert len(shown) == length + 1
    assert shown.pop(at) is RED
    assert [int(frame[0, 0, 0]) for frame in shown] == list(range(length))


@pytest.mark.parametrize("depth", [-0.1, 1.01, float("nan")])
def test_a_depth_that_is_none(depth):
    with pytest.raises(ValueError, match="a depth of"):
        needles.place(depth, 4)


def test_prompts_of_each_kind():
    shown = frames(2)
    letters = needles.prompt(needle(options=("blue", "red")), shown)
    assert letters.answer == "B"
    assert letters.candidates == ("A", "B")
    assert letters.options == ("blue", "red")
    assert letters.parts[:2] == (("frame", 0), ("frame", 1))
    assert letters.parts[2][1] == "What?\nA. blue\nB. red\nAnswer with the letter."
    short = needles.prompt(needle(candidates=("blue", "red", "green")), shown)
    assert (short.answer, short.options) == ("red", ())
    assert short.candidates == ("blue", "red", "green")
    text = needles.prompt(needle(), shown)
    assert (text.answer, text.candidates, text.parts[2][1]) == ("red", (), "What?")
    assert needle(options=("a", "red")).chance == 1 / 2
    assert needle(candidates=("a", "b", "red")).chance == 1 / 3
    assert needle().chance == 0


def test_cards_are_of_every_colour_and_of_their_seed():
    found = needles.cards(0, 48)
    assert len({one.id for one in found}) == needles.CARDS
    assert {one.answer for one in found} == set(needles.INKS) == set(found[0].candidates)
    assert all(one.image.shape == (48, 48, 3) and one.image.dtype == np.uint8 for one in found)
    for one, same, other in zip(found, needles.cards(0, 48), needles.cards(1, 48), strict=True):
        assert (one.image == same.image).all()
        assert (one.image != other.image).any()
    drawn = needles.any_card(philox("a"), 48)
    assert all((drawn.image != one.image).any() for one in found)


@pytest.mark.parametrize("ink", needles.INKS)
def test_a_card_is_white_with_its_colour_on_it(ink):
    image = needles.card(ink, "circle", philox("card", ink), needles.SIDE).astype(int)
    assert (abs(image - (244, 243, 240)).max(-1) <= 1).mean() > 0.5
    want = np.array(needles.COLOURS[ink])
    assert 0.1 < (abs(image - want).max(-1) <= 1).mean() < 0.5


# ---- files


@pytest.fixture
def read(tmp_path):
    Image.fromarray(RED).resize((20, 12)).save(tmp_path / "red.png")

    def call(rows, name="needles.jsonl", folder=""):
        path = tmp_path / name
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(json.dumps(rows) if name.endswith(".json") else text)
        cache = tmp_path / "cache"
        return needles.read_needles(path, folder, cache, size=8, resize="reference")

    return call


GOOD = {"image": "red.png", "question": "What colour?", "answer": "red"}


@pytest.mark.parametrize("name", ["needles.jsonl", "needles.json"])
def test_a_file_of_every_kind_of_question(read, tmp_path, name):
    rows = [
        GOOD,
        GOOD | {"id": "letters", "options": ["blue", "red"], "answer": "B"},
        GOOD | {"id": "words", "options": ["red", "blue"]},
        GOOD | {"id": "short", "candidates": ["red", "green"]},
        {"path": "red.png", "prompt": "\nA. blue\nB. red\nWhich?", "answer": "B"},  # LongVA's form
    ]
    found = read(rows, name)
    assert [one.id for one in found] == ["0", "letters", "words", "short", "4"]
    assert [one.answer for one in found] == ["red", "red", "red", "red", "B"]
    assert [one.chance for one in found] == [0, 1 / 2, 1 / 2, 1 / 2, 0]
    assert found[4].question == "A. blue\nB. red\nWhich?"
    assert all(one.image.shape == (8, 8, 3) for one in found)
    assert (abs(found[0].image.astype(int) - (200, 30, 30)) <= 1).all()


def test_images_may_lie_in_a_folder(read, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "red.png").rename(tmp_path / "images" / "red.png")
    assert len(read([GOOD], folder=tmp_path / "images")) == 1
    with pytest.raises(BadFile, match="there is no such image"):
        read([GOOD])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "blue.png"}, "blue.png: there is no such image"),
        ({"image": "notes.txt"}, "no image that can be read"),
        ({"answer": ""}, "answer is ''"),
        ({"answer": None}, "answer is None"),
        ({"question": 3}, "question is 3"),
        ({"answer": 1}, 'answer is 1, which is no text; quote it: "1"'),
        ({"id": "again"}, "asks the same of the same picture as"),
        ({"options": ["blue", "green"]}, "answer 'red' is none of 'blue', 'green'"),
        ({"candidates": ["blue", "green"]}, "answer 'red' is none of 'blue', 'green'"),
        ({"options": ["red"]}, "nothing to choose"),
        ({"options": ["red", "red"]}, "texts that differ"),
        ({"options": "red"}, "no list of texts"),
        ({"options": list("abcdefg")}, "at most 5 have a letter"),
        ({"options": ["red", "b"], "candidates": ["red", "b"]}, "is it multiple choice"),
        ({"anwser": "red"}, "field 'anwser'"),
        ({"id": "0"}, "needles.jsonl:1"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(read, tmp_path, change, said):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(BadFile, match=r"needles\.jsonl:2: ") as found:
        read([GOOD, GOOD | change])
    assert said in str(found.value)


def test_an_empty_file(read):
    with pytest.raises(BadFile, match="no needle in it"):
        read([])
