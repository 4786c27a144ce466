"""A model without numbers, by the paths of its variables, to be filled from a file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
from flax import nnx
from jax.sharding import Mesh, Sharding, SingleDeviceSharding

from vjax.console import UserError
from vjax.families.dual import DualSpec
from vjax.families.spec import ModelSpec
from vjax.models.dual import DualEncoder
from vjax.models.lora import path_str
from vjax.models.video_llm import VideoLLM
from vjax.sharding import sharding_of


def by_path(model: VideoLLM | DualEncoder) -> dict[str, nnx.Variable]:
    """Every variable by its path, such as `decoder/layers/attn/q/kernel`."""
    return {path_str(path): v for path, v in nnx.to_flat_state(nnx.state(model))}


def abstract(spec: ModelSpec | DualSpec) -> VideoLLM | DualEncoder:
    """The model of `spec`; its variables have shapes and no values."""
    build = DualEncoder if isinstance(spec, DualSpec) else VideoLLM
    return nnx.eval_shape(lambda: build(spec, rngs=nnx.Rngs(0)))


def fill(model: VideoLLM | DualEncoder, values: Mapping[str, jax.Array]) -> VideoLLM | DualEncoder:
    """Gives every variable of `model` its value, by path; returns the model."""
    flat = nnx.to_flat_state(nnx.state(model))
    loaded = [(path, variable.replace(values[path_str(path)])) for path, variable in flat]
    nnx.update(model, nnx.from_flat_state(loaded))
    return model


def axes_of(variable: nnx.Variable) -> tuple[str, ...]:
    """The logical names of its axes."""
    return variable.get_metadata()["axes"]


def place(axes: tuple[str, ...], shape: tuple[int, ...], mesh: Mesh | None) -> Sharding:
    """Where an array of these axes lies: by the table of `vjax.sharding`, or the first device."""
    if mesh is None:
        return SingleDeviceSharding(jax.devices()[0])
    return sharding_of(mesh, axes, shape)


def check(where: Path, problems: Iterable[str]):
    """Raises UserError with every problem, if there are any."""
    problems = list(problems)
    if problems:
        count = f"{len(problems)} tensor(s) do not fit config.json"
        raise UserError(f"{where}: {count}\n  " + "\n  ".join(problems))
