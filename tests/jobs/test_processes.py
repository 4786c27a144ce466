"""The job in two processes of four devices each, started as users start them; one is lost."""

import dataclasses
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.data import mixed
from tests.jobs.conftest import DYING, ROOT
from tests.jobs.test_rows import flags_of
from vjax.checkpoints import Checkpoints
from vjax.jobs import _model, _rows
from vjax.train.metrics import read_metrics

MESH = ("--config.mesh.data=2", "--config.mesh.fsdp=4")
FEW = ("--config.eval.items_procedural=0", "--config.eval.items_scene=0")
HEARTBEAT = 10


@pytest.fixture(scope="module")
def launch(experiment):
    """launch(workdir, flag, ..., command=...): exit code and what two processes said together."""

    def call(workdir, *flags, command=None, devices=4):
        command = command or [sys.executable, "-m", "vjax.main", f"--workdir={workdir}"]
        done = subprocess.run(
            [sys.executable, ROOT / "launch" / "processes", "--num_processes=2",
             f"--heartbeat_timeout={HEARTBEAT}", *command, experiment, *flags],
            cwd=ROOT, capture_output=True, text=True, timeout=500,
            env=os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.fixture(scope="module")
def dying(launch):
    """As `launch`, but process 1 gets the signal in place of the step."""

    def call(number, step, workdir, *flags):
        command = [sys.executable, "-c", DYING, str(int(number)), str(step), str(workdir)]
        return launch(workdir, *flags, command=command)

    return call


def started(*words):
    """The exit code of launch/processes, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "processes", *words], capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num_processes=0"], "--num_processes=0: at least 1"),
        (["--num_processes=2", "--here=0"], "--here=0: at least 1"),
        (["--num_processes=2", "--first=-1"], "--first=-1: at least 0"),
        (["--num_processes=2", "--heartbeat=5"], "unrecognized arguments: --heartbeat=5"),
    ],
)
def test_flags_that_start_nothing_are_refused(flags, said):
    code, stderr = started(*flags, "echo", "ran")
    assert code == 2 and stderr.endswith(f"processes: error: {said}\n")


def test_a_command_that_there_is_not_is_said_in_a_line():
    wanted = "launch/processes: nosuch does not start: No such file or directory\n"
    assert started("--num_processes=2", "nosuch") == (127, wanted)


def test_processes_before_one_that_does_not_start_are_not_left_behind(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("processes", str(ROOT / "launch" / "processes"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("processes", loader))
    loader.exec_module(module)
    begun = []

    def child(number, command):
        if number == 1:
            raise PermissionError(13, "Permission denied")
        begun.append(subprocess.Popen(["sleep", "600"]))
        return types.SimpleNamespace(process=begun[0])

    monkeypatch.setattr(module, "Child", child)
    monkeypatch.setattr(sys, "argv", ["processes", "--num_processes=2", "sleep"])
    assert module.main() == 126
    assert begun[0].wait(60) == -signal.SIGKILL


def loss_of(workdir):
    return [row["loss"] for row in read_metrics(workdir / "metrics.jsonl")]


def test_a_run_goes_on_in_other_numbers_of_processes(dying, run, stop_at, finished, tmp_path):
    workdir = tmp_path / "run"
    flags = (*MESH, *FEW)
    stop_at(1)
    with pytest.raises(SystemExit):
        run(workdir, *FEW)  # one device

    code, said = dying(signal.SIGKILL, 4, workdir, *flags)
    assert code == 128 + signal.SIGKILL, said
    assert "process 1 was lost: killed by SIGKILL" in said
    assert "process 0 ended because of it" in said
    assert "does not end" not in said
    assert "the same command; a run goes on from its newest checkpoint" in said
    assert Checkpoints(workdir / "checkpoints").latest_step() == 4

    # SIGTERM to process 1 alone: all save after the same step
    code, said = dying(signal.SIGTERM, 3, workdir, *flags)
    assert code == 128 + signal.SIGTERM, said
    stopped = [int(step) for step in re.findall(r"stopped by signal 15 after step (\d+)", said)]
    assert len(stopped) == 2, said
    assert stopped[0] == stopped[1] == Checkpoints(workdir / "checkpoints").latest_step() > 7
    assert not list(workdir.glob("checkpoints/*tmp*"))

    run(workdir, *flags)  # one process of eight devices
    np.testing.assert_allclose(loss_of(workdir)[:9], loss_of(finished)[:9], rtol=1e-5)
    np.testing.assert_allclose(loss_of(workdir), loss_of(finished), rtol=1e-3)


def test_an_error_of_the_user_is_said_once_by_each_and_explained_by_nobody(launch, tmp_path):
    code, said = launch(tmp_path / "run", "--config.mesh.data=2")
    assert code == 2
    assert "takes 2 of 8 devices, and 2 processes take all of theirs" in said
    assert "launch/processes:" not in said


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed(dying, tmp_path):
    code, said = dying(signal.SIGSTOP, 5, tmp_path / "run", *MESH, *FEW)
    assert code == 128 + signal.SIGABRT, said  # the runtime ends the other in C++
    assert f"process 1 was lost: no sign of life in {HEARTBEAT} s" in said
    assert "process 0 does not end" not in said


def test_rows_in_two_processes_of_which_one_may_see_text_alone(
    launch, run, parsed, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("rows")
    mixed.write_files(folder)
    mixed.write_rows(folder, mixed.rows(60))
    flags = flags_of(folder, "--config.mesh.data=2")
    one, two = folder / "one", folder / "two"
    run(one, *flags)
    code, said = launch(two, *flags, devices=1)
    assert code == 0, said
    np.testing.assert_allclose(loss_of(two), loss_of(one), rtol=1e-4)
    made = _rows.make(parsed(one, *flags).config, one, _model.interface(parsed(one, *flags).config))
    halves = [dataclasses.replace(made, blocks=(n,), of=2) for n in range(2)]
    shown = np.array([[(half(i)["vision_index"] >= 0).any() for half in halves] for i in range(10)])
    assert (shown[:, 0] != shown[:, 1]).any()  # a text-only host beside one with pictures


@pytest.mark.slow
def test_needles_are_asked_by_two_processes(launch, run, tmp_path):
    flags = ("--job=needle", "--config.needle.lengths=(2,)", "--config.needle.depths=(0.5,)",
             "--config.needle.fps=3.0")  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, *flags)
    for _ in range(2):  # asked, and then known
        code, said = launch(two, *flags, "--config.mesh.fsdp=2", devices=1)
        assert code == 0, said
    mine, theirs = (
        json.loads((folder / "needle" / "needle.json").read_text())["answers"]
        for folder in (one, two)
    )
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a["scores"], b["scores"], rtol=1e-4)
    answers = (two / "needle" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == len({json.loads(line)["key"] for line in answers}) == 14 + 1


@pytest.mark.slow
def test_features_that_two_processes_keep(launch, tmp_path):
    """Each computes and writes its own; losses are those of two processes without."""
    mesh = [f"--config.mesh.{axis}=2" for axis in ("data", "context", "tensor")]
    flags = ("--config.lora.targets=decoder/layers/mlp/down", "--config.model.tower_batch=3",
             "--config.train.steps=4", *mesh, *FEW)  # fmt: skip
    kept = f"--config.model.vision_cache={tmp_path / 'features'}"
    for name, more in (("without", ()), ("cold", (kept,)), ("warm", (kept,))):
        code, said = launch(tmp_path / name, *flags, *more)
        assert code == 0, said
        assert loss_of(tmp_path / name) == loss_of(tmp_path / "without"), name
        assert (", of which 0 went through" in said) == (name == "warm"), said
    assert len(list((tmp_path / "features").glob("*.keys"))) >= 2
