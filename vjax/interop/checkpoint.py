"""`vjax.load`: a checkpoint as its users have it, with everything that is needed to talk to it."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
from jax.sharding import Mesh

import vjax
from vjax.config import cache_root
from vjax.console import UserError
from vjax.families import read_spec
from vjax.families.fields import read_json
from vjax.families.spec import VIDEO_SPEC, ModelSpec
from vjax.interop import gguf
from vjax.interop.load import load_weights
from vjax.models.video_llm import VideoLLM
from vjax.prompts.chat import Chat
from vjax.prompts.media import Native, Squares

PRESETS = Path(vjax.__file__).parent / "presets"
GENERATION = "generation_config.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
      folder: where its files are (of a GGUF file, where they were unpacked to).
      model: to be called with the batch dict of WORKSPACE.md, or through `reference_logits`.
      chat: prompts to tokens, pictures of any size as the family's own processor lays them; None
        where the folder has no tokenizer or no chat template.
      generation: generation_config.json, {} where there is none.
    """

    folder: Path
    spec: ModelSpec
    model: VideoLLM
    chat: Chat | None
    generation: dict


def load(
    path: str | Path,
    *,
    dtype=jnp.float32,
    mesh: Mesh | None = None,
    position_rule: str | None = None,
) -> Checkpoint:
    """Opens a checkpoint folder, a GGUF file or a preset that vjax ships (`vjax-tiny`).

    Args:
      path: a folder with config.json and safetensors, e.g. what transformers' `save_pretrained`
        wrote for a Qwen2VLForConditionalGeneration; or `FILE.gguf`; or a preset's name.
      dtype, mesh: see `vjax.interop.load_weights`.
      position_rule: of M-RoPE, for what `chat` encodes; see `vjax.prompts.positions`. If None, that
        which the folder's video_spec.json names, as folders that jobs exported do, or else `hf5`.

    Raises:
      UserError: nothing is there, or the weights do not fit the config (see `load_weights`).
      FileNotFoundError: a folder without config.json.
      ValueError: a config.json, processor file or chat template that is not read; the weights of
        such a folder may still be (`vjax.interop.load_model`).
    """
    folder = Path(path)
    if folder.suffix == ".gguf" and folder.is_file():
        folder = gguf.unpack(folder, cache_root() / "models")
    elif not folder.exists() and (PRESETS / str(path)).is_dir():
        folder = PRESETS / str(path)
    if not folder.is_dir():
        known = ", ".join(sorted(p.name for p in PRESETS.iterdir()))
        raise UserError(f"{path}: no checkpoint folder, no GGUF file and no preset ({known})")
    spec = read_spec(folder)
    if not isinstance(spec, ModelSpec):
        raise ValueError(
            f"{folder}: {spec.family} is two towers and no language model; vjax.interop.load_model "
            "opens it, and --job=zeroshot classifies with it"
        )
    native = spec.vision is None or spec.pictures != "squares"
    media = Native.from_folder(folder, spec) if native else Squares.of(spec)
    if position_rule is None:
        saved = read_json(folder / VIDEO_SPEC) if (folder / VIDEO_SPEC).exists() else {}
        position_rule = saved.get("position_rule", "hf5")
    try:
        chat = Chat.from_folder(folder, spec, media, position_rule=position_rule)
    except FileNotFoundError:
        chat = None
    settings = folder / GENERATION
    return Checkpoint(
        folder=folder,
        spec=spec,
        model=load_weights(folder, spec, dtype=dtype, mesh=mesh),
        chat=chat,
        generation=read_json(settings) if settings.exists() else {},
    )
