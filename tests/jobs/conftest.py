"""One cache with a made corpus and compiled programs, a tiny checkpoint, and runs over them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.data import made_up
from tests.models import tiny
from vjax import main
from vjax.interop import save_model
from vjax.prompts import tokenizer
from vjax.train.metrics import read_metrics

ROOT = Path(main.__file__).parents[1]

EXPERIMENT = """
from vjax.config import defaults

def get_config(arg=""):
    config = defaults()
    config.model.path = {model!r}
    config.data.source = "procedural"
    config.data.procedural_clips = 6
    config.data.procedural_eval_clips = 3
    config.data.store_size = 32
    config.data.workers = 0
    config.data.read_threads = 1
    config.fragments.mcq_share = 1.0  # one number of candidates: one program to compile
    config.eval.mcq_share = 1.0
    config.lora.rank = 2
    config.lora.targets = "(tower|decoder)/layers/attn/q|decoder/layers/mlp/down|projector/fc1"
    config.optim.lr = 0.03
    config.train.steps = 20
    config.train.batch_size = 4
    config.train.log_every = 3
    config.checkpoint.every = 4
    config.eval.items_procedural = 3
    config.eval.items_scene = 6
    config.eval.batch_size = 4
    config.eval.bootstrap = 20
    return config
"""


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Stands in for the user's cache, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("home")
    before = jax.config.jax_compilation_cache_dir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        jax.config.update("jax_compilation_cache_dir", str(folder / "vjax" / "compiled"))
        compilation_cache.reset_cache()  # it looks for its folder once
        yield folder
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def checkpoint(home):
    """A folder with a random model of two layers."""
    folder = home / "model"
    save_model(folder, tiny.model(made_up.SPEC), dtype="float32")
    made_up.small_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(tokenizer.TINY_TEMPLATE)
    (folder / "video_spec.json").write_text(json.dumps(dataclasses.asdict(made_up.VIDEO)))
    return folder


@pytest.fixture(scope="session")
def experiment(home, checkpoint):
    file = home / "toy.py"
    file.write_text(EXPERIMENT.format(model=str(checkpoint)))
    return f"--config={file}"


@pytest.fixture(scope="session")
def parsed(experiment):
    """parsed(workdir, flag, ...): what the command line asks for."""
    return lambda workdir, *flags: main.parse(["vjax", experiment, f"--workdir={workdir}", *flags])


@pytest.fixture(scope="session")
def run(parsed):
    """run(workdir, flag, ...) in this process; exits as the program does."""
    return lambda workdir, *flags: main._plainly(main.main)(parsed(workdir, *flags))


@pytest.fixture(scope="session")
def finished(run, tmp_path_factory):
    """The workdir of an uninterrupted run of 20 steps; only to be read."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    run(workdir)
    return workdir


DYING = """
import os, pathlib, runpy, sys, time
from vjax.data import device
from vjax.train import loop

number, step, workdir = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
sys.argv = ["vjax.main", *sys.argv[4:], f"--workdir={workdir}"]
put, fit, done = device.put, loop.fit, None

def steps(*args, **options):
    global done
    done = 0  # what is put before is no step
    return fit(*args, **options)

def dying(*args, **options):
    global done
    if done == step and "--process_id=0" not in sys.argv:
        while not list(workdir.glob("checkpoints/[0-9]*/_CHECKPOINT_METADATA")):
            time.sleep(0.02)  # saving goes on in the background
        os.kill(os.getpid(), number)
    if done is not None:
        done += 1
    return put(*args, **options)

device.put, loop.fit = dying, steps
runpy.run_module("vjax.main", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="session")
def killed(experiment):
    """killed(workdir, step, flag, ...): a process that dies of SIGKILL in that step's place."""

    def call(workdir, step, *flags):
        done = subprocess.run(
            [sys.executable, "-c", DYING, str(int(signal.SIGKILL)), str(step), str(workdir),
             experiment, *flags],
            cwd=ROOT, env=os.environ, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr

    return call


@pytest.fixture
def stop_at(monkeypatch):
    """stop_at(step, number): a signal to this process while it takes that step (from 0)."""
    from vjax.data import device

    put = device.put

    def arm(step, number=signal.SIGTERM):
        seen = []

        def stopping(*args, **options):
            if len(seen) == step:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            seen.append(1)
            return put(*args, **options)

        monkeypatch.setattr(device, "put", stopping)

    yield arm


def losses(workdir) -> list[str]:
    """A line of step, loss and gradient norm for every row of metrics.jsonl, as written."""
    rows = read_metrics(workdir / "metrics.jsonl")
    return [json.dumps([row["step"], row["loss"], row["grad_norm"], row["tokens"]]) for row in rows]
