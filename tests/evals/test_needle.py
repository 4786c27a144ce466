"""What answers about needles come to: cells, sentences, warnings, the table, picture and page."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from vjax.data.needles import Needle, hide, place, prompt
from vjax.evals import needle as evals
from vjax.evals import needle_page, svg
from vjax.evals.statistics import wilson

GREY = np.full((8, 8, 3), 90, np.uint8)
FRAMES = [GREY] * 3


def one(**fields):
    return Needle(**{"id": "n", "image": GREY, "question": "What?", "answer": "red"} | fields)


def judged(needle, scores, generated):
    asked = prompt(needle, FRAMES)
    where = dict(length=3, depth=0.5, haystack=0, tokens=40, key="k")
    return evals.judge(needle, asked, scores, generated, **where)


def test_letters_are_judged_by_likelihood_and_read_from_the_text():
    needle = one(options=("blue", "red"))
    got = judged(needle, [-2.0, -1.0], "The answer is A.")
    assert (got.said, got.right, got.parsed, got.chance) == ("red", True, "blue", 0.5)
    got = judged(needle, [-1.0, -2.0], "red")
    assert (got.said, got.right, got.parsed) == ("blue", False, "red")
    assert judged(needle, [-1.0, -2.0], "no idea").parsed is None


def test_short_answers_are_judged_by_likelihood():
    got = judged(one(candidates=("red", "blue")), [-1.0, -2.0], "Blue.")
    assert (got.said, got.right, got.parsed) == ("red", True, "blue")


@pytest.mark.parametrize(("text", "right"), [("Red.", True), ("dark red", False), ("", False)])
def test_without_choices_the_text_counts(text, right):
    got = judged(one(), [], text)
    assert (got.right, got.chance, got.scores) == (right, 0.0, [])


@pytest.mark.parametrize("scores", [[-1.0], [-1.0, float("nan")]])
def test_scores_have_to_be_finite_and_one_each(scores):
    with pytest.raises(ValueError, match="needle 'n', 3 frames"):
        judged(one(options=("blue", "red")), scores, "")


def answers(right, *, lengths=(4, 8, 16), depths=(0.0, 0.5, 1.0), needles=10, chance=0.1):
    """`right(length, depth, n)` says whether needle n is answered right."""
    return [
        evals.Answer(
            length=length,
            depth=depth,
            haystack=0,
            needle=f"n{n}",
            tokens=10 * length + 20 + (depth is not None),
            key=f"{length} {depth is not None and place(depth, length)} {n}",
            answer="red",
            chance=chance,
            scores=[-1.0, -2.0],
            said="red" if right(length, depth, n) else "blue",
            generated="red",
            parsed="red",
        )
        for length in lengths
        for depth in (*depths, None)
        for n in range(needles)
    ]


def near(length, depth, n):
    """Found up to 8 frames; at 16 at the ends alone; never where it is not."""
    return depth is not None and (length <= 8 or depth != 0.5 or n < 1) and (n < 9)


def test_every_cell_and_control_is_there():
    got = evals.summarise(answers(near))
    assert (got["lengths"], got["depths"]) == ([4, 8, 16], [0.0, 0.5, 1.0])
    assert got["tokens"] == [61, 101, 181]
    assert [(c["length"], c["depth"]) for c in got["cells"]] == [
        (n, depth) for n in (4, 8, 16) for depth in (0.0, 0.5, 1.0)
    ]
    assert [c["right"] for c in got["cells"]] == [9, 9, 9, 9, 9, 9, 9, 1, 9]
    assert {c["n"] for c in (*got["cells"], *got["controls"])} == {10}
    assert [c["right"] for c in got["controls"]] == [0, 0, 0]
    cell = got["cells"][7]
    assert (cell["low"], cell["high"]) == wilson(1, 10)
    assert got["found"]["n"] == 90
    assert got["found"]["right"] == 73
    assert got["control"]["right"] == 0
    assert got["needles"]["n0"] == {"n": 9, "right": 9}
    assert got["needles"]["n9"] == {"n": 9, "right": 0}
    # needles that are always right and one that never is: wider than 90 answers for themselves
    low, high = wilson(73, 90)
    assert got["found"]["high"] - got["found"]["low"] > 1.5 * (high - low)


def test_a_hole_in_the_grid_is_an_error():
    some = answers(near)
    with pytest.raises(ValueError, match="cells hold"):
        evals.summarise(some[1:])
    with pytest.raises(ValueError, match="cells hold"):
        evals.summarise([one for one in some if (one.length, one.depth) != (16, 0.5)])


def test_sentences_say_how_far_it_reaches():
    got = evals.summarise(answers(near))
    assert evals.reach(got) == 8
    first, second = evals.sentences(got)
    assert first.startswith("73 of 90 questions were answered right (81.1%, ")
    assert "chance 10.0%; 0.0% of 30 where the needle was left out" in first
    assert second == "Every depth is clear of chance up to 8 frames, and not at 16."
    all_right = evals.summarise(answers(lambda length, depth, n: depth is not None))
    assert evals.sentences(all_right)[1] == "Every depth is clear of chance, up to 16 frames."
    none = evals.summarise(answers(lambda length, depth, n: False))
    assert evals.reach(none) == 0
    assert evals.sentences(none)[1].startswith("Already at 4 frames")


def test_a_control_that_succeeds_is_a_warning():
    leaking = evals.summarise(answers(lambda length, depth, n: True))
    assert "without the needle 100.0% are right" in evals.warnings(leaking)[0]
    assert evals.warnings(evals.summarise(answers(near))) == []
    open_text = evals.summarise(answers(lambda length, depth, n: n == 0, chance=0.0))
    assert evals.warnings(open_text) == ["without the needle 10.0% are right all the same"]
    assert "any text may be the answer" in evals.sentences(open_text)[0]


@pytest.mark.parametrize("right", [1, 3, 9])
def test_without_choices_what_is_right_all_the_same_is_not_found(right):
    got = evals.summarise(answers(lambda length, depth, n: n < right, chance=0.0))
    assert got["open"] == 10
    assert not any(row["clear"] for row in (*got["cells"], *got["controls"]))
    assert evals.reach(got) == 0
    assert "clear of the control" in evals.sentences(got)[1]
    assert "*" not in "".join(evals.table(got).splitlines()[:-2])
    assert "not clear of the control" in svg.heat_map(got)


@pytest.mark.parametrize(("found", "clear"), [(7, False), (9, True)])
def test_without_choices_a_cell_has_to_be_above_the_interval_of_the_control(found, clear):
    got = evals.summarise(
        answers(lambda length, depth, n: n < (2 if depth is None else found), chance=0.0)
    )
    assert (wilson(found, 10)[0] > wilson(2, 10)[1]) == clear
    assert {cell["clear"] for cell in got["cells"]} == {clear}


def test_one_needle_without_choices_makes_the_control_count():
    some = answers(lambda length, depth, n: n < (4 if depth is None else 6), chance=0.25)
    assert all(cell["clear"] for cell in evals.summarise(some)["cells"])
    some = [dataclasses.replace(one, chance=0.0) if one.needle == "n9" else one for one in some]
    got = evals.summarise(some)
    assert not any(cell["clear"] for cell in got["cells"])
    assert "chance 22.5% (0 for the 1 of 10 needles without choices)" in evals.sentences(got)[0]


def test_depths_of_one_place_are_said_and_not_counted_twice():
    got = evals.summarise(answers(near, lengths=(1, 4)))
    assert got["places"] == [2, 3]
    assert evals.warnings(got) == [
        "at 1 frame 3 depths are 2 places: depths of one place show the same answers"
    ]
    assert " of 60 questions (50 different) were answered right" in evals.sentences(got)[0]


def test_one_frame_is_no_frames():
    got = evals.summarise(answers(lambda *_: False, lengths=(1,), depths=(0.5,)))
    assert evals.sentences(got)[1].startswith("Already at 1 frame some")
    assert "1 frames" not in evals.table(got)


def test_few_answers_and_unread_texts_are_warnings():
    few = answers(near, needles=4)
    assert evals.warnings(evals.summarise(few)) == [
        "4 answers a cell: its interval is wide (more needles or needle.haystacks)"
    ]
    mute = [dataclasses.replace(some, parsed=None) for some in answers(near)]
    assert evals.warnings(evals.summarise(mute)) == [
        "100% of the texts that the model wrote name no choice, and count as wrong under 'greedy "
        "text' (right here means by likelihood)"
    ]


def test_the_table():
    lines = evals.table(evals.summarise(answers(near))).splitlines()
    assert lines[0].split("  ")[0] == "depth"
    assert [line.split()[0] for line in lines[2:5]] == ["0%", "50%", "100%"]
    assert lines[3].split()[1:] == ["0.900*", "0.900*", "0.100"]
    assert lines[5].split() == ["no", "needle", "0.000", "0.000", "0.000"]
    assert "interval of 10 answers" in lines[6]


def test_the_drawing_shows_every_cell():
    results = evals.summarise(answers(near)) | {"trained": 8}
    drawn = ElementTree.fromstring(svg.heat_map(results))
    name = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in drawn.iter(name + "title")]
    assert len(titles) == 9 + 3
    assert "16 frames, depth 50%: 1 of 10 right (2% to 40%)" in titles
    assert "16 frames, no needle: 0 of 10 right (0% to 28%)" in titles
    texts = [text.text for text in drawn.iter(name + "text")]
    assert texts.count("90") == 8
    assert "trained on up to 8 frames" in texts
    assert len([*drawn.iter(name + "circle")]) == 2  # the cell that is not clear of chance, its key
    assert not [*drawn.iter(name + "image")]


@pytest.mark.parametrize("lengths", [(64,), tuple(range(4, 84, 4)), (8, 2048, 1_000_000)])
def test_drawings_of_any_width(lengths):
    results = evals.summarise(answers(near, lengths=lengths, needles=2))
    drawn = ElementTree.fromstring(svg.heat_map(results))
    width, height = float(drawn.get("width")), float(drawn.get("height"))
    for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.get("x")) < width
        assert 0 < float(text.get("y")) < height


def test_the_page_stands_alone_and_escapes(tmp_path):
    some = answers(near)
    results = evals.summarise(some) | {
        "model": "<b>step 3</b>",
        "haystacks": 1,
        "trained": 0,
        "config": {"name": "x"},
        "versions": {"jax": "1"},
    }
    hidden = one(question="Is 1 < 2?", candidates=("red", "blue"))
    shown = prompt(hidden, hide([GREY] * 30, hidden, 0.5))
    needle_page.write_page(
        tmp_path / "needle.html",
        results,
        title="A & B",
        pictures={f"n{n}": GREY for n in range(10)},
        example=shown,
        place=15,
        said=some[10],
    )
    text = (tmp_path / "needle.html").read_text()
    assert "A &amp; B" in text
    assert "&lt;b&gt;step 3" in text
    assert "Is 1 &lt; 2?" in text
    assert "9 of 31 pictures" in text
    assert text.count("<img") == 9 + 10
    assert text.count('class="needle"') == 1
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text


def test_the_results_page_names_command_and_picture():
    results = evals.summarise(answers(near)) | {"model": "step 3 of runs/x"}
    text = evals.markdown(results, "run this")
    assert "    run this" in text
    assert "Asked: step 3 of runs/x." in text
    assert "(needle.svg)" in text
    assert "Every depth is clear of chance up to 8 frames" in text
