"""vjax-tiny is made by one command, which goes on where it was stopped."""

import pytest

from vjax import main
from vjax.checkpoints import Checkpoints
from vjax.jobs._model import TINY
from vjax.train.metrics import read_metrics

MINIATURE = [
    "--config=experiments/tiny_base.py", "--job=pretrain", "--config.data.workers=1",
    "--config.pretrain.clips=12", "--config.pretrain.eval_clips=6", "--config.pretrain.vocab=400",
    "--config.pretrain.width=32", "--config.pretrain.tower_layers=1",
    "--config.pretrain.decoder_layers=1", "--config.pretrain.ffn=48",
    "--config.pretrain.tower_steps=2", "--config.pretrain.reading_steps=2",
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
    assert "2 steps of 4 frames" in card and "2 steps of 4 rows" in card
    assert "4 steps of as many" in card


def test_a_rerun_goes_on_from_its_checkpoint(made):
    workdir, make = made
    assert len(read_metrics(workdir / "metrics.jsonl")) == 4
    assert Checkpoints(workdir / "checkpoints").latest_step() == 4
    weights = workdir / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    make()
    assert weights.read_bytes() == before
    assert "resuming after step 4 of 4" in (workdir / "log.txt").read_text()


def test_fresh_empties_the_workdir(tmp_path):
    run = main.parse(["vjax", f"--workdir={tmp_path}/run", "--fresh", *MINIATURE])
    main.open_workdir(run)
    (run.workdir / "seen").mkdir()
    main.open_workdir(run)
    assert {path.name for path in run.workdir.iterdir()} == {"config.json"}
