"""The job on several devices: the run of one device, stopped on one mesh and resumed on another."""

import shutil

import jax
import numpy as np
import pytest

from vjax.checkpoints import Checkpoints
from vjax.evals.items import read_items
from vjax.train.metrics import read_metrics

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")

MESHES = ({"fsdp": 2, "tensor": 2, "data": 2}, {"data": 4}, {}, {"context": 2, "fsdp": 4})


def flags_of(mesh):
    return [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]


def loss_of(workdir):
    return [row["loss"] for row in read_metrics(workdir / "metrics.jsonl")]


def test_a_run_goes_on_from_mesh_to_mesh(finished, run, stop_at, tmp_path):
    workdir = tmp_path / "run"
    *stopped, last = MESHES
    for n, mesh in enumerate(stopped):
        stop_at(4)
        with pytest.raises(SystemExit):
            run(workdir, *flags_of(mesh))
        assert Checkpoints(workdir / "checkpoints").latest_step() == 5 * (n + 1)
    run(workdir, *flags_of(last))
    # 20 steps at a learning rate of 0.03 let rounding grow
    np.testing.assert_allclose(loss_of(workdir)[:6], loss_of(finished)[:6], rtol=1e-5)
    np.testing.assert_allclose(loss_of(workdir), loss_of(finished), rtol=1e-3)


def test_answers_of_prompts_that_devices_share_and_read_in_chunks(finished, run, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    mesh = flags_of({"context": 4, "data": 2})
    run(workdir, "--job=eval", "--config.eval.prefill_chunk=24", *mesh)
    for suite in ("fragments-procedural", "scene-procedural"):
        after, again = (
            read_items(workdir / "eval" / f"{suite}.{what}.jsonl") for what in ("after", "eval")
        )
        assert [(a.id, a.generated) for a in after] == [(b.id, b.generated) for b in again]
        for a, b in zip(after, again, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_more_devices_than_there_are(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "run", "--config.mesh.data=1000")
    assert "needs 1000 devices, 8 found" in capsys.readouterr().err
