"""The needle job: grid, control, resuming, refusals; and a model that learns to find needles."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vjax import main
from vjax.config import ConfigError
from vjax.data import needles
from vjax.data.samples import read_row
from vjax.jobs import _model
from vjax.jobs import needle as job
from vjax.video.images import load, read_list

GRID = (
    "--job=needle",
    "--config.needle.lengths=(2,5)",
    "--config.needle.depths=(0.0,0.5,1.0)",
    "--config.needle.fps=3.0",
)
ANSWERS = 2 * (3 + 1) * needles.CARDS  # with those of the controls,
ASKED = 2 * (3 * needles.CARDS + 1)  # which are one question, asked once


def results(workdir):
    return json.loads((workdir / "needle" / "needle.json").read_text())


class Oracle:
    """In the place of `ask`: finds the card among the pictures, and guesses where there is none.

    Attributes:
        asked: every prompt, in order.
        left: prompts until it is interrupted; None = never.
    """

    def __init__(self, cards):
        self.images = {card.image.tobytes(): card.answer for card in cards}
        self.asked, self.left = [], None

    def __call__(self, prompts, *args, **options):
        if self.left is not None:
            self.left -= len(prompts)
            if self.left < 0:
                raise KeyboardInterrupt
        self.asked += prompts
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt):
        found = [self.images.get(image.tobytes()) for image in prompt.images]
        said = next(filter(None, found), prompt.candidates[0])
        return np.array([float(text == said) for text in prompt.candidates]), said


@pytest.fixture
def oracle(monkeypatch, opened):
    made = Oracle(needles.cards(0, 16))
    monkeypatch.setattr(job, "ask", made)
    return made


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def opened(monkeypatch, kept):
    """A model is loaded once: what tests of this file ask of it is not in its weights."""
    load = _model.load

    def loaded(config):
        if config.model.path not in kept:
            kept[config.model.path] = load(config)
        return kept[config.model.path]

    monkeypatch.setattr(_model, "load", loaded)


def test_a_model_that_finds_cards_is_right_wherever_one_is(run, oracle, tmp_path, capsys):
    run(tmp_path / "run", *GRID)
    got = results(tmp_path / "run")
    assert (got["lengths"], got["depths"]) == ([2, 5], [0.0, 0.5, 1.0])
    assert len(got["cells"]) == 6
    assert {(cell["n"], cell["right"]) for cell in got["cells"]} == {(needles.CARDS, needles.CARDS)}
    # without a card it always says the same
    assert {cell["right"] for cell in got["controls"]} == {2}
    assert got["found"]["chance"] == pytest.approx(1 / len(needles.INKS))
    assert len(got["answers"]) == ANSWERS
    assert len(oracle.asked) == ASKED
    assert {len(prompt.images) for prompt in oracle.asked} == {2, 3, 5, 6}
    said = capsys.readouterr().out
    assert "no needle" in said
    assert "84 of 84 questions were answered right" in said
    for name in ("needle.html", "needle.svg", "needle.md"):
        assert (tmp_path / "run" / "needle" / name).exists()


def test_cards_lie_at_their_depth_and_frames_keep_their_order(run, oracle, tmp_path):
    run(tmp_path / "run", *GRID)
    by_length = {}
    for prompt in oracle.asked:
        shown = [oracle.images.get(image.tobytes()) for image in prompt.images]
        there = [n for n, card in enumerate(shown) if card]
        rest = [image for image, card in zip(prompt.images, shown, strict=True) if not card]
        by_length.setdefault(len(rest), []).append((tuple(there), rest))
    for length, places in ((2, (0, 1, 2)), (5, (0, 3, 5))):
        group = [there for there, _ in by_length[length][:4]]
        assert group == [*((n,) for n in places), ()]
        first = by_length[length][0][1]
        for _, rest in by_length[length]:
            assert all((a == b).all() for a, b in zip(rest, first, strict=True))
    short, long = by_length[2][0][1], by_length[5][0][1]
    assert all((a == b).all() for a, b in zip(short, long, strict=False))


def test_a_rerun_goes_on_and_a_larger_grid_asks_only_what_is_new(run, oracle, tmp_path):
    workdir = tmp_path / "run"
    oracle.left = 50
    with pytest.raises(KeyboardInterrupt):
        run(workdir, *GRID)
    answers = workdir / "needle" / "answers.jsonl"
    kept = len(answers.read_text().splitlines())
    assert 0 < kept <= 50
    assert kept == len(oracle.asked)
    with answers.open("a") as file:
        file.write('{"key": "half a li')  # as a kill leaves it
    oracle.left = None
    run(workdir, *GRID)
    assert len(oracle.asked) == ASKED
    whole = results(workdir)
    run(tmp_path / "other", *GRID)
    other = results(tmp_path / "other")
    del whole["config"], other["config"]
    assert whole["answers"] == other["answers"]
    assert whole["cells"] == other["cells"]
    oracle.asked.clear()
    run(workdir, *GRID)
    assert not oracle.asked
    run(workdir, *GRID, "--config.needle.depths=(0.0,0.5,0.8,1.0)")
    # at 2 frames a depth of 0.8 is that of 1.0: the same question
    assert len(oracle.asked) == needles.CARDS
    oracle.asked.clear()
    run(workdir, *GRID, "--fresh")
    assert len(oracle.asked) == ASKED


def test_another_seed_draws_other_cards(run, oracle, tmp_path):
    oracle.images |= {card.image.tobytes(): card.answer for card in needles.cards(1, 16)}
    run(tmp_path / "run", *GRID)
    oracle.asked.clear()
    run(tmp_path / "run", *GRID, "--config.needle.seed=1")
    assert len(oracle.asked) == ASKED - 2  # the first haystack is the same, and so its controls
    assert results(tmp_path / "run")["found"]["accuracy"] == 1


def test_another_grid_is_asked_of_the_same_run(experiment):
    def workdir(*flags):
        return main.parse(["vjax", experiment, *flags]).workdir

    other = ("--config.needle.lengths=(3,)", "--config.needle.haystacks=3")
    assert workdir("--job=needle", *other) == workdir("--job=needle") == workdir()
    assert workdir("--job=needle", "--config.seed=3") != workdir()


def test_the_page_says_what_made_it(run, oracle, tmp_path, capsys):
    run(tmp_path / "run", *GRID)
    other = ("--config.needle.lengths=(1,)", "--config.needle.depths=(0.5,)")
    run(tmp_path / "run", "--job=needle", "--config.needle.fps=3.0", *other)
    assert "14 needles in 1 haystack of 1 frame, at 1 depth " in capsys.readouterr().out
    page = (tmp_path / "run" / "needle" / "needle.md").read_text()
    assert f"--job=needle --workdir={tmp_path / 'run'} '--config.needle.lengths=(1,)'" in page
    assert "model, as it is." in page


def test_several_haystacks(run, oracle, tmp_path):
    run(tmp_path / "run", *GRID, "--config.needle.haystacks=2")
    got = results(tmp_path / "run")
    assert {cell["n"] for cell in got["cells"]} == {2 * needles.CARDS}
    assert {one["haystack"] for one in got["answers"]} == {0, 1}


def test_needles_of_a_file(run, opened, tmp_path, monkeypatch, capsys):
    image = np.full((30, 40, 3), (0, 200, 0), np.uint8)
    Image.fromarray(image).save(tmp_path / "green.png")
    common = {"image": "green.png", "question": "What colour?"}
    rows = [
        common | {"id": "letter", "options": ["red", "green"], "answer": "green"},
        common | {"id": "text", "answer": "green"},
    ]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    told = {"A": 0, "B": 1}
    monkeypatch.setattr(
        job,
        "ask",
        lambda prompts, *_, **__: [
            (np.array([float(told[c]) for c in p.candidates]), "It is green.") for p in prompts
        ],
    )
    run(tmp_path / "run", *GRID, f"--config.needle.file={tmp_path / 'mine.json'}")
    got = results(tmp_path / "run")
    assert got["needles"] == {"letter": {"n": 6, "right": 6}, "text": {"n": 6, "right": 0}}
    assert got["control"]["right"] == 2  # always B
    assert "warning: 2 answers a cell" in capsys.readouterr().out
    assert {one["said"] for one in got["answers"] if one["needle"] == "text"} == {None}


def test_the_job_asks_the_model_it_is_given(run, opened, tmp_path, capsys):
    grid = ("--config.needle.lengths=(2,)", "--config.needle.depths=(0.5,)")
    run(tmp_path / "run", "--job=needle", *grid)
    got = results(tmp_path / "run")
    assert got["found"]["n"] == needles.CARDS
    assert all(len(one["scores"]) == len(needles.INKS) for one in got["answers"])
    assert "as it is: 14 needles" in capsys.readouterr().out
    assert len((tmp_path / "run" / "needle" / "needle.html").read_text()) < 3_000_000


# ---- refusals


def refused(run, capsys, workdir, *flags):
    with pytest.raises(SystemExit) as found:
        run(workdir, *GRID, *flags)
    assert found.value.code == 2
    return capsys.readouterr().err


def test_more_frames_than_there_are(run, oracle, tmp_path, capsys):
    said = refused(run, capsys, tmp_path / "run", "--config.needle.lengths=(2,500)")
    assert "a haystack of 500 frames: the clips have " in said
    assert "needle.fps=3" in said
    assert not oracle.asked


def test_more_tokens_than_the_model_has_positions(run, oracle, checkpoint, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 60
    (folder / "config.json").write_text(json.dumps(config))
    path = f"--config.model.path={folder}"
    said = refused(run, capsys, tmp_path / "run", path)
    assert "needle.lengths: 5 frames are " in said
    assert "has 60 positions (max_position_embeddings)" in said
    assert not oracle.asked
    run(tmp_path / "run", *GRID, path, "--config.needle.beyond=True")
    assert len(oracle.asked) == ASKED


@pytest.mark.parametrize("line", ['{"key": "a", "sco', '{"key": "a", "generated": "b"}', "[]"])
def test_a_damaged_line_of_answers_is_named(run, oracle, tmp_path, capsys, line):
    run(tmp_path / "run", *GRID)
    file = tmp_path / "run" / "needle" / "answers.jsonl"
    first, _, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, line, *rest, ""]))
    said = refused(run, capsys, tmp_path / "run")
    assert f"{file}:2: no answer" in said
    assert "--fresh" in said


def test_a_bad_file_of_needles(run, oracle, tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text('{"image": "a.png", "question": "?", "answer": "b"}\n')
    said = refused(run, capsys, tmp_path / "run", f"--config.needle.file={tmp_path / 'mine.jsonl'}")
    assert "needle.file: " in said
    assert "mine.jsonl:1: " in said
    assert "a.png: there is no such image" in said


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("lengths=(0,)", "needle.lengths are numbers of frames"),
        ("lengths=()", "needle.lengths are numbers of frames"),
        ("depths=(0.5,1.5)", "needle.depths are from 0 to 1"),
        ("depths=()", "needle.depths are from 0 to 1"),
    ],
)
def test_a_grid_that_is_none(parsed, tmp_path, flag, said):
    with pytest.raises(ConfigError, match=said):
        parsed(tmp_path / "run", "--job=needle", f"--config.needle.{flag}")


# ---- learning it


def test_rows_hide_a_needle_in_neighbouring_frames(run, tmp_path):
    flags = ("--job=needle_rows", "--config.needle.rows=12", "--config.needle.trained=4")
    flags += ("--config.needle.fps=3.0",)
    for name in ("one", "two"):
        run(tmp_path / name, *flags)
    files = [(tmp_path / name / "rows.jsonl").read_text() for name in ("one", "two")]
    assert files[0] == files[1]
    lengths = set()
    for n, line in enumerate(files[0].splitlines()):
        sample = read_row(json.loads(line), f"rows:{n}", tmp_path / "one")
        (turn,) = sample.turns
        video, question = turn.asked
        assert question == needles.QUESTION
        names, _ = read_list(video.path)
        hidden = [name for name in names if "needles" in name]
        numbers = [int(Path(name).stem) for name in names if "frames" in name]
        assert len(hidden) == 1
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        lengths.add(len(numbers))
        assert turn.answer in needles.INKS
        assert load(video.path.parent / hidden[0]).shape == (16, 16, 3)
    assert lengths <= {1, 2, 3, 4}
    assert len(lengths) > 1


def test_rows_of_another_run_stay(run, tmp_path, capsys):
    flags = ("--job=needle_rows", "--config.needle.rows=2", "--config.needle.trained=1")
    run(tmp_path / "run", *flags)
    before = (tmp_path / "run" / "rows.jsonl").read_text()
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *flags, "--config.needle.seed=1")
    assert "holds a run with another config:\n  needle.seed: 0 -> 1" in capsys.readouterr().err
    assert (tmp_path / "run" / "rows.jsonl").read_text() == before


def test_rows_need_a_length(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "run", "--job=needle_rows")
    assert "needle.trained" in capsys.readouterr().err


@pytest.mark.slow
def test_the_miniature_learns_to_find_needles(home, tmp_path, monkeypatch):
    """The commands of docs/needle.md, with one haystack in the place of two."""
    monkeypatch.chdir(tmp_path)
    file = Path(main.__file__).parents[1] / "experiments" / "needle.py"

    def call(*flags):
        main._plainly(main.main)(main.parse(["vjax", f"--config={file}", *flags]))

    call("--job=needle_rows", "--workdir=runs/needle-rows")
    call()
    call("--job=needle", "--config.needle.haystacks=1")
    got = results(tmp_path / "runs" / "needle-tiny")
    assert got["model"] == "step 80 of runs/needle-tiny"
    known = [cell for cell in got["cells"] if cell["length"] <= 16]
    assert min(cell["accuracy"] for cell in known) >= 0.8
    assert all(cell["low"] > cell["chance"] for cell in known)
    assert got["control"]["low"] <= got["control"]["chance"]
    beyond = [cell for cell in got["cells"] if cell["length"] == 32]
    assert sum(cell["right"] for cell in beyond) / sum(cell["n"] for cell in beyond) > 0.5
