"""Whole models as Orbax checkpoints: a folder with config.json and `params/`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from vjax.families.spec import ModelSpec
from vjax.interop.save import write_config
from vjax.interop.variables import abstract, axes_of, by_path, check, fill, place
from vjax.models.video_llm import VideoLLM

PARAMS = "params"


def save_orbax(folder: str | Path, model: VideoLLM):
    """Writes config.json and params/: one array a variable, by its path, as it is laid out here."""
    folder = Path(folder).absolute()
    write_config(folder, model.spec)
    values = {path: variable[...] for path, variable in by_path(model).items()}
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
    model = abstract(spec)
    like = {
        path: jax.ShapeDtypeStruct(
            v.shape, np.dtype(dtype), sharding=place(axes_of(v), v.shape, mesh)
        )
        for path, v in by_path(model).items()
    }
    with ocp.StandardCheckpointer() as checkpointer:
        there = checkpointer.metadata(params).item_metadata.tree
        held = {path: tuple(array.shape) for path, array in there.items()}
        problems = [f"missing: {path}" for path in like.keys() - held.keys()]
        problems += [f"not used: {path}" for path in held.keys() - like.keys()]
        problems += [
            f"wrong shape: {path} is {list(held[path])}, config.json asks for {list(v.shape)}"
            for path, v in like.items()
            if path in held and held[path] != v.shape
        ]
        check(params, sorted(problems))
        return fill(model, checkpointer.restore(params, like))
