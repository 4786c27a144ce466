"""launch/slurm as sbatch and srun start it: two processes that meet as Slurm's variables say."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.jobs.conftest import ROOT
from vjax.checkpoints import Checkpoints
from vjax.train.metrics import read_metrics

FLAGS = (
    "--config.mesh.data=2",
    "--config.eval.items_procedural=0",
    "--config.eval.items_scene=0",
)

# one node, two tasks; a signal goes to both
SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys

command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
step = os.environ | {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}
tasks = [
    subprocess.Popen(
        command,
        env=step | {"SLURM_NTASKS": "2", "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)},
    )
    for n in range(2)
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""

LOCAL = '#!/bin/sh\n[ "$1" = true ] && echo prepared\nexec "$@"\n'


def script(file: Path, text: str):
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(0o755)


def job_id() -> str:
    """Of a job whose coordinator's port, which JAX makes of it, is free."""
    for number in range(1, 4096):
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", 65535 - 4095 + number))
                return str(number)
            except OSError:
                continue
    raise AssertionError("no port is free")


@pytest.fixture
def submit(experiment, tmp_path):
    """submit(workdir): the job as a process."""
    script(tmp_path / "bin" / "srun", SRUN)
    script(tmp_path / "repository" / "launch" / "local", LOCAL)
    shutil.copy(ROOT / "launch" / "flags", tmp_path / "repository" / "launch")
    spooled = shutil.copy(ROOT / "launch" / "slurm", tmp_path / "slurm_script")  # as sbatch does
    started = []

    def call(workdir):
        job = subprocess.Popen(
            ["bash", spooled, "python", "-m", "vjax.main", experiment, f"--workdir={workdir}",
             *FLAGS],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {
                "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
                "SLURM_SUBMIT_DIR": str(tmp_path / "repository"), "SLURM_JOB_ID": job_id(),
            },
        )  # fmt: skip
        started.append(job)
        return job

    yield call
    for job in started:
        if job.poll() is None:
            job.terminate()
            job.wait(300)


def compare(workdir, finished):
    losses = [
        [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (workdir, finished)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_two_tasks_of_a_slurm_job_train_together(submit, finished, tmp_path):
    workdir = tmp_path / "run"
    job = submit(workdir)
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 0, said
    assert said.startswith("prepared\n")
    assert (workdir / "log-1.txt").exists()  # what the second process has to say
    compare(workdir, finished)


@pytest.mark.slow
def test_a_job_whose_time_is_up_stops_and_goes_on_when_submitted_again(submit, finished, tmp_path):
    workdir = tmp_path / "run"
    job = submit(workdir)
    while job.poll() is None and not list(workdir.glob("checkpoints/[0-9]*/_CHECKPOINT_METADATA")):
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 128 + signal.SIGTERM, said
    stopped = [int(step) for step in re.findall(r"stopped by signal 15 after step (\d+)", said)]
    assert len(stopped) == 2 and stopped[0] == stopped[1], said
    assert Checkpoints(workdir / "checkpoints").latest_step() == stopped[0]

    job = submit(workdir)
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 0, said
    compare(workdir, finished)
