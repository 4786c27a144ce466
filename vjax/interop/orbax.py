"""Whole models as Orbax checkpoints: a folder with config.json and `params/`."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from vjax.console import UserError
from vjax.families import family_of
from vjax.families.spec import ModelSpec
from vjax.models.lora import path_str
from vjax.models.video_llm import VideoLLM
from vjax.sharding import partition_spec

PARAMS = "params"


def save_orbax(folder: str | Path, model: VideoLLM):
    """Writes config.json and params/: one array a variable, by its path, as it is laid out here."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = family_of(model.spec.family).config_json(model.spec)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    values = {path_str(path): v[...] for path, v in nnx.to_flat_state(nnx.state(model))}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / PARAMS, values, force=True)


def load_orbax(
    folder: str | Path, spec: ModelSpec, *, dtype=jnp.float32, mesh: Mesh | None = None
) -> VideoLLM:
    """Reads params/ into the model of `spec`; every array goes to where its variable lies.

    Raises:
      UserError: arrays that are missing, left over or of another shape, all listed.
    """
    params = (Path(folder) / PARAMS).absolute()
    model = nnx.eval_shape(lambda: VideoLLM(spec, rngs=nnx.Rngs(0)))
    flat = {path_str(path): (path, v) for path, v in nnx.to_flat_state(nnx.state(model))}
    want = {name: tuple(v.shape) for name, (_, v) in flat.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        there = checkpointer.metadata(params).item_metadata.tree
        held = {name: tuple(array.shape) for name, array in there.items()}
        problems = [f"missing: {name}" for name in want.keys() - held.keys()]
        problems += [f"not used: {name}" for name in held.keys() - want.keys()]
        problems += [
            f"wrong shape: {name} is {list(held[name])}, config.json asks for {list(want[name])}"
            for name in want.keys() & held.keys()
            if held[name] != want[name]
        ]
        if problems:
            raise UserError(
                f"{params} does not fit config.json\n  " + "\n  ".join(sorted(problems))
            )

        def lies(variable):
            if mesh is None:
                return SingleDeviceSharding(jax.devices()[0])
            return NamedSharding(mesh, partition_spec(variable.get_metadata()["axes"]))

        like = {
            name: jax.ShapeDtypeStruct(v.shape, np.dtype(dtype), sharding=lies(v))
            for name, (_, v) in flat.items()
        }
        values = checkpointer.restore(params, like)
    loaded = [(path, v.replace(values[name])) for name, (path, v) in flat.items()]
    nnx.update(model, nnx.from_flat_state(loaded))
    return model
