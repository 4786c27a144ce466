"""Mistakes a user can make: a message that says what to do, exit code 2, no work, no workdir."""

import json
import shutil

import pytest

from vjax.families import causal
from vjax.families.spec import DecoderSpec, ModelSpec
from vjax.jobs import _corpus, _model


@pytest.fixture
def failed(run, tmp_path, capsys, monkeypatch):
    """failed(flag, ...): what the program printed on its way out."""

    def no_clips(config):
        raise AssertionError("clips were prepared before the mistake was found")

    monkeypatch.setattr(_corpus, "prepare", no_clips)

    def call(*flags):
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path / "run", *flags)
        said = capsys.readouterr().err
        assert stopped.value.code == 2, said
        assert said.startswith("vjax: ") and "Traceback" not in said
        assert not (tmp_path / "run").exists()
        return said

    return call


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("model.path=nowhere/model", ["no folder nowhere/model", "config.json"]),
        ("lora.targets=attention", ["lora.targets 'attention' matches no layer", "projector/fc1"]),
        ("train.trainable=head", ["train.trainable 'head' matches no parameter", "decoder/embed"]),
        ("mesh.data=64", ["mesh data=64 fsdp=1", "needs 64 devices"]),
        ("model.attention=splash", ["model.attention=splash needs a TPU; this is cpu", "auto"]),
        (
            "optim.groups=('tower=0.1',)",
            ["optim.groups 'tower' matches no trainable parameter", "projector/fc1/lora_a"],
        ),
    ],
)
def test_what_matches_nothing_is_named_with_what_there_is(failed, flag, parts):
    said = failed(f"--config.{flag}")
    assert all(part in said for part in parts), said


LANGUAGE = ModelSpec(
    "llama", None, None,
    DecoderSpec(32, 1, 2, 2, 16, 48, 64, qkv_bias=False, model_type="llama"), -1, -1, 2, 0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("chat_template.jinja", None, "chat_template.jinja: no chat template"),
        ("tokenizer.json", None, "no tokenizer.json in this checkpoint folder"),
        ("video_spec.json", '{"image_size": 16}', "store_size"),
        ("video_spec.json", '{"image_size": 16, "store_size": 32, "zoom": 2}', "zoom"),
        ("config.json", '{"model_type": "gpt2"}', "'gpt2' is not known; known: clip,"),
        (
            "config.json",
            json.dumps(causal.config_json(LANGUAGE)),
            "a llama decoder alone sees no frames",
        ),
        ("config.json", "{", "config.json: no whole JSON file"),
        ("config.json", "[]", "config.json: holds a list"),
        ("tokenizer.json", "{", "tokenizer.json: no whole tokenizer"),
        ("chat_template.jinja", "{% if %}", "the chat template, line 1"),
        ("chat_template.jinja", "{{ messages[0].content }}", "ends an answer with"),
        ("model.safetensors", None, "neither model.safetensors nor"),
        ("model.safetensors", "words", "model.safetensors: not a whole safetensors file"),
    ],
)
def test_a_damaged_checkpoint_folder_is_named(failed, checkpoint, tmp_path, file, text, message):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    said = failed(f"--config.model.path={folder}")
    assert str(folder) in said and message in said


@pytest.mark.parametrize("job", ["train", "eval"])
def test_kv_heads_that_no_mesh_splits_are_named_before_weights_are_read(failed, monkeypatch, job):
    def read(*args, **options):
        raise AssertionError("weights were read before the mistake was found")

    monkeypatch.setattr(_model, "load_weights", read)
    said = failed(
        f"--job={job}", "--config.mesh.context=4", "--config.model.context_parallel=ulysses"
    )
    assert "mesh.context=4 does not divide 1: use ring or all_gather" in said


@pytest.mark.parametrize("job", ["eval", "export"])
def test_a_run_without_a_checkpoint_cannot_be_scored_or_exported(failed, job):
    assert "holds no checkpoint yet; train first" in failed(f"--job={job}")


def test_missing_clips_are_named_before_weights_are_read(run, tmp_path, capsys, monkeypatch):
    def load(config):
        raise AssertionError("weights were read before the mistake was found")

    monkeypatch.setattr(_model, "load", load)
    with pytest.raises(SystemExit):
        clips = ("--config.data.source=folder", f"--config.data.clips={tmp_path / 'none'}")
        run(tmp_path / "run", *clips)
    assert f"--config.data.clips: {tmp_path / 'none'}" in capsys.readouterr().err
