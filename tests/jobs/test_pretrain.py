"""vjax-tiny is made by one command, which goes on where it was stopped."""

import shutil

import pytest

from vjax import main
from vjax.checkpoints import Checkpoints
from vjax.console import UserError
from vjax.jobs import pretrain
from vjax.jobs._model import TINY
from vjax.train.metrics import read_metrics

MINIATURE = [
    "--config=experiments/tiny_base.py", "--job=pretrain", "--config.data.workers=1",
    "--config.pretrain.clips=12", "--config.pretrain.eval_clips=6", "--config.pretrain.vocab=400",
    "--config.pretrain.width=32", "--config.pretrain.tower_layers=1",
    "--config.pretrain.decoder_layers=1", "--config.pretrain.ffn=48",
    "--config.pretrain.tower_steps=2", "--config.pretrain.reading_steps=2",
    "--config.pretrain.watching_steps=2", "--config.pretrain.recalling_steps=2",
    "--config.pretrain.tower_batch_size=6",
    "--config.train.batch_size=4", "--config.train.steps=4", "--config.checkpoint.every=2",
    "--config.eval.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(home, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrain") / "run"

    def make():
        main._plainly(main.main)(main.parse(["vjax", f"--workdir={workdir}", *MINIATURE]))

    make()
    return workdir, make


def test_the_folder_holds_what_the_shipped_one_does(made):
    folder = made[0] / "model"
    assert {path.name for path in folder.iterdir()} == {path.name for path in TINY.iterdir()}
    card = (folder / "README.md").read_text()
    assert "--config=experiments/tiny_base.py --job=pretrain" in card
    assert "2 steps of 6 frames" in card and "2 steps of 4 rows" in card
    assert "4 steps of as many" in card and "| stage 5 | 2 steps of as many" in card


def test_a_rerun_goes_on_from_its_checkpoint(made):
    workdir, make = made
    talk, last = workdir / "stages" / "3-talk", workdir / "stages" / "9-recall"
    assert len(read_metrics(talk / "metrics.jsonl")) == 4
    assert Checkpoints(talk / "checkpoints").latest_step() == 4
    weights = workdir / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    shutil.rmtree(last / "model")
    make()
    assert weights.read_bytes() == before
    assert "resuming after step 2 of 2" in (workdir / "log.txt").read_text()


def test_a_stage_that_comes_again_learns_from_other_batches(made):
    losses = [
        [row["loss"] for row in read_metrics(made[0] / "stages" / f"{n}-watch" / "metrics.jsonl")]
        for n in (4, 5)
    ]
    assert len(losses[0]) == len(losses[1]) == 2 and losses[0] != losses[1]


@pytest.mark.parametrize(
    "override, message",
    [
        ("stages=('see','dream')", "pretrain.stages: 'dream' is none of see, read, talk"),
        ("tower_batch_size=7", "pretrain.tower_batch_size=7: give a multiple of 6"),
    ],
)
def test_what_cannot_be_is_said_before_clips_are_made(tmp_path, monkeypatch, override, message):
    monkeypatch.setattr(pretrain, "scene_clips", None)
    run = main.parse(
        ["vjax", f"--workdir={tmp_path}/run", *MINIATURE, f"--config.pretrain.{override}"]
    )
    with pytest.raises(UserError, match=message):
        pretrain.run(run.config, run.workdir)


def test_fresh_empties_the_workdir(tmp_path):
    run = main.parse(["vjax", f"--workdir={tmp_path}/run", "--fresh", *MINIATURE])
    main.open_workdir(run)
    (run.workdir / "stages").mkdir()
    main.open_workdir(run)
    assert {path.name for path in run.workdir.iterdir()} == {"config.json"}
