"""launch/slurm as sbatch and srun start it: two processes that meet as Slurm's variables say."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.jobs.conftest import ROOT
from vjax.train.metrics import read_metrics

FLAGS = (
    "--config.mesh.data=2",
    "--config.eval.items_procedural=0",
    "--config.eval.items_scene=0",
)

# one node, two tasks
SRUN = """#!/usr/bin/env python3
import os, subprocess, sys

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


def test_two_tasks_of_a_slurm_job_train_together(experiment, finished, tmp_path):
    script(tmp_path / "bin" / "srun", SRUN)
    script(tmp_path / "repository" / "launch" / "local", LOCAL)
    shutil.copy(ROOT / "launch" / "flags", tmp_path / "repository" / "launch")
    spooled = shutil.copy(ROOT / "launch" / "slurm", tmp_path / "slurm_script")  # as sbatch does
    workdir = tmp_path / "run"
    done = subprocess.run(
        ["bash", spooled, "python", "-m", "vjax.main", experiment, f"--workdir={workdir}", *FLAGS],
        cwd="/", capture_output=True, text=True, timeout=300,
        env=os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
            "SLURM_SUBMIT_DIR": str(tmp_path / "repository"), "SLURM_JOB_ID": job_id(),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("prepared\n")
    assert (workdir / "log-1.txt").exists()  # what the second process has to say
    losses = [
        [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (workdir, finished)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)
