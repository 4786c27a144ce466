"""Training on conversation files: the whole job, killed and resumed; what is wrong with rows."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.data import mixed
from tests.jobs.conftest import DYING, ROOT, losses
from tests.video.shared_memory import Named
from vjax.checkpoints import Checkpoints
from vjax.data.examples import Examples
from vjax.jobs import _model, _rows
from vjax.train.metrics import read_metrics
from vjax.video.reader import Reader

STEPS = 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    mixed.write_files(folder)
    mixed.write_rows(folder, mixed.rows(60))
    return folder


def flags_of(folder, *more):
    return (
        "--config.train.questions=rows",
        f"--config.data.mixture=({str(folder / 'rows.jsonl')!r},)",
        "--config.data.row_tokens=256",
        "--config.data.window=24",
        "--config.data.buckets=2",
        "--config.data.workers=1",
        "--config.sampling.kind=segments",
        "--config.sampling.frames=3",
        "--config.eval.items_rows=6",
        f"--config.train.steps={STEPS}",
        "--config.train.batch_size=2",
        *more,
    )


@pytest.fixture(scope="module")
def flags(files):
    return flags_of(files)


@pytest.fixture(scope="module")
def whole(run, flags, tmp_path_factory):
    """The workdir of a run that was not interrupted; only to be read."""
    workdir = tmp_path_factory.mktemp("runs") / "rows"
    run(workdir, *flags)
    return workdir


@pytest.mark.smoke
def test_a_run_on_rows_leaves_what_it_promises(whole, run, flags, capsys):
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    told = rows[-1]
    assert told["data_feeds"] > 0
    assert told["model_wants"] > 0
    assert told["holes"] == 0
    held = json.loads((whole / "results.json").read_text())["rows"]["heldout"]
    assert held["samples"] == 6
    assert held["loss_after"] < held["loss"]
    assert not (whole / "left_out.jsonl").exists()
    form = "pictures are squares of 16 pixels, proportions not kept (resize swscale); a video is "
    assert form + "its frames, each set apart" in (whole / "log.txt").read_text()
    capsys.readouterr()
    run(whole, *flags)
    assert "held-out rows" in capsys.readouterr().out


def spy(monkeypatch):
    """Numbers of the samples whose pixels are asked for in this process."""
    seen, encode = [], Examples.encode

    def spying(self, number, epoch):
        if epoch is not None:
            seen.append(number)
        return encode(self, number, epoch)

    monkeypatch.setattr(Examples, "encode", spying)
    return seen


def marked(mark):
    """Processes that were started with this mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def dies(experiment, workdir, step, flags):
    """Runs the job until SIGKILL in a step's place; nothing of it may be left."""
    mark = uuid.uuid4().hex
    memory = Named()
    arguments = [str(int(signal.SIGKILL)), str(step), str(workdir), experiment, *flags]
    done = subprocess.run(
        [sys.executable, "-c", DYING, *arguments],
        cwd=ROOT,
        env=os.environ | memory.env | {"VJAX_TEST": mark},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    end = time.monotonic() + 20
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert not marked(mark)
    assert not memory.left()


def check_killed(monkeypatch, whole, experiment, run, flags, workdir, step, processes):
    more = (f"--config.data.processes={processes}", "--config.checkpoint.every=2")
    dies(experiment, workdir, step, (*flags, *more))
    saved = Checkpoints(workdir / "checkpoints").latest_step() or 0
    seen = spy(monkeypatch)
    made = []
    make = _rows.make
    monkeypatch.setattr(_rows, "make", lambda *args: made.append(make(*args)) or made[0])
    run(workdir, *flags, "--config.data.read_threads=3")
    assert losses(workdir) == losses(whole), f"killed in step {step}"
    planned = [n for i in range(saved, STEPS) for row in made[0].plan.batch(i).rows for n in row]
    assert sorted(seen) == sorted(planned), f"killed in step {step}, resumed after {saved}"


@pytest.mark.parametrize("processes", [0, 1])
def test_killed_at_a_random_step_a_rerun_reads_on(
    monkeypatch, whole, experiment, run, flags, tmp_path, processes
):
    step = random.randrange(3, STEPS - 1)
    check_killed(monkeypatch, whole, experiment, run, flags, tmp_path / "killed", step, processes)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(20))
def test_killed_twenty_times(monkeypatch, whole, experiment, run, flags, tmp_path, case):
    step, processes = random.randrange(3, STEPS - 1), case % 3
    check_killed(monkeypatch, whole, experiment, run, flags, tmp_path / "killed", step, processes)


def fails(run, workdir, capsys, *flags):
    with pytest.raises(SystemExit) as ended:
        run(workdir, *flags)
    assert ended.value.code == 2
    return capsys.readouterr().err


def rewritten(files, tmp_path, change):
    """A copy of the files whose rows `change` has changed."""
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    rows = mixed.rows(20)
    change(rows, folder)
    mixed.write_rows(folder, rows)
    return flags_of(folder)


@pytest.fixture
def unloaded(monkeypatch):
    """No weights may be read."""

    def load(config):
        raise AssertionError("weights were read before the mistake was found")

    monkeypatch.setattr(_model, "load", load)


@pytest.mark.usefixtures("unloaded")
def test_a_bad_row_is_named_before_weights_are_read(run, files, tmp_path, capsys):
    flags = rewritten(files, tmp_path, lambda rows, _: rows[7]["messages"].pop())
    assert "rows.jsonl:8: turns are user; user and assistant must alternate" in fails(
        run, tmp_path / "run", capsys, *flags
    )


def test_a_bad_file_ends_the_run_or_its_rows_are_left_out(run, files, tmp_path, capsys):
    def spoil(rows, folder):
        (folder / "v3.mp4").write_bytes(b"no video")

    flags = rewritten(files, tmp_path, spoil)
    said = fails(run, tmp_path / "run", capsys, *flags)
    assert "1 of 8 files are bad" in said
    assert "NotAVideo: " in said
    assert "v3.mp4: " in said
    run(
        tmp_path / "skip", *flags, "--config.data.on_bad_clip=skip",
        "--config.data.max_bad_share=0.2", "--config.train.steps=2",
    )  # fmt: skip
    lines = (tmp_path / "skip" / "left_out.jsonl").read_text().splitlines()
    left = [json.loads(line) for line in lines]
    named = {n for n, row in enumerate(mixed.rows(20)) if "v3.mp4" in json.dumps(row)}
    assert {line["row"] for line in left} <= named
    assert left
    assert all("v3.mp4" in line["reason"] for line in left)
    assert all(line["name"].endswith(f"rows.jsonl:{line['row'] + 1}") for line in left)


@pytest.mark.usefixtures("unloaded")
def test_a_missing_file_is_named(run, files, tmp_path, capsys):
    flags = rewritten(files, tmp_path, lambda _, folder: (folder / "i0.png").unlink())
    said = fails(run, tmp_path / "run", capsys, *flags)
    assert "rows.jsonl:3 shows " in said
    assert "i0.png: No such file" in said


def test_frames_come_from_the_store_where_the_config_says_so(run, files, tmp_path, monkeypatch):
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    mixed.store_of(folder)
    read, seen = Reader.read, []

    def spying(self, source, *args, **options):
        seen.append(source.path.suffix)
        return read(self, source, *args, **options)

    monkeypatch.setattr(Reader, "read", spying)
    run(
        tmp_path / "run", *flags_of(folder), "--config.train.steps=2", "--config.data.stored",
        "--config.data.source=folder",
        f"--config.data.clips={folder}", f"--config.store.directory={folder / 'store'}",
    )  # fmt: skip
    assert seen
    assert set(seen) <= {".png", ".jpg"}


def test_a_store_that_was_not_written(run, files, tmp_path, capsys):
    flags = flags_of(
        files, "--config.data.stored", "--config.data.source=folder",
        f"--config.data.clips={files}", f"--config.store.directory={tmp_path}",
    )  # fmt: skip
    said = fails(run, tmp_path / "run", capsys, *flags)
    assert "no finished frame store" in said
    assert "--job=store writes it" in said


@pytest.mark.usefixtures("unloaded")
def test_no_mixture(run, tmp_path, capsys):
    said = fails(run, tmp_path / "run", capsys, "--config.train.questions=rows")
    assert "there are no rows to train on; name their file: --config.data.mixture=" in said


@pytest.mark.usefixtures("unloaded")
def test_no_mixture_file(run, tmp_path, capsys):
    said = fails(run, tmp_path / "run", capsys, *flags_of(tmp_path))
    assert f"data.mixture: {tmp_path / 'rows.jsonl'}: no such file" in said


def test_rows_of_text_alone(run, tmp_path):
    mixed.write_rows(tmp_path, mixed.rows(140)[6::7])
    run(tmp_path / "run", *flags_of(tmp_path, "--config.train.steps=2"))
    assert np.isfinite([row["loss"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]).all()
    held = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]["heldout"]
    assert held["samples"] > 0
    assert np.isfinite([held["loss"], held["loss_after"]]).all()


def check_lines(workdir):
    return [json.loads(line) for line in (workdir / "check.jsonl").read_text().splitlines()]


def test_check_goes_over_files_and_rows(run, files, tmp_path, capsys):
    run(tmp_path / "good", *flags_of(files), "--job=check")
    assert all(line["ok"] for line in check_lines(tmp_path / "good"))
    assert "8 of 8 files and 60 of 60 rows are usable" in capsys.readouterr().out

    def lengthen(rows, folder):
        rows[12]["messages"][0]["content"] = "<video>" + "Tell me what you see. " * 90

    flags = (*rewritten(files, tmp_path, lengthen), "--job=check", "--config.data.window=4")
    said = fails(run, tmp_path / "long", capsys, *flags)
    assert "1 rows do not fit; the first: " in said
    assert "rows.jsonl:13: " in said
    (bad,) = [line for line in check_lines(tmp_path / "long") if not line["ok"]]
    assert bad["path"].endswith("rows.jsonl:13")
    assert bad["error"] == "TooLong"
    run(tmp_path / "skip", *flags, "--config.data.on_long=skip")


def test_rows_hold_a_tenth_out_at_most():
    assert _rows._heldout([1000, 3000], 200) == [50, 150]
    assert _rows._heldout([20, 5], 200) == [2, 0]
    assert _rows._heldout([], 200) == []
    assert np.sum(_rows._heldout([100], 0)) == 0
