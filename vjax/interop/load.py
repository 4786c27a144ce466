"""Checkpoint folders in Hugging Face's style -> a VideoLLM."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes  # noqa: F401  numpy then knows bfloat16, which safetensors asks it for
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from vjax.console import UserError
from vjax.families import family_of, read_spec
from vjax.families.spec import ModelSpec
from vjax.interop.layouts import to_ours
from vjax.models.lora import path_str
from vjax.models.video_llm import VideoLLM

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load(folder: str | Path, *, dtype=jnp.float32) -> VideoLLM:
    """Opens a checkpoint folder (config.json and safetensors) as a model.

    Args:
      folder: e.g. what transformers' `save_pretrained` wrote for a LlavaForConditionalGeneration.
      dtype: of the variables.

    Raises:
      UserError: the weights do not fit the config (see `load_weights`).
      ValueError: a config.json that no family reads.
    """
    return load_weights(folder, read_spec(folder), dtype=dtype)


def load_weights(folder: str | Path, spec: ModelSpec, *, dtype=jnp.float32) -> VideoLLM:
    """Builds the model of `spec` and fills it from the folder's safetensors; nothing is drawn.

    Args:
      folder: holds model.safetensors, or its shards and model.safetensors.index.json.
      dtype: of the variables, whatever the file's is.

    Raises:
      UserError: a file that is missing or broken, or, all in one message, every tensor that is
        missing, left over or of another shape.
    """
    family = family_of(spec.family)
    folder = Path(folder)
    where, opened, problems = {}, {}, []
    for file, names in _files(folder).items():
        opened[file] = _open(file)
        held = set(opened[file].keys())
        for name in sorted(held if names is None else names):
            ours = family.module_name(name)
            if name not in held:
                problems.append(f"missing: {name}, which {INDEX} puts into {file.name}")
            elif ours in where:
                problems.append(f"twice: {name} in {file.name} and {where[ours][1]}")
            else:
                where[ours] = (file, name)

    model = nnx.eval_shape(lambda: VideoLLM(spec, rngs=nnx.Rngs(0)))
    variables = {path_str(path): v for path, v in nnx.to_flat_state(nnx.state(model))}
    weights = {}
    used = set()
    for path, (name, layout) in family.weight_map(spec).items():
        want = variables[path].shape
        stacked = "{}" in name
        each = want[1:] if stacked else want
        value = np.empty((want[0] if stacked else 1, *each), dtype)
        for i in range(len(value)):
            key = name.format(i)
            used.add(key)
            if key not in where:
                problems.append(f"missing: {family.file_name(key)}")
                continue
            file, stored = where[key]
            w = to_ours(opened[file].get_tensor(stored), layout)
            if w.shape != each:
                problems.append(
                    f"wrong shape: {stored} in {file.name} is {list(w.shape)} in our layout"
                    f" ({layout}), config.json asks for {list(each)}"
                )
                continue
            value[i] = w
        weights[path] = value if stacked else value[0]
    for key in sorted(where.keys() - used):
        if not family.is_unused(spec, key):
            file, stored = where[key]
            problems.append(f"not used: {stored} in {file.name}")
    if problems:
        count = f"{len(problems)} tensor(s) do not fit config.json"
        raise UserError(f"{folder}: {count}\n  " + "\n  ".join(problems))

    flat = [
        (path, v.replace(jnp.asarray(weights[path_str(path)])))
        for path, v in nnx.to_flat_state(nnx.state(model))
    ]
    nnx.update(model, nnx.from_flat_state(flat))
    return model


def _files(folder: Path) -> Mapping[Path, list[str] | None]:
    """file -> the names it should hold, or None for whatever it holds."""
    index = folder / INDEX
    if index.exists():
        files: dict[Path, list[str]] = {}
        for name, file in json.loads(index.read_text())["weight_map"].items():
            files.setdefault(folder / file, []).append(name)
        return files
    if (folder / WEIGHTS).exists():
        return {folder / WEIGHTS: None}
    raise UserError(f"{folder}: neither {WEIGHTS} nor {INDEX} is there")


def _open(file: Path):
    try:
        return safe_open(file, framework="np")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a whole safetensors file ({error}); copy it again") from None
