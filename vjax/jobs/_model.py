"""The model of a run: base weights, adapter, tokenizer and video spec."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from vjax.attention import absent, check_heads
from vjax.checkpoints import Checkpoints, CheckpointSet
from vjax.config import Config, cache_root
from vjax.console import UserError, say, table
from vjax.families import read_spec
from vjax.families.ladder import slowed
from vjax.families.spec import VIDEO_SPEC, ModelSpec, RopeScaling, VideoSpec
from vjax.interop import load_weights
from vjax.interop.checkpoint import PRESETS
from vjax.jobs import _smollm2
from vjax.jobs._corpus import resize_of
from vjax.models import lora
from vjax.models.lora import split_trainable
from vjax.models.resize import resize_positions, resized_spec
from vjax.models.video_llm import VideoLLM
from vjax.prompts.chat import Chat
from vjax.sharding import make_mesh, place

TINY = PRESETS / "vjax-tiny"
FPS = 2.0  # of questions about whole clips, where a checkpoint says nothing


@dataclasses.dataclass
class Interface:
    """What batches are made for: a model without its weights.

    Attributes:
      folder: the checkpoint's.
      spec: with the tower brought to the size of the frames that it is shown.
    """

    folder: Path
    spec: ModelSpec
    video: VideoSpec
    chat: Chat


@dataclasses.dataclass
class Loaded(Interface):
    """A model in parts: `nnx.merge(graphdef, trainable, frozen)` puts it together."""

    graphdef: nnx.GraphDef
    trainable: nnx.State
    frozen: nnx.State

    @property
    def parts(self) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        return self.graphdef, self.trainable, self.frozen

    def model(self) -> VideoLLM:
        return nnx.merge(*self.parts)


def interface(config: Config) -> Interface:
    """How config.model.path is prompted; no weights are read.

    Raises:
      UserError: no such checkpoint, or one that no job can prompt.
    """
    options, folder = config.model, folder_of(config)
    try:
        spec = slowed_spec(folder, config)
        if not isinstance(spec, ModelSpec):
            raise ValueError(f"{spec.family} is two towers and no language model: --job=zeroshot")
        if spec.vision is None:
            raise ValueError(
                f"a {spec.family} decoder alone sees no frames; "
                "--config=experiments/sf2t.py:smollm2 shows how one is put behind a tower"
            )
        video = _video_spec(folder, config, spec)
        sized = resized_spec(spec, video.image_size)
        chat = Chat.from_folder(folder, sized, position_rule=video.position_rule)
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"model.path {options.path!r}: {error}") from error
    return Interface(folder, sized, video, chat)


def folder_of(config: Config) -> Path:
    """The checkpoint folder that config.model.path means.

    Raises:
      UserError: there is none.
    """
    options = config.model
    folder = Path(options.path)
    if options.path in ("", "random"):
        folder = TINY
    elif options.path == "smollm2":
        folder = _smollm2.folder(cache_root(), TINY)
    elif not folder.exists() and (PRESETS / options.path).is_dir():
        folder = PRESETS / options.path
    if not folder.is_dir():
        raise UserError(_absent(folder, options.hub))
    return folder


def load(config: Config) -> Loaded:
    """Base weights from config.model.path, with fresh adapters (B = 0) if these are to train.

    Raises:
      UserError: no such checkpoint, one that no job can prompt, patterns that match nothing, or
        attention of another machine or that the mesh cannot split.
    """
    options = config.model
    known = interface(config)
    check_attention(config, known.spec)
    mesh = mesh_of(config)
    several = mesh if mesh.size > 1 else None  # of one device, what is loaded lies as it comes
    adapters, rest = split_trainable(config.train.trainable)
    if options.path == "random":
        model = VideoLLM(known.spec, rngs=nnx.Rngs(config.seed))
    else:
        # what stays frozen needs no more digits than the computation has
        frozen = options.dtype if adapters and not rest else "float32"
        spec, dtype = slowed_spec(known.folder, config), jnp.dtype(frozen)
        model = load_weights(known.folder, spec, dtype=dtype, mesh=several)
        model = resize_positions(model, known.video.image_size)
        own, side = spec.vision, known.video.image_size
        if own.position == "table" and own.image_size != side:
            say(
                f"frames are {side} pixels, the tower of {known.folder} is made for "
                f"{own.image_size}: its position table is interpolated. A merged export is a model "
                f"for {side}, an adapter alone goes with no other; "
                f"--config.model.image_size={own.image_size} keeps the tower's own"
            )
    prepare(config, model)
    graphdef, trainable, frozen = parts_of(config, model)
    if several is not None:
        trainable, frozen = place(mesh, trainable), place(mesh, frozen)
    return Loaded(known.folder, known.spec, known.video, known.chat, graphdef, trainable, frozen)


def check_attention(config: Config, spec: ModelSpec):
    """Raises UserError for attention of another machine, or of heads that the mesh cannot split."""
    name = config.model.attention
    if needed := absent(name):
        raise UserError(f"model.attention={name} needs {needed}; auto takes what fits")
    if config.model.context_parallel == "ulysses":
        try:
            check_heads(spec.text.kv_heads, dataclasses.asdict(config.mesh))
        except ValueError as error:
            raise UserError(f"model.{error}") from error


def prepare(config: Config, model: VideoLLM):
    """Attention as the config says, and fresh adapters (B = 0) if these are to train.

    Raises:
      UserError: lora.targets that match nothing.
    """
    options = config.model
    for part in (model.tower, model.still_tower, model.decoder):
        if part is not None:
            part.attention = options.attention
    for tower in (model.tower, model.still_tower):
        if tower is not None:
            tower.at_once = options.tower_batch
    model.decoder.context_parallel = options.context_parallel
    if split_trainable(config.train.trainable)[0]:
        adapter = config.lora
        try:
            lora.add(
                model,
                rank=adapter.rank,
                alpha=adapter.alpha,
                dropout=adapter.dropout,
                targets=adapter.targets,
                rngs=nnx.Rngs(config.seed + 1),
                kind=adapter.kind,
            )
        except ValueError as error:
            raise UserError(str(error)) from error


def parts_of(config: Config, model: VideoLLM) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """The model taken apart: graphdef, what trains, what does not.

    Raises:
      UserError: train.trainable matches nothing.
    """
    graphdef, trainable, frozen = nnx.split(
        model, lora.trainable_filter(config.train.trainable), ...
    )
    rest = split_trainable(config.train.trainable)[1]
    flat = {lora.path_str(path) for path, _ in nnx.to_flat_state(trainable)}
    if not flat or (rest and not any(re.fullmatch(rest, path) for path in flat)):
        there = ", ".join(sorted(lora.path_str(path) for path, _ in nnx.to_flat_state(frozen)))
        raise UserError(
            f"train.trainable {config.train.trainable!r} matches no parameter; there are: {there}"
        )
    return graphdef, trainable, frozen


def abstract(config: Config, spec: ModelSpec) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """The parts of the model as `load` gives them, shapes in the place of arrays.

    Raises as `prepare` and `parts_of`.
    """

    def made() -> VideoLLM:
        model = VideoLLM(spec, rngs=nnx.Rngs(0))
        prepare(config, model)
        return model

    graphdef, trainable, frozen = parts_of(config, nnx.eval_shape(made))
    adapters, rest = split_trainable(config.train.trainable)
    if adapters and not rest:
        dtype = dtype_of(config)
        frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), frozen)
    return graphdef, trainable, frozen


def slowed_spec(folder: Path, config: Config) -> ModelSpec:
    """The checkpoint's model spec, its rotary positions slowed as the config says."""
    spec, options = read_spec(folder), config.model
    if options.rope == "as it is" or not isinstance(spec, ModelSpec):
        return spec
    scaling = RopeScaling(options.rope, options.rope_factor, alpha=options.rope_alpha)
    return dataclasses.replace(spec, text=slowed(spec.text, scaling))


def _video_spec(folder: Path, config: Config, spec: ModelSpec) -> VideoSpec:
    """How videos reach the model: as the checkpoint says, or, where it does not, as its family."""
    if (folder / VIDEO_SPEC).exists():
        video = VideoSpec(**json.loads((folder / VIDEO_SPEC).read_text()))
    else:
        video = VideoSpec(
            image_size=spec.vision.image_size,
            store_size=config.data.store_size,
            resize=resize_of(config),
            frame_repeat=spec.frame_repeat,
            position_rule="qwen" if spec.text.mrope else "plain",
            fps=FPS,
        )
    if config.model.image_size:
        video = dataclasses.replace(video, image_size=config.model.image_size)
    if video.image_size > config.data.store_size:
        raise ValueError(
            f"frames are kept at {config.data.store_size} pixels and would be shown at "
            f"{video.image_size}: set data.store_size to as many"
        )
    block = spec.vision.patch_size * spec.projector.merge
    if video.image_size % block and video.image_size != spec.vision.image_size:
        raise ValueError(
            f"frames of {video.image_size} pixels are no whole number of blocks of {block}: set "
            f"model.image_size={video.image_size // block * block}, or another multiple, and "
            "data.store_size to no less"
        )
    return video


def _absent(folder: Path, hub: str) -> str:
    """What to do where a checkpoint folder is not there."""
    text = (
        f"model.path: there is no folder {folder}. A checkpoint is a folder with config.json, "
        "tokenizer.json, a chat template (chat_template.jinja, chat_template.json or in "
        "tokenizer_config.json), processor_config.json or preprocessor_config.json, and "
        "model.safetensors, or its shards with model.safetensors.index.json."
    )
    if not hub:
        return text
    return (
        f"{text} Fetch it with\n  pip install huggingface_hub\n"
        f"  hf download {hub} --local-dir {folder}\n"
        "or name the folder that you have: --config.model.path=FOLDER"
    )


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


def mesh_of(config: Config) -> Mesh:
    """The mesh of a run.

    Raises:
      UserError: more devices than there are.
    """
    try:
        return make_mesh(**dataclasses.asdict(config.mesh))
    except ValueError as error:
        raise UserError(str(error)) from error


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
