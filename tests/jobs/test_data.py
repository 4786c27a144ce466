"""--job=data: what it shows of a batch, and that it finds one that is spoilt."""

import re
import shutil

import numpy as np
import pytest

from tests.data import mixed
from tests.evals.test_report import Page
from vjax import main
from vjax.console import UserError
from vjax.data import checks
from vjax.jobs import _model, data

ROWS = [
    {"id": "film", "video": "v0.mp4", "conversations": ["<video>\nWhat happens?", "A <b> falls."]},
    {"id": "both", "video": "v1.mp4", "image": "i0.png",
     "conversations": ["<video>and<image>", "It is red.", "And then?", "It stops."]},
    {"video": "v0.mp4", "conversations": ["<video>Tell me.", "It goes up."]},
    {"id": "text", "conversations": ["How many?", "Four of them."]},
    {"id": "again", "video": "v1.mp4", "conversations": ["<video>Tell me.", "A box goes down."]},
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of conversations, with its videos and images beside it."""
    folder = tmp_path_factory.mktemp("rows")
    mixed.write_files(folder)
    written = [
        row | {"conversations": [
            {"from": ("human", "gpt")[n % 2], "value": text}
            for n, text in enumerate(row["conversations"])
        ]}
        for row in ROWS
    ]  # fmt: skip
    return mixed.write_rows(folder, written)


@pytest.fixture(scope="module")
def bare(checkpoint, tmp_path_factory):
    """A checkpoint folder without weights."""
    folder = tmp_path_factory.mktemp("bare") / "model"
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def on_rows(rows, bare):
    """The flags of a run on the file of conversations."""
    return ("--job=data", f"--config.model.path={bare}", "--config.train.questions=rows",
            f"--config.data.mixture=({str(rows)!r},)", "--config.data.row_tokens=256",
            "--config.data.buckets=1", "--config.sampling.frames=3", "--config.train.batch_size=2",
            "--config.eval.items_rows=0")  # fmt: skip


@pytest.fixture(scope="module")
def shown(run, on_rows, tmp_path_factory):
    """The workdir after the job."""
    workdir = tmp_path_factory.mktemp("shown") / "run"
    run(workdir, *on_rows)
    return workdir


def text_of(workdir) -> str:
    return " ".join(Page(workdir / "batch.html").text.split())


@pytest.mark.smoke
def test_every_segment_is_there_with_its_source_positions_and_pictures(shown, rows):
    text = text_of(shown)
    for line, row in enumerate(ROWS, 1):
        name = f"{rows}:{line} ({row['id']})" if "id" in row else f"{rows}:{line} "
        assert name in text, name
    page = (shown / "batch.html").read_text()
    assert page.count("<article") == len(ROWS) and page.count("<figure>") == 4 * 3 + 1
    assert len(re.findall(r"\[4 tokens of picture \d+\]", text)) == 4 * 3 + 1
    lengths = [int(n) for n in re.findall(r"(\d+) tokens from", text)]
    assert [int(n) + 1 for n in re.findall(r"positions 0 to (\d+)", text)] == lengths


def test_what_is_marked_is_the_answers_and_their_ends(shown):
    page = (shown / "batch.html").read_text()
    marked = re.findall(r'<mark title="loss weight 1">(.*?)</mark>', page)
    answers = [text for row in ROWS for text in row["conversations"][1::2]]
    escaped = [text.replace("<", "&lt;").replace(">", "&gt;") for text in answers]
    assert sorted(marked) == sorted(f"{text}&lt;|end|&gt;" for text in escaped)


def test_the_page_needs_nothing_beside_it(shown):
    page = Page(shown / "batch.html")
    assert "script" not in page.tags and "link" not in page.tags
    targets = [value for name, value in page.attributes if name in ("src", "href")]
    ids = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert targets and all(t.startswith("data:image/jpeg;") or t in ids for t in targets)


def test_the_terminal_has_rows_arrays_and_every_check(run, on_rows, tmp_path, capsys):
    run(tmp_path / "run", *on_rows)
    said = capsys.readouterr().out
    assert "16 x 16 x 3" in said and re.search("^pictures +13 of ", said, re.MULTILINE)
    assert len(re.findall("^ok: ", said, re.MULTILINE)) == 10 and "FAILED" not in said


def test_another_batch_of_a_run_is_no_other_run(run, on_rows, tmp_path):
    run(tmp_path / "run", *on_rows)
    run(tmp_path / "run", *on_rows, "--config.data.show_batch=3")
    assert text_of(tmp_path / "run").startswith("toy-default, batch 3")


@pytest.mark.parametrize("questions", ["fragments", "scenes"])
def test_other_batches_are_shown_micro_batch_by_micro_batch(run, bare, questions, tmp_path, capsys):
    run(tmp_path / "run", "--job=data", f"--config.model.path={bare}",
        f"--config.train.questions={questions}", "--config.train.accumulate=2")  # fmt: skip
    said = capsys.readouterr().out
    assert "2 micro-batches of" in said and "FAILED" not in said
    assert checks.OWN not in said and "Micro-batch 1, row 0" in text_of(tmp_path / "run")


def test_weights_are_read_for_rehearsal_alone(parsed, bare, monkeypatch, tmp_path):
    """Without it the folders above have none; with it the base model is asked."""

    def load(config):
        raise UserError("weights are read")

    monkeypatch.setattr(_model, "load", load)
    with pytest.raises(UserError, match="weights are read"):
        main.main(parsed(tmp_path, "--job=data", "--config.rehearsal.share=0.5"))


# ---- a batch that is not as it was planned


@pytest.fixture(scope="module")
def made(parsed, on_rows, tmp_path_factory):
    """(what makes the batches, its first batch)."""
    workdir = tmp_path_factory.mktemp("made")
    config = parsed(workdir, *on_rows).config
    return data._batch(config, workdir, _model.interface(config), 0)


def test_a_hole_leaves_open_which_samples_the_others_of_its_row_are(
    run, on_rows, rows, made, monkeypatch, tmp_path
):
    batches, batch = made
    batch = {name: value.copy() for name, value in batch.items()}
    (row, *_), last = np.nonzero(batch["segment_ids"] > 1)[0], batch["segment_ids"].max(axis=1)
    hole = batch["segment_ids"][row] == last[row]
    slots = batch["vision_index"][row][hole] // 4
    batch["images"][slots[slots >= 0]] = 0
    for name, empty in (("segment_ids", 0), ("loss_weights", 0), ("tokens", 0),
                        ("vision_index", -1)):  # fmt: skip
        batch[name][row][hole] = empty
    monkeypatch.setattr(data, "_batch", lambda *_: (batches, batch))
    run(tmp_path / "run", *on_rows)
    text = text_of(tmp_path / "run")
    assert text.count(f"one of {rows}:") == last[row] - 1 > 0
    assert "some could not be read" in text


def renumbered(batch):
    batch["segment_ids"][batch["segment_ids"] == 1] = 9


def one_on(batch):
    batch["positions"] += 1


def unshifted(batch):
    batch["targets"][:] = batch["tokens"]
    batch["loss_weights"][batch["vision_index"] >= 0] = 0


def on_pictures(batch):
    before = np.roll(batch["vision_index"] >= 0, -1, axis=1)
    batch["loss_weights"][before] = 1


def on_padding(batch):
    batch["loss_weights"][batch["segment_ids"] == 0] = 1


def across(batch):
    batch["loss_weights"][0, (batch["segment_ids"][0] == 1).sum() - 1] = 1


def negative(batch):
    batch["loss_weights"][0, 0] = np.nan


def nothing_to_learn(batch):
    batch["loss_weights"][batch["segment_ids"] == 1] = 0


def text_as_picture(batch):
    row = np.flatnonzero((batch["segment_ids"] > 0).any(axis=1))[0]
    at = np.flatnonzero(batch["vision_index"][row] < 0)[0]
    batch["vision_index"][row, at] = len(batch["images"]) * 4


def other_rows_pictures(batch):
    """The rows' halves of the vision buffer change places, and so do what points at them."""
    half = len(batch["images"]) // 2
    batch["images"][:] = np.roll(batch["images"], half, axis=0)
    index = batch["vision_index"]
    index[:] = np.where(index < 0, index, (index + 4 * half) % (8 * half))


def twice(batch):
    index = batch["vision_index"]
    row = index.max(axis=1).argmax()
    slots = np.unique(index[row][index[row] >= 0] // 4)
    index[row][index[row] // 4 == slots[0]] += 4 * (slots[1] - slots[0])
    batch["images"][slots[0]] = 0


def turned(batch):
    """The tokens of each picture from its last to its first."""
    index = batch["vision_index"]
    index[:] = np.where(index < 0, index, index // 4 * 4 + 3 - index % 4)


def one_slot_on(batch):
    batch["images"][:] = np.roll(batch["images"], 1, axis=0)


def swapped(batch):
    batch["item"] += 1


SPOILT = [
    (renumbered, checks.NUMBERED), (one_on, checks.RESTARTED), (unshifted, checks.SHIFTED),
    (on_pictures, checks.MASKED), (on_padding, checks.MASKED), (across, checks.MASKED),
    (negative, checks.MASKED), (nothing_to_learn, checks.LEARNT),
    (text_as_picture, checks.POINTED), (other_rows_pictures, checks.OWN), (twice, checks.ONCE),
    (turned, checks.ONCE), (one_slot_on, checks.BLANK), (swapped, data.PLANNED),
]  # fmt: skip


@pytest.fixture
def said_of(run, on_rows, made, monkeypatch, tmp_path, capsys):
    """said_of(spoil): what the job prints of the batch once it is spoilt, and its exit."""

    def call(spoil):
        batches, batch = made
        batch = {name: value.copy() for name, value in batch.items()}
        spoil(batch)
        monkeypatch.setattr(data, "_batch", lambda *_: (batches, batch))
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path / "run", *on_rows)
        said = capsys.readouterr()
        assert stopped.value.code == 2 and "1 of 10 checks failed" in said.err, said
        assert (tmp_path / "run" / "batch.html").exists()
        return said.out

    return call


@pytest.mark.parametrize(("spoil", "check"), SPOILT)
def test_a_spoilt_batch_is_an_error_that_names_the_check_and_a_token(said_of, spoil, check):
    said = said_of(spoil)
    failed = re.findall("^FAILED: (.*)\n  (.*)$", said, re.MULTILINE)
    assert [name for name, _ in failed] == [check], said
    assert re.match("row [01]|slot", failed[0][1]), said


def test_rotary_positions_restart_too(said_of):
    def spoil(batch):
        batch["rope_positions"] = np.repeat(batch["positions"][..., None], 3, axis=2)
        batch["rope_positions"][..., 2] += batch["segment_ids"] > 1

    said = said_of(spoil)
    assert f"FAILED: {checks.RESTARTED}\n" in said and "rope_positions [0 0 1]" in said
