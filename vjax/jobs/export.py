"""Writes the newest checkpoint of a run, from its workdir alone, in formats other tools open."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from vjax.config import Config
from vjax.console import UserError, say
from vjax.families import read_spec
from vjax.families.fields import read_json
from vjax.generate.ask import logits
from vjax.interop import load_adapter, load_weights, merge, save_adapter, save_model, save_orbax
from vjax.jobs import _model
from vjax.models import lora
from vjax.models.resize import resize_positions
from vjax.models.video_llm import VideoLLM
from vjax.prompts import Prompt
from vjax.video.rng import philox

FOLDERS = {"peft": "adapter", "hf": "model", "orbax": "orbax"}
SIDE_FILES = (".json", ".jinja", ".txt", ".model")
CONFIG = "config.json"
NOT_COPIED = (CONFIG, _model.VIDEO_SPEC)
# of config.json, read by servers and tokenizers and by no forward pass
LENGTH = "max_position_embeddings"
KEPT = (LENGTH, "bos_token_id", "initializer_range", "attention_dropout")
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
# largest difference of logits after reloading, as a share of the largest logit; an adapter is
# written in float32 and read back over the weights that it was trained on
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
ADAPTER_TOLERANCE = 1e-4


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Each of config.export.format in a folder of its own, read back and compared.

    `peft`: `adapter/`, a PEFT folder (where the run trained LoRA and nothing else). `hf`: `model/`,
    adapter merged, with tokenizer, chat template, processor files and video_spec.json; `vjax.load`
    and transformers open it, and `--config.model.path=WORKDIR/model` goes on from it. `orbax`:
    `orbax/`, the same as an Orbax checkpoint.

    Raises:
      UserError: a format that does not hold all that was trained, or logits that differ after
        reloading.
    """
    adapters, rest = lora.split_trainable(config.train.trainable)
    formats = [f for f in config.export.format if f != "peft" or adapters]
    if "peft" in formats and rest:
        raise UserError(
            f"train.trainable={config.train.trainable!r} trained more than adapters, which a PEFT "
            "folder does not hold: --export.format=hf"
        )
    loaded = _model.load(config)
    saved = _model.restore(config, workdir, loaded)
    model = nnx.merge(loaded.graphdef, saved.trainable, loaded.frozen)
    want, before = probe(loaded, model), probe(loaded, loaded.model())
    learnt = float(np.abs(want - before).max())
    whole = merge(model) if adapters else model
    for form in formats:
        folder = workdir / FOLDERS[form]
        if form == "peft":
            save_adapter(folder, model, str(loaded.folder))
        else:
            if form == "hf":
                save_model(folder, whole, dtype=config.model.dtype)
            else:
                save_orbax(folder, whole)
            copy_side_files(loaded, folder)
            keep_settings(loaded.folder / CONFIG, folder / CONFIG, config.model.rope_factor)
        off = float(np.abs(probe(loaded, reloaded(config, loaded, folder, form)) - want).max())
        share = off / float(np.abs(want).max())
        if not share <= (ADAPTER_TOLERANCE if form == "peft" else TOLERANCE[config.model.dtype]):
            raise UserError(
                f"{folder}: read back, its logits differ by {off:.2g}, {share:.1%} of the largest; "
                "do not use it"
            )
        say(
            f"{form} of step {saved.step}: {folder} (read back: logits differ by {off:.1g}; "
            f"training moved them by {learnt:.1g})"
        )
        if off > learnt / 2:
            say(f"  {config.model.dtype} rounds so little training away: use the adapter (peft)")


def reloaded(config: Config, loaded: _model.Loaded, folder: Path, form: str) -> VideoLLM:
    """What a user gets who opens the folder, an adapter over the weights it was trained on."""
    if form != "peft":
        return load_weights(folder, read_spec(folder))
    dtype = jnp.dtype(config.model.dtype)
    model = load_weights(loaded.folder, read_spec(loaded.folder), dtype=dtype)
    model = resize_positions(model, loaded.video.image_size)
    load_adapter(folder, model)
    return model


def probe(loaded: _model.Loaded, model: VideoLLM) -> np.ndarray:
    """Logits, float32 [T, vocab], of a question about two pictures of noise."""
    size = loaded.video.image_size
    frames = philox("probe").integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    parts = (("frame", 0), ("frame", 1), ("text", "Which shows this?"), ("image", 2))
    return logits(model, Prompt(parts, tuple(frames), "Yes"), loaded.chat, image_size=size)


def copy_side_files(loaded: _model.Loaded, folder: Path):
    """Tokenizer, templates, processor files and licence; those that name sizes, with ours."""
    for file in sorted(loaded.folder.iterdir()):
        copied = file.suffix in SIDE_FILES and not file.name.endswith(".index.json")
        if file.name in NOT_COPIED or not (copied or file.name.startswith("LICENSE")):
            continue
        if file.name in PROCESSORS:
            settings = _resized(json.loads(file.read_text()), loaded)
            (folder / file.name).write_text(json.dumps(settings, indent=2) + "\n")
        else:
            shutil.copy(file, folder)
    video = json.dumps(dataclasses.asdict(loaded.video), indent=2)
    (folder / _model.VIDEO_SPEC).write_text(video + "\n")


def keep_settings(old: Path, new: Path, longer: float = 1.0):
    """Settings of the old config.json that a model does not hold: context length and the like.

    Args:
      longer: by how much the context is longer than the old one.
    """
    before, after = read_json(old), read_json(new)
    text = before.get("text_config", before), after.get("text_config", after)
    for source, target in ((before, after), text):
        target |= {name: source[name] for name in KEPT if name in source}
        if LENGTH in target:
            target[LENGTH] = int(target[LENGTH] * longer)
        ends = source.get("eos_token_id")
        if isinstance(ends, list) and "eos_token_id" in target:
            target["eos_token_id"] = ends
    new.write_text(json.dumps(after, indent=2) + "\n")


def _resized(settings: dict, loaded: _model.Loaded) -> dict:
    """Processor settings of a tower whose pictures have one size."""
    vision, tiles = loaded.spec.vision, loaded.spec.tiles
    if vision.position == "rope2d":
        return settings
    side = vision.image_size
    square = {"height": side, "width": side}
    ours = {
        "size": square,
        "crop_size": square,
        "num_image_tokens": vision.patches,
        "max_image_size": {"longest_edge": side},
        "image_seq_len": loaded.spec.frame_side**2,
        "image_seq_length": loaded.spec.frame_side**2,
    }
    if set(settings.get("size") or ()) == {"shortest_edge"}:
        ours["size"] = {"shortest_edge": side}
    if squares := settings.get("max_image_size"):  # a still has as many of them as before
        scale = side / squares["longest_edge"]
        ours["size"] = {name: round(scale * n) for name, n in settings.get("size", {}).items()}
    if tiles:
        ours["image_grid_pinpoints"] = [list(size) for size in tiles.sizes]
    settings = settings | {name: value for name, value in ours.items() if settings.get(name)}
    for name, value in settings.items():
        if isinstance(value, dict) and name not in ("size", "crop_size"):
            settings[name] = _resized(value, loaded)
    return settings
