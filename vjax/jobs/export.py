"""Writes the newest checkpoint of a run, from its workdir alone, in formats other tools open."""

from pathlib import Path

from flax import nnx

from vjax.config import Config
from vjax.console import say
from vjax.interop import merge, save_adapter, save_model
from vjax.jobs import _model


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """`adapter/`: a PEFT folder (where the run trained LoRA). `model/`: the model, adapter merged.

    `model/` is a Hugging-Face-style folder with tokenizer, chat template and video_spec.json;
    `vjax.load` and transformers open it, and `--config.model.path=WORKDIR/model` goes on from it.
    """
    loaded = _model.load(config)
    saved = _model.restore(config, workdir, loaded)
    model = nnx.merge(loaded.graphdef, saved.trainable, loaded.frozen)
    if config.train.trainable == "lora":
        save_adapter(workdir / "adapter", model, str(loaded.folder))
        say(f"adapter of step {saved.step}: {workdir / 'adapter'}")
        model = merge(model)
    files = [loaded.folder / name for name in _model.SIDE_FILES if (loaded.folder / name).exists()]
    save_model(workdir / "model", model, dtype="float32", files=files)
    say(f"model of step {saved.step}: {workdir / 'model'}")
