"""The model of a run: base weights, adapter, tokenizer and video spec."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

import vjax
from vjax.checkpoints import Checkpoints, CheckpointSet
from vjax.config import Config
from vjax.console import UserError, table
from vjax.families import read_spec
from vjax.families.spec import ModelSpec, VideoSpec
from vjax.interop.load import load_weights
from vjax.models import lora
from vjax.models.video_llm import VideoLLM
from vjax.prompts.chat import Chat

SIDE_FILES = (
    "tokenizer.json",
    "chat_template.jinja",
    "video_spec.json",
    "tokenizer_config.json",
    "LICENSE",
)
TINY = Path(vjax.__file__).parent / "presets" / "vjax-tiny"


@dataclasses.dataclass
class Loaded:
    """A model in parts: `nnx.merge(graphdef, trainable, frozen)` puts it together."""

    folder: Path
    spec: ModelSpec
    video: VideoSpec
    chat: Chat
    graphdef: nnx.GraphDef
    trainable: nnx.State
    frozen: nnx.State

    @property
    def parts(self) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        return self.graphdef, self.trainable, self.frozen

    def model(self) -> VideoLLM:
        return nnx.merge(*self.parts)


def load(config: Config) -> Loaded:
    """Base weights from config.model.path, with fresh adapters (B = 0) if these are to train.

    Raises:
      UserError: no such checkpoint, or patterns that match nothing.
    """
    folder = Path(config.model.path) if config.model.path not in ("", "random") else TINY
    try:
        spec = read_spec(folder)
        if spec.family != "llava":
            raise ValueError(
                f"a checkpoint of {spec.family}: vjax.load opens it, but prompts are made for the "
                "llava layout only as yet"
            )
        video = VideoSpec(**json.loads((folder / "video_spec.json").read_text()))
        chat = Chat.from_folder(folder, spec)
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"model.path {config.model.path!r}: {error}") from error
    if config.model.path == "random":
        model = VideoLLM(spec, rngs=nnx.Rngs(config.seed))
    else:
        model = load_weights(folder, spec)
    if config.train.trainable == "lora":
        options = config.lora
        try:
            lora.add(
                model,
                rank=options.rank,
                alpha=options.alpha,
                dropout=options.dropout,
                targets=options.targets,
                rngs=nnx.Rngs(config.seed + 1),
                kind=options.kind,
            )
        except ValueError as error:
            raise UserError(str(error)) from error
    graphdef, trainable, frozen = nnx.split(
        model, lora.trainable_filter(config.train.trainable), ...
    )
    if not jax.tree.leaves(trainable):
        there = ", ".join(sorted(lora.path_str(path) for path, _ in nnx.to_flat_state(frozen)))
        raise UserError(
            f"train.trainable {config.train.trainable!r} matches no parameter; there are: {there}"
        )
    return Loaded(folder, spec, video, chat, graphdef, trainable, frozen)


def restore(config: Config, workdir: Path, loaded: Loaded) -> CheckpointSet:
    """The trainable variables of the run's newest checkpoint.

    Raises:
      UserError: there is none.
    """
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is None:
        raise UserError(
            f"{workdir} holds no checkpoint yet; train first: the same command without --job"
        )
    return checkpoints.restore(like={"trainable": loaded.trainable})


def parameter_table(loaded: Loaded) -> str:
    """Every parameter group with shape, count, dtype and whether it trains."""
    rows = []
    for state, what in ((loaded.trainable, "trainable"), (loaded.frozen, "frozen")):
        groups: dict[str, list[jax.Array]] = {}
        for path, leaf in nnx.to_flat_state(state):
            name = lora.path_str(path)
            group = re.sub(
                r"/(q|k|v|o|gate|up|down|fc1|fc2|norm\d?|kernel|bias|scale)(?=/|$)", "", name
            )
            groups.setdefault(group, []).append(leaf[...])
        for group, leaves in groups.items():
            shapes = " ".join(dict.fromkeys("x".join(map(str, leaf.shape)) for leaf in leaves))
            shapes = shapes if len(shapes) <= 48 else shapes[:45] + "..."
            rows.append(
                (group, shapes, sum(leaf.size for leaf in leaves), str(leaves[0].dtype), what)
            )
    total = {
        what: sum(row[2] for row in rows if row[4] == what) for what in ("trainable", "frozen")
    }
    share = total["trainable"] / max(1, sum(total.values()))
    return (
        table(("parameters", "shapes", "count", "dtype", "state"), rows)
        + f"\ntrainable {total['trainable']:,} ({share:.1%}), frozen {total['frozen']:,}"
    )


def dtype_of(config: Config):
    return jnp.dtype(config.model.dtype)
