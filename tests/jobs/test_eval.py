"""Scoring and exporting from the workdir alone."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from tests.data import made_up
from tests.train.tiny_step import arrays
from vjax import main
from vjax.evals.items import read_items
from vjax.interop import load_model, merge
from vjax.jobs import _model, export


@pytest.fixture(scope="module")
def copy(finished, tmp_path_factory):
    """A finished run that may be changed."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "copy")


def job(workdir, *flags):
    """What the program does for `--workdir=DIR --job=...`: no config file is named."""
    main._plainly(main.main)(main.parse(["vjax", f"--workdir={workdir}", *flags]))


def test_scoring_again_gives_what_the_run_found(copy):
    job(copy, "--job=eval")
    for suite in ("fragments-procedural", "scene-procedural"):
        after, again = (
            read_items(copy / "eval" / f"{suite}.{what}.jsonl") for what in ("after", "eval")
        )
        assert [(a.id, a.scores, a.generated) for a in after] == [
            (a.id, a.scores, a.generated) for a in again
        ]


def test_scores_say_what_they_were_made_with(copy):
    about = json.loads((copy / "eval" / "summary.json").read_text())
    assert (about["step"], about["control"]) == (20, "none")
    assert about["video_spec"]["image_size"] == 16 and "frame" in about["chat_template"]
    results = json.loads((copy / "results.json").read_text())
    assert about["after"] == results["after"]


def test_a_control_is_scored_beside_the_run(finished, parsed, copy):
    run = parsed(copy, "--job=eval", "--config.eval.control=blank")
    main._plainly(main.main)(run)
    about = json.loads((copy / "eval" / "summary-blank.json").read_text())
    assert about["control"] == "blank"
    plain = read_items(finished / "eval" / "fragments-procedural.after.jsonl")
    blank = read_items(copy / "eval" / "fragments-procedural.eval-blank.jsonl")
    assert [a.id for a in plain] == [b.id for b in blank]
    assert any(a.scores != b.scores for a, b in zip(plain, blank, strict=True))


def test_another_video_spec_than_the_runs_is_an_error(copy, checkpoint, capsys):
    file = checkpoint / "video_spec.json"
    old = file.read_text()
    file.write_text(json.dumps(json.loads(old) | {"fps": 9.0}))
    try:
        with pytest.raises(SystemExit):
            job(copy, "--job=eval")
    finally:
        file.write_text(old)
    said = capsys.readouterr().err
    assert "trained with video spec" in said and "'fps': 9.0" in said


def test_the_report_is_drawn_again(copy):
    old = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    job(copy, "--job=report")
    assert (copy / "report.html").read_text() == old
    assert (copy / "report.png").stat().st_size > 10_000
    page = (copy / "results.md").read_text()
    assert "counting" in page and "vjax.main" in page


def test_an_export_that_lost_the_training_is_not_called_done(copy, monkeypatch, capsys):
    monkeypatch.setattr(export, "load_adapter", lambda folder, model: None)
    with pytest.raises(SystemExit):
        job(copy, "--job=export")
    said = capsys.readouterr()
    assert "do not use it" in said.err and "peft of step" not in said.out


def test_an_export_keeps_what_servers_read(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    text = {"max_position_embeddings": 131072, "bos_token_id": 0, "eos_token_id": [5, 7, 1]}
    old.write_text(json.dumps(text | {"hidden_size": 3}))  # as older releases, not nested
    new.write_text(json.dumps({"text_config": {"hidden_size": 4, "eos_token_id": 5}}))
    export.keep_settings(old, new)
    assert json.loads(new.read_text())["text_config"] == text | {"hidden_size": 4}


def test_exports_open_again_and_are_the_trained_model(copy, parsed, checkpoint):
    job(copy, "--job=export")
    assert {path.name for path in (copy / "adapter").iterdir()} >= {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert {path.name for path in (copy / "model").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja",
        "video_spec.json",
    }  # fmt: skip
    config = parsed(copy).config
    loaded = _model.load(config)
    saved = _model.restore(config, copy, loaded)
    trained = merge(nnx.merge(loaded.graphdef, saved.trainable, loaded.frozen))
    batch = arrays(made_up.batch([[made_up.examples()[0]]]))
    logits = jax.jit(lambda model, batch: model.decoder.logits(model(batch)[0]))
    want, base = (np.asarray(logits(m, batch)) for m in (trained, load_model(checkpoint)))
    np.testing.assert_allclose(logits(load_model(copy / "model"), batch), want, atol=1e-5)
    assert np.abs(want - base).max() > 1e-3
