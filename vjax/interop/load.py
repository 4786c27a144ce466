"""Checkpoint folders in Hugging Face's style -> a VideoLLM, or a DualEncoder."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  numpy then knows bfloat16, which safetensors asks it for
import numpy as np
from jax.sharding import Mesh, Sharding
from safetensors import SafetensorError, safe_open

from vjax.console import UserError
from vjax.families import family_of, read_spec
from vjax.families.dual import DualSpec
from vjax.families.spec import ModelSpec
from vjax.interop.layouts import our_shape, read_ours
from vjax.interop.orbax import PARAMS, load_orbax
from vjax.interop.variables import abstract, axes_of, by_path, check, fill, place
from vjax.models.dual import DualEncoder
from vjax.models.video_llm import VideoLLM

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
POINTER = b"version https://git-lfs"
DTYPES = ("F32", "F16", "BF16", "F64")


def load_model(
    folder: str | Path, *, dtype=jnp.float32, mesh: Mesh | None = None
) -> VideoLLM | DualEncoder:
    """Opens a checkpoint folder (config.json and safetensors) as a model.

    Args:
      folder: e.g. what transformers' `save_pretrained` wrote for a Qwen2VLForConditionalGeneration.
      dtype, mesh: see `load_weights`.

    Raises:
      UserError: the weights do not fit the config (see `load_weights`).
      ValueError: a config.json that no family reads.
    """
    return load_weights(folder, read_spec(folder), dtype=dtype, mesh=mesh)


def load_weights(
    folder: str | Path,
    spec: ModelSpec | DualSpec,
    *,
    dtype=jnp.float32,
    mesh: Mesh | None = None,
) -> VideoLLM | DualEncoder:
    """Builds the model of `spec` and fills it from the folder's safetensors; nothing is drawn.

    Tensors are read one by one, of each no more than the part that this process's devices hold, so
    that beside the model no more than one of them is in memory.

    Args:
      folder: holds model.safetensors, or its shards and model.safetensors.index.json, or what
        `save_orbax` wrote.
      dtype: of the variables, whatever the file's is.
      mesh: lays every variable out by the table of `vjax.sharding`; the default device if None.

    Raises:
      UserError: a file that is missing or broken; numbers that are not finite; or, all in one
        message, every tensor that is missing, left over, of another shape or no float.
    """
    family, folder = family_of(spec.family), Path(folder)
    if (folder / PARAMS).is_dir():
        return load_orbax(folder, spec, dtype=dtype, mesh=mesh)
    model, there = _matched(folder, spec)
    names, values = family.weight_map(spec), {}
    for path, variable in by_path(model).items():
        name, layout = names[path]
        parts = [(there[key], each) for key, each in _parts(name, variable.shape)]
        axes = axes_of(variable)
        values[path] = _variable(parts, "{}" in name, layout, jnp.dtype(dtype), axes, mesh)
    return fill(model, values)


def _parts(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensor of each layer of a variable that stacks over layers, or its one tensor."""
    if "{}" not in name:
        yield name, shape
        return
    for n in range(shape[0]):
        yield name.format(n), shape[1:]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a file, not read yet."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    handle: object  # safetensors' slice

    def __str__(self) -> str:
        return f"{self.name} in {self.file.name}"


def _variable(
    parts: list[tuple[Tensor, tuple[int, ...]]], stacked: bool, layout: str, dtype: jnp.dtype,
    axes: tuple[str, ...], mesh: Mesh | None,
) -> jax.Array:  # fmt: skip
    """A variable on its devices; one of many layers is filled in place, layer by layer."""

    def read(tensor: Tensor, shape: tuple[int, ...], axes: tuple[str, ...]) -> jax.Array:
        def part(index: tuple[slice, ...]) -> np.ndarray:
            value = read_ours(tensor.handle, layout, index)
            if not np.isfinite(value).all():
                bad = int((~np.isfinite(value)).sum())
                raise UserError(f"{tensor.file}: {bad} numbers of {tensor.name} are not finite")
            return np.asarray(value.astype(dtype), order="C")

        return jax.make_array_from_callback(shape, place(axes, shape, mesh), part)

    if not stacked:
        return read(*parts[0], axes)
    shape = (len(parts), *parts[0][1])
    whole = _empty(shape, dtype, place(axes, shape, mesh))
    for n, (tensor, each) in enumerate(parts):
        whole = _fill(whole, read(tensor, each, axes[1:]), n)
    return whole


def _empty(shape: tuple[int, ...], dtype: jnp.dtype, sharding: Sharding) -> jax.Array:
    return jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=sharding)()


@functools.partial(jax.jit, donate_argnums=0)
def _fill(whole: jax.Array, layer: jax.Array, n: int) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(whole, layer, n, 0)


def check_weights(folder: str | Path, spec: ModelSpec | DualSpec):
    """Raises UserError as `load_weights`, but for numbers, which are not read."""
    if not (Path(folder) / PARAMS).is_dir():
        _matched(Path(folder), spec)


def _matched(
    folder: Path, spec: ModelSpec | DualSpec
) -> tuple[VideoLLM | DualEncoder, dict[str, Tensor]]:
    """The model of `spec` without numbers, and the folder's tensors, which fit it."""
    family = family_of(spec.family)
    there, problems = _tensors(folder, family.module_name)
    model = abstract(spec)
    names = family.weight_map(spec)
    used = set()
    for path, variable in by_path(model).items():
        name, layout = names[path]
        for key, each in _parts(name, variable.shape):
            used.add(key)
            if key not in there:
                problems.append(f"missing: {family.file_name(key)}")
                continue
            tensor = there[key]
            shape = our_shape(tensor.shape, layout)
            if shape != each:
                problems.append(
                    f"wrong shape: {tensor} is {list(shape)} in our layout ({layout}), config.json "
                    f"asks for {list(each)}"
                )
            if tensor.dtype not in DTYPES:
                problems.append(
                    f"wrong dtype: {tensor} is {tensor.dtype}, not one of {', '.join(DTYPES)}"
                )
    problems += [
        f"not used: {there[key]}"
        for key in sorted(there.keys() - used)
        if not family.is_unused(spec, key)
    ]
    check(folder, problems)
    return model, there


def _tensors(folder: Path, module_name) -> tuple[dict[str, Tensor], list[str]]:
    """Every tensor of the folder by the name of its module, and what is wrong with the list."""
    found: dict[str, Tensor] = {}
    problems = []
    for file, names in _files(folder).items():
        opened = _open(file)
        held = set(opened.keys())
        for name in sorted(held if names is None else names):
            key = module_name(name)
            if name not in held:
                problems.append(f"missing: {name}, which {INDEX} puts into {file.name}")
            elif key in found:
                problems.append(f"twice: {name} in {file.name} and {found[key].name}")
            else:
                handle = opened.get_slice(name)
                shape = tuple(handle.get_shape())
                found[key] = Tensor(file, name, shape, handle.get_dtype(), handle)
    return found, problems


def _files(folder: Path) -> Mapping[Path, list[str] | None]:
    """file -> the names it should hold, or None for whatever it holds."""
    index = folder / INDEX
    if index.exists():
        files: dict[Path, list[str]] = {}
        try:
            names = dict(json.loads(index.read_text(), object_pairs_hook=_once)["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{index}: not an index of shards ({error})") from None
        for name, file in names.items():
            if not isinstance(file, str) or Path(file).name != file or file == "..":
                raise UserError(f"{index}: {name} is in {file!r}, which is outside the folder")
            files.setdefault(folder / file, []).append(name)
        return files
    if (folder / WEIGHTS).exists():
        return {folder / WEIGHTS: None}
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder}: {pickles[0]} is a pickle, which runs whatever code is in it; save the "
            "model as safetensors (transformers' save_pretrained does)"
        )
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    there = f"; {', '.join(shards)} need it to say what is in them: fetch it" if shards else ""
    raise UserError(f"{folder}: neither {WEIGHTS} nor {INDEX} is there{there}")


def _once(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is there twice")
    return found


def _open(file: Path):
    if not file.is_file():
        raise UserError(f"{file}: a shard that {INDEX} names is missing; fetch it")
    try:
        return safe_open(file, framework="np")
    except (SafetensorError, OSError) as error:
        with open(file, "rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise UserError(
                    f"{file}: a pointer of git-lfs and not the file; git lfs pull fetches it"
                ) from None
        raise UserError(f"{file}: not a whole safetensors file ({error}); copy it again") from None
