"""The length ladder as a run: every rung goes on from the model of the rung before."""

import json

import numpy as np
import pytest

from tests.data import mixed
from tests.jobs.test_rows import flags_of
from vjax.families import read_spec
from vjax.train.metrics import read_metrics


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    mixed.write_files(folder)
    mixed.write_rows(folder, mixed.rows(60))
    more = ("--config.ladder.base=128", "--config.ladder.lengths=(128, 256, 512)", "--job=ladder")
    return flags_of(folder, *more, "--config.train.steps=4", "--config.data.buckets=1")


def test_every_rung_goes_on_from_the_one_before(run, flags, checkpoint, tmp_path, capsys):
    workdir = tmp_path / "run"
    run(workdir, *flags)
    assert sorted(p.name for p in workdir.iterdir() if p.is_dir()) == ["256", "512"]
    configs = [json.loads((workdir / n / "config.json").read_text()) for n in ("256", "512")]
    assert [c["model"]["path"] for c in configs] == [str(checkpoint), str(workdir / "256/model")]
    assert [c["data"]["row_tokens"] for c in configs] == [256, 512]
    assert [c["train"]["batch_size"] for c in configs] == [2, 1]
    theta = [read_spec(at).text.rope_theta for at in (checkpoint, *workdir.glob("*/model"))]
    np.testing.assert_allclose(sorted(theta), [theta[0], 2 * theta[0], 4 * theta[0]])
    losses = [read_metrics(workdir / n / "metrics.jsonl")[-1]["loss"] for n in ("256", "512")]
    assert losses[1] < losses[0]

    capsys.readouterr()
    (workdir / "512" / "rung.json").unlink()  # as if it had been stopped there
    run(workdir, *flags)
    said = capsys.readouterr().out
    assert "rung 512" in said
    assert "rung 256" not in said


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("--config.ladder.base=0", "of how many tokens are the rows"),
        ("--config.ladder.base=512", "none is longer than ladder.base=512"),
        ("--config.ladder.lengths=(512, 256)", "the lengths of a ladder rise"),
    ],
)
def test_what_makes_no_ladder(run, flags, tmp_path, capsys, more, error):
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *flags, more)
    assert error in capsys.readouterr().err
