import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from vjax import main

SCRIPT = Path(main.__file__).parents[1] / "launch" / "sweep"
EXPERIMENT = "from vjax.config import defaults\ndef get_config(arg=''): return defaults()\n"
GRID = ["--config=toy.py", "--config.lora.rank=8,16", "--config.seed=0,1"]

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def sweep():
    loader = importlib.machinery.SourceFileLoader("sweep", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("sweep", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def runs(sweep, tmp_path, monkeypatch):
    """Replaces the runs by a stand-in that writes results.json; gives the list of calls."""
    (tmp_path / "toy.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "jobs", lambda: ["train"])
    calls = []

    def call(command):
        calls.append(command[3:])
        run = main.parse(["vjax", *command[3:]])
        if run.config.lora.rank == 13:
            return 3
        suite = {"counting": {"accuracy": run.config.lora.rank / 100}}
        run.workdir.mkdir(parents=True, exist_ok=True)
        (run.workdir / "results.json").write_text(
            json.dumps(
                {
                    "after": {"fragments/procedural": suite},
                    "paired": {"fragments/procedural": {"counting": {"delta": 0.05}}},
                }
            )
        )
        return 0

    monkeypatch.setattr(sweep.subprocess, "call", call)
    return calls


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("8,16,32", ["8", "16", "32"]),
        ("8", ["8"]),
        ("", [""]),
        ("('a','b')", ["('a','b')"]),
        ("('a',),('b','c')", ["('a',)", "('b','c')"]),
        ("'(,',\"x,y\"", ["'(,'", '"x,y"']),
        (r"a\,b,c", ["a,b", "c"]),
        ("q{1,2},k", ["q{1,2}", "k"]),
    ],
)
def test_values_split_at_commas_outside_brackets_and_quotes(sweep, text, parts):
    assert sweep.split(text) == parts


def test_cross_product_splits_config_flags_only(sweep):
    varied, runs = sweep.expand(["--config=a.py", "--config.x=1,2", "--config.y=3,4", "--note=5,6"])
    assert varied == ["--config.x", "--config.y"]
    assert [run[1:3] for run in runs] == [
        [f"--config.x={x}", f"--config.y={y}"] for x in (1, 2) for y in (3, 4)
    ]
    assert all(run[3] == "--note=5,6" for run in runs)


def test_every_run_has_its_workdir_and_a_row(sweep, runs, capsys):
    assert sweep.main(GRID) == 0
    assert len(runs) == 4
    assert len(list(Path("runs").iterdir())) == 4
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [row[:2] for row in rows] == [["8", "0"], ["8", "1"], ["16", "0"], ["16", "1"]]
    assert [row[3] for row in rows] == ["0.080", "0.080", "0.160", "0.160"]
    assert {row[4] for row in rows} == {"(+0.050)"}


def test_the_page_has_every_run_and_means_over_seeds(sweep, runs, tmp_path):
    assert sweep.main([*GRID, "--out=page.md", "--title=Ranks"]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Ranks\n") and "--config.lora.rank=8,16" in text
    assert "| 8 | 1 | 0.080 |" in text and "| 16 | 0 | 0.160 |" in text
    assert "| 16 | 0.160 (0.160, 0.160) |" in text


def test_finished_runs_are_not_run_again(sweep, runs):
    sweep.main(GRID)
    runs.clear()
    assert sweep.main([*GRID[:1], "--config.lora.rank=8,16,32", GRID[2]]) == 0
    assert [args[1] for args in runs] == ["--config.lora.rank=32"] * 2


def test_a_failing_run_does_not_stop_the_others(sweep, runs, capsys):
    assert sweep.main(["--config=toy.py", "--config.lora.rank=13,16"]) == 1
    assert len(runs) == 2
    out = capsys.readouterr().out
    assert "failed, exit code 3" in out and "1 of 2 runs failed: runs/toy-default-" in out


def test_a_wrong_key_stops_before_any_run(sweep, runs, capsys):
    assert sweep.main(["--config=toy.py", "--config.lora.rnk=1,2"]) == 2
    assert not runs
    assert "did you mean lora.rank?" in capsys.readouterr().err


def test_two_runs_in_one_workdir_are_refused(sweep, runs, capsys):
    assert sweep.main([*GRID, "--workdir=here"]) == 2
    assert not runs and "two runs share here" in capsys.readouterr().err


def test_emitted_slurm_script_runs_each_command_once(sweep, runs, capsys, tmp_path):
    assert sweep.main(["--emit=slurm", *GRID, "--config.optim.groups=('a b=1',)"]) == 0
    script = capsys.readouterr().out
    assert not runs and "#SBATCH --array=0-3\n" in script
    (tmp_path / "launch").mkdir()
    fake = tmp_path / "launch" / "local"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    for i, (rank, seed) in enumerate([(8, 0), (8, 1), (16, 0), (16, 1)]):
        done = subprocess.run(
            ["bash", "-c", script],
            env={"SLURM_ARRAY_TASK_ID": str(i), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines() == [
            "python", "-m", "vjax.main", "--config=toy.py", f"--config.lora.rank={rank}",
            f"--config.seed={seed}", "--config.optim.groups=('a b=1',)",
        ]  # fmt: skip


def test_the_slurm_script_of_another_folder_says_where_to_submit_it(sweep, runs, capsys, tmp_path):
    assert sweep.main(["--emit=slurm", *GRID]) == 0
    script = capsys.readouterr().out
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"no launch/local in {tmp_path}: submit from the repository's folder\n"
