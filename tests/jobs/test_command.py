"""Commands that pages show: what they are parsed to is what was run."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from vjax import main
from vjax.jobs import _command

EXPERIMENT = """
from vjax.config import defaults
def get_config(arg="tiny"):
    config = defaults()
    config.preset = arg
    config.lora.rank = {"tiny": 8, "big": 64}[arg]
    return config
"""

pytestmark = pytest.mark.smoke


@pytest.fixture
def parse(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "toy.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return lambda *args: main.parse(["vjax", *args])


def command(run):
    words = shlex.split(_command.command(run.config, run.job, run.workdir))
    assert words[:4] == ["./launch/local", "python", "-m", "vjax.main"]
    return words[4:]


@pytest.mark.parametrize(
    "flags",
    [
        ["--config=experiments/toy.py:big"],
        ["--config=experiments/toy.py:tiny", "--job=needle"],
        ["--config=experiments/toy.py:tiny", "--job=needle_rows", "--workdir=rows"],
        ["--config=experiments/toy.py:tiny", "--config.lora.rank=9"],
        ["--config=experiments/toy.py:tiny", "--job=needle", "--config.needle.lengths=(1, 4)"],
    ],
)
def test_flags_that_say_something_are_shown(parse, flags):
    assert command(parse(*flags)) == flags


@pytest.mark.parametrize("workdir", [[], ["--workdir=my runs"]])
def test_a_command_gives_the_same_run(parse, workdir):
    rows = "--config.data.mixture=({'path': 'a b.jsonl', 'weight': 2},)"
    run = parse(
        "--config=experiments/toy.py", "--job=needle", "--config.train.questions=rows", rows,
        "--config.needle.beyond=True", "--config.data.clips=it's", "--config.eval.seed=3", *workdir,
    )  # fmt: skip
    assert parse(*command(run)) == run


@pytest.mark.parametrize("name", ["elsewhere", "toy"])
def test_without_its_experiment_a_run_is_named(parse, name):
    base = parse("--config=experiments/toy.py", "--workdir=here")
    base = dataclasses.replace(base.config, name=name, preset="other")
    main.open_workdir(main.Run("train", base, Path("here"), False, {}))
    run = parse("--workdir=here", "--job=needle", "--config.needle.fps=2.0")
    assert command(run) == ["--job=needle", "--workdir=here", "--config.needle.fps=2.0"]
