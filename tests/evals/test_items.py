import dataclasses
import json
import math

import pytest

from tests.evals.made_up import item, items
from vjax.evals.items import read_items, score_record, write_items
from vjax.fragments.record import Record


def test_likelihood_takes_the_highest_score():
    found = item(scores=[-5, -1, -2], generated="The answer is 5")
    assert (found.likelihood, found.correct) == ("4", False)
    assert (found.parsed, found.correct_parsed) == ("5", False)
    assert found.chance == pytest.approx(1 / 3)


def test_of_equal_scores_the_first_counts():
    assert item(scores=[-5, -1, -1]).likelihood == "4"


def test_unparsed_is_wrong():
    found = item(generated="a ball")
    assert found.parsed is None
    assert not found.correct_parsed
    assert found.correct


def test_label_is_the_text_in_either_form():
    mcq = item(form="mcq", options=["4", "3", "5"], candidates=["A", "B", "C"], answer="B")
    assert (mcq.label, item().label) == ("3", "3")


def test_letter_of_an_equal_option_text_is_right():
    twice = item(form="mcq", options=["Cat", "dog", "cat"], candidates=["A", "B", "C"],
                 answer="C", scores=[0, -1, -2], generated="A")  # fmt: skip
    assert twice.correct and twice.correct_parsed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "6"}, r"a.mp4/0/counting/0: answer '6' is none of"),
        ({"scores": [-1.0]}, "counting/0: 1 scores for 3 candidates"),
        ({"scores": [], "candidates": []}, "counting/0: 0 scores for 0"),
        ({"scores": [math.nan, -1, -2]}, "counting/0: scores .* not all finite"),
        ({"scores": [-1, -math.inf, -2]}, "counting/0: scores .* not all finite"),
    ],
)
def test_bad_scores_name_the_item(changes, message):
    with pytest.raises(ValueError, match=message):
        item(**changes)


def test_record_gives_frames_in_the_order_shown():
    record = Record(
        schema=1, id="v/0/rearrangement/0", task="rearrangement", variant="", form="short",
        template=2, video_id="v", content_hash="00", group="g", window=None, set=0, M=3, epoch=0,
        attempt=0, index=[10, 20, 30], time=[1.0, 2.0, 3.0], shown=[2, 0, 1], permutation=[2, 0, 1],
        options=[], candidates=["2,3,1", "3,1,2"], answer="2,3,1", chance=0.5, edits={},
        tags=["fallback"], sampler="motion", power=0.5, tau=0.04, seed=0,
    )  # fmt: skip
    found = score_record(record, suite="fragments/real", scores=[0, -1], generated="3, 1, 2")
    assert found.frames == [30, 10, 20]
    assert (found.likelihood, found.parsed) == ("2,3,1", "3,1,2")
    assert (found.suite, found.group, found.template) == ("fragments/real", "g", 2)
    assert (found.chance, found.tags) == (0.5, ["fallback"])


def test_lines_come_back_equal(tmp_path):
    path = tmp_path / "eval" / "fragments" / "real.jsonl"
    some = [*items("localization", 20, 0.5), item(generated='“3”\n\u2028 "')]
    write_items(path, some)
    assert read_items(path) == some
    assert len(path.read_bytes().splitlines()) == len(some)
    assert [p.name for p in path.parent.iterdir()] == ["real.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting"),
        ("3", "expected a JSON object, got int"),
        ('{"id": "x"}', "missing fields .*'answer'"),
        (json.dumps(dataclasses.asdict(item()) | {"new": 1}), r"unknown fields \['new'\]"),
        (json.dumps(dataclasses.asdict(item()) | {"answer": "9"}), "answer '9' is none of"),
        (json.dumps(dataclasses.asdict(item()) | {"scores": 3}), "not a scored item"),
        (json.dumps(dataclasses.asdict(item()) | {"scores": [None] * 3}), "not a scored item"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path, line, message):
    path = tmp_path / "suite.jsonl"
    path.write_text(item().to_json() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"suite.jsonl, line 2: .*{message}"):
        read_items(path)
