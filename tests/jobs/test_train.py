"""A run: repeatable to the bit, stopped and resumed anywhere, and true about what it changed."""

import json
import random
import signal

import numpy as np
import pytest
from flax import nnx

from tests.jobs.conftest import losses
from vjax.checkpoints import Checkpoints
from vjax.console import UserError
from vjax.evals.summary import read_results
from vjax.jobs import _corpus, _model, train
from vjax.models import lora
from vjax.train.metrics import read_metrics

STEPS = 20


@pytest.mark.smoke
def test_a_run_leaves_what_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "eval",
                     "results.json", "report.html", "log.txt"}  # fmt: skip
    results = read_results(finished / "results.json")
    tasks = {"counting", "consistency", "localization", "disorder", "rearrangement"}
    for when in ("before", "after"):
        assert set(results[when]) == {"fragments/procedural", "scene/procedural"}
        assert set(results[when]["fragments/procedural"]) == tasks
        assert {row["n"] for row in results[when]["fragments/procedural"].values()} == {3}
    assert set(results["paired"]["fragments/procedural"]) == tasks
    assert Checkpoints(finished / "checkpoints").latest_step() == STEPS


def test_metrics_have_every_step_once(finished):
    rows = read_metrics(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_loss_falls_on_a_set_that_is_small(finished):
    rows = read_metrics(finished / "metrics.jsonl")
    assert np.mean([r["loss"] for r in rows[-5:]]) < 0.8 * np.mean([r["loss"] for r in rows[:3]])


def test_a_second_run_has_the_same_losses_to_the_bit(finished, run, tmp_path):
    """With other threads and intervals, which are not what a run is."""
    flags = ("--config.data.read_threads=3", "--config.train.log_every=7",
             "--config.checkpoint.every=9")  # fmt: skip
    run(tmp_path / "again", *flags)
    assert losses(tmp_path / "again") == losses(finished)


def test_killed_at_a_random_step_a_rerun_has_the_same_losses_to_the_bit(
    finished, run, killed, tmp_path
):
    workdir, step = tmp_path / "killed", random.randrange(5, STEPS)
    killed(workdir, step)
    # a save that the kill cut short does not count: the run then starts over
    saved = Checkpoints(workdir / "checkpoints").latest_step() or 0
    assert saved <= step, f"killed in step {step}"
    before = losses(workdir)
    assert before[:saved] == losses(finished)[:saved], f"killed in step {step}"
    assert len(before) < STEPS
    run(workdir, "--config.data.read_threads=4")
    assert losses(workdir) == losses(finished), f"killed in step {step}"
    resumed = f"resuming after step {saved} of {STEPS}" in (workdir / "log.txt").read_text()
    assert resumed == (saved > 0), f"killed in step {step}"


def test_sigterm_saves_and_says_so_and_a_rerun_finishes(finished, run, stop_at, tmp_path, capsys):
    workdir = tmp_path / "stopped"
    stop_at(6)
    with pytest.raises(SystemExit) as stopped:
        run(workdir)
    assert stopped.value.code == 128 + signal.SIGTERM
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "vjax: stopped by signal 15 after step 7; the same command goes on after step 7"
    assert Checkpoints(workdir / "checkpoints").latest_step() == 7
    assert not (workdir / "results.json").exists()
    run(workdir)
    assert losses(workdir) == losses(finished)
    with open(workdir / "results.json") as one, open(finished / "results.json") as two:
        assert json.load(one)["after"] == json.load(two)["after"]


def test_without_saving_on_exit_the_message_names_the_older_checkpoint(
    run, stop_at, tmp_path, capsys
):
    stop_at(6, signal.SIGINT)
    with pytest.raises(SystemExit):
        run(tmp_path / "stopped", "--noconfig.checkpoint.save_on_exit")
    assert (
        "by signal 2 after step 7; the same command goes on after step 4" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--config.rehearsal.clips=real", "no such training clips; there are: procedural"),
        ("--config.rehearsal.questions=()", "rehearsal.share is 0.5 and rehearsal.questions is"),
        (f"--config.rehearsal.questions=({'What is it? ' * 60!r},)", "does not fit a row of 128"),
    ],
)
def test_a_rehearsal_that_cannot_be_is_an_error_of_the_user(parsed, tmp_path, flag, said):
    config = parsed(tmp_path, "--config.rehearsal.share=0.5", flag).config
    with pytest.raises(UserError, match=said):
        train.make_batches(config, _corpus.prepare(config), _model.load(config))


# ---- a workdir that is there


@pytest.fixture
def idle(monkeypatch):
    """Whoever asks for clips or a model fails."""

    def asked(*_, **__):
        raise AssertionError("computed something")

    monkeypatch.setattr(_corpus, "prepare", asked)
    monkeypatch.setattr(_model, "load", asked)


def test_a_finished_run_prints_its_table_and_computes_nothing(finished, run, idle, capsys):
    before = {
        path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "log.txt"
    }
    run(finished)
    said = capsys.readouterr().out
    assert "is finished; --fresh starts over" in said
    assert "fragments/procedural  counting" in said and "scene/procedural" in said
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_execution_only_fields_may_differ(finished, run, idle):
    flags = ("data.read_threads=9", "checkpoint.every=3", "data.workers=1", "train.log_every=1",
             "mesh.data=2")  # fmt: skip
    run(finished, *(f"--config.{flag}" for flag in flags))


def test_another_config_in_the_workdir_exits_and_shows_the_difference(finished, run, idle, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(finished, "--config.lora.rank=3", "--config.seed=4")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "holds a run with another config:\n  seed: 0 -> 4\n  lora.rank: 2 -> 3\n" in said
    assert "--fresh" in said and "Traceback" not in said


def test_fresh_starts_over(run, stop_at, tmp_path, capsys):
    workdir = tmp_path / "run"
    stop_at(5)
    with pytest.raises(SystemExit):
        run(workdir)
    stop_at(1)
    with pytest.raises(SystemExit):
        run(workdir, "--fresh", "--config.seed=4")
    assert "after step 2;" in capsys.readouterr().err
    assert [row["step"] for row in read_metrics(workdir / "metrics.jsonl")] == [1, 2]


# ---- what changed


@pytest.mark.parametrize("trainable", ["lora", "projector/.*|decoder/layers/mlp/.*"])
def test_the_table_printed_at_start_is_what_changed(parsed, tmp_path, trainable):
    config = parsed(tmp_path, f"--config.train.trainable={trainable}").config
    loaded = _model.load(config)
    start = {state: copies(getattr(loaded, state)) for state in ("trainable", "frozen")}
    table = [line.split() for line in _model.parameter_table(loaded).splitlines()[2:]]
    make_batch, _ = train.make_batches(config, _corpus.prepare(config), loaded)
    tools = train.make_tools(config, loaded.trainable)
    end, _ = train.fit(config, tmp_path, make_batch, loaded.parts, loaded.video, *tools)
    after = copies(end.trainable)
    assert after.keys() == start["trainable"].keys()
    assert not [name for name, x in after.items() if np.array_equal(x, start["trainable"][name])]
    assert copies(loaded.frozen).keys() == start["frozen"].keys()
    for name, x in copies(loaded.frozen).items():
        np.testing.assert_array_equal(x, start["frozen"][name], err_msg=name)
    for name, x in copies(loaded.trainable).items():  # the start is kept, for comparing
        np.testing.assert_array_equal(x, start["trainable"][name], err_msg=name)
    for state, leaves in (("trainable", after), ("frozen", start["frozen"])):
        rows = [row for row in table if row[-1] == state]
        assert sum(int(row[-3]) for row in rows) == sum(x.size for x in leaves.values())
        groups = [set(row[0].split("/")) for row in rows]  # a group leaves q, k, kernel ... out
        for name in leaves:
            assert any(group <= set(name.split("/")) for group in groups), name


def copies(state):
    return {lora.path_str(path): np.array(v[...]) for path, v in nnx.to_flat_state(state)}


def test_supervised_tuning_reads_scene_questions(parsed, tmp_path):
    flags = ("--config.train.questions=scenes", "--config.train.accumulate=2")
    config = parsed(tmp_path, *flags).config
    make_batch, lost = train.make_batches(config, _corpus.prepare(config), _model.load(config))
    batch = make_batch(3)
    assert batch["tokens"].shape[:2] == (2, 4) and not lost
    assert batch["loss_weights"].any((1, 2)).all()


def test_accumulation_in_bfloat16_runs_end_to_end(run, tmp_path):
    workdir = tmp_path / "run"
    run(workdir, "--config.train.accumulate=2", "--config.train.batch_size=2",
        "--config.model.dtype=bfloat16", "--config.train.steps=3",
        "--config.eval.items_procedural=0", "--config.eval.items_scene=0")  # fmt: skip
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(np.isfinite(row["loss"]) for row in rows)
    saved = Checkpoints(workdir / "checkpoints").restore(like={})
    assert saved.counters["items_seen"] == 3 * 4 and saved.counters["next_batch"] == 3
