"""A VideoLLM or a DualEncoder -> a checkpoint folder that transformers opens."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from vjax.families import family_of
from vjax.families.dual import DualSpec
from vjax.families.spec import ModelSpec
from vjax.interop.layouts import to_theirs
from vjax.interop.variables import by_path
from vjax.models.dual import DualEncoder
from vjax.models.layers import LoRAParam
from vjax.models.video_llm import VideoLLM

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


def write_config(folder: Path, spec: ModelSpec | DualSpec, **settings):
    """Makes the folder where it is not there, and in it the config.json of `spec`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = family_of(spec.family).config_json(spec) | settings
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_model(
    folder: str | Path,
    model: VideoLLM | DualEncoder,
    *,
    dtype: str = "bfloat16",
    files: Iterable[Path] = (),
):
    """Writes config.json and model.safetensors, and copies `files` (tokenizer, chat template, ...).

    Args:
      folder: made where it is not there.
      model: without adapters; see `vjax.interop.peft.merge`.
      dtype: on disk, `bfloat16` or `float32`.

    Raises:
      ValueError: the model has adapters.
    """
    variables = by_path(model)
    if any(isinstance(v, LoRAParam) for v in variables.values()):
        raise ValueError("the model has adapters: merge them first, or save them by save_adapter")
    family = family_of(model.spec.family)
    on_disk = DTYPES[dtype]
    values = {path: np.asarray(v[...]) for path, v in variables.items()}
    tensors = dict(family.unused_weights(model.spec))
    for path, (name, layout) in family.weight_map(model.spec).items():
        if "{}" in name:
            tensors |= {name.format(i): to_theirs(w, layout) for i, w in enumerate(values[path])}
        else:
            tensors[name] = to_theirs(values[path], layout)

    folder = Path(folder)
    write_config(folder, model.spec, dtype=dtype)
    tensors = {family.file_name(name): w.astype(on_disk) for name, w in sorted(tensors.items())}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in files:
        shutil.copy(file, folder)
