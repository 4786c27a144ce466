"""LoRA adapters in the layout of the PEFT library, and folding them into the weights."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vjax.console import UserError
from vjax.families import family_of
from vjax.interop.layouts import to_ours, to_theirs
from vjax.models import lora
from vjax.models.layers import Dense
from vjax.models.video_llm import VideoLLM

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

# settings of a PEFT config that change what an adapter computes, and the one value that is read
PLAIN = {
    "peft_type": "LORA",
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "modules_to_save": None,
    "lora_bias": False,
    "use_qalora": False,
    "layer_replication": None,
    "trainable_token_indices": None,
}
PARTS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def save_adapter(folder: str | Path, model: VideoLLM, base_name: str):
    """Writes adapter_model.safetensors (float32) and adapter_config.json.

    Names are those of transformers 5's modules: `base_model.model.` + module + `.lora_A.weight`
    [R, in] and `.lora_B.weight` [out, R] (a convolution's: [R, C, h, w], [D, R, 1, 1]), per layer;
    and with DoRA `.lora_magnitude_vector` [out] ([1, D, 1, 1]). An rsLoRA adapter is saved as the
    plain one that computes the same.

    Args:
      base_name: name or path of the base model, for users of PEFT.

    Raises:
      ValueError: the model has no adapters, or not all of one rank, scale and dropout.
    """
    adapted = {path: d for path, d in _dense(model).items() if d.lora_a is not None}
    if not adapted:
        raise ValueError("the model has no adapters to save")
    kinds = {
        (d.lora_a.shape[-1], d.lora_scale, d.lora_dropout, d.magnitude is not None)
        for d in adapted.values()
    }
    if len(kinds) > 1:
        raise ValueError(
            f"adapters of several (rank, scale, dropout, DoRA) {sorted(kinds)}: one only"
        )
    rank, scale, dropout, dora = kinds.pop()
    tensors, patterns = {}, []
    for path, dense in adapted.items():
        module, layout = _module(model, path)
        patterns.append(re.escape(module).replace(r"\{\}", r"\d+"))
        stacked = dense.kernel.ndim == 3
        for part, name in PARTS.items():
            if part == "magnitude" and not dora:
                continue
            value = np.asarray(getattr(dense, part)[...], np.float32)
            for i, w in enumerate(value if stacked else [value]):
                tensors[f"{PREFIX}{module.format(i)}.{name}"] = _part_to_theirs(w, part, layout)
    config = PLAIN | {
        "base_model_name_or_path": base_name,
        # PEFT's Auto classes take Video-LLMs only where nothing is said
        "task_type": None if model.spec.vision else "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": dropout,
        "use_dora": dora,
        "use_rslora": False,
        # PEFT matches it in full against module names: our layers and no other
        "target_modules": "|".join(sorted(patterns)),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_adapter(folder: str | Path, model: VideoLLM):
    """Puts a PEFT LoRA adapter into `model` (float32), in place of any that it has.

    Raises:
      UserError: a broken file, a setting that is not read, or tensors that do not fit, all listed.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{folder}: no whole PEFT adapter ({error})") from None
    odd = [f"{key}={config[key]!r}" for key, v in PLAIN.items() if (config.get(key) or v) != v]
    if odd:
        raise UserError(f"{folder / CONFIG}: settings that are not read: {', '.join(odd)}")
    rename = family_of(model.spec.family).module_name
    tensors = {rename(name.removeprefix(PREFIX)): w for name, w in tensors.items()}

    rank, alpha, dora = config["r"], config["lora_alpha"], bool(config.get("use_dora"))
    parts = {part: name for part, name in PARTS.items() if dora or part != "magnitude"}
    found, problems = {}, []
    for path, dense in _dense(model).items():
        module, layout = _module(model, path)
        *stack, d_in, d_out = dense.kernel.shape
        names = [module.format(i) for i in range(stack[0] if stack else 1)]
        if not any(f"{name}.lora_A.weight" in tensors for name in names):
            continue
        shapes = {"lora_a": (d_in, rank), "lora_b": (rank, d_out), "magnitude": (d_out,)}
        found[path] = {}
        for part, suffix in parts.items():
            layers = []
            for key in (f"{name}.{suffix}" for name in names):
                w = tensors.pop(key, None)
                if w is None:
                    problems.append(f"missing: {key}")
                    continue
                w = _part_to_ours(w, part, layout)
                if w.shape != shapes[part]:
                    problems.append(
                        f"wrong shape: {key} is {list(w.shape)} in our layout, "
                        f"the model asks for {list(shapes[part])}"
                    )
                layers.append(w)
            found[path][part] = layers if stack else layers[:1]
    problems += [f"not used: {key}" for key in sorted(tensors)]
    if problems:
        raise UserError(f"{folder / WEIGHTS} does not fit the model\n  " + "\n  ".join(problems))

    for dense in _dense(model).values():
        _strip(dense)
    lora.add(
        model,
        rank=rank,
        alpha=alpha,
        dropout=config["lora_dropout"],
        targets="|".join(map(re.escape, found)),
        rngs=nnx.Rngs(0),
        kind="dora" if dora else "lora",
    )
    scale = lora.scale_of("rslora" if config.get("use_rslora") else "lora", rank, alpha)
    for path, dense in _dense(model).items():
        for part, layers in found.get(path, {}).items():
            value = np.array(layers, np.float32)
            variable = getattr(dense, part)
            variable[...] = jnp.asarray(value.reshape(variable.shape))
            dense.lora_scale = scale


def _part_to_theirs(w: np.ndarray, part: str, layout: str) -> np.ndarray:
    """One layer's lora_a, lora_b or magnitude as PEFT lays it out."""
    if part == "lora_a" or not layout.startswith("conv"):
        return to_theirs(w, layout if part == "lora_a" else "linear")
    ones = (1,) * (3 if "/" in layout else 2)
    w = to_theirs(w, "linear")
    return w.reshape(*w.shape, *ones) if part == "lora_b" else w.reshape(1, -1, *ones)


def _part_to_ours(w: np.ndarray, part: str, layout: str) -> np.ndarray:
    """The other way."""
    if not layout.startswith("conv"):
        return w.T
    if part == "lora_a":
        return to_ours(w, layout)
    return w.reshape(w.shape[:2]).T if part == "lora_b" else w.reshape(-1)


def merge(model: VideoLLM) -> VideoLLM:
    """The same model with what the adapters compute folded into W, and no adapters."""
    model = nnx.clone(model)
    for dense in _dense(model).values():
        if dense.lora_a is not None:
            kernel = dense.adapted()
            if dense.magnitude is not None:
                stretch = dense.magnitude[...] / dense.column_lengths()
                kernel = (kernel * stretch[..., None, :]).astype(kernel.dtype)
            dense.kernel[...] = kernel
            _strip(dense)
    return model


def _dense(model: VideoLLM) -> dict[str, Dense]:
    """path -> layer, sorted."""
    modules = {lora.path_str(path): module for path, module in nnx.iter_modules(model)}
    return {path: modules[path] for path in sorted(modules) if isinstance(modules[path], Dense)}


def _module(model: VideoLLM, path: str) -> tuple[str, str]:
    """The torch module (`{}` for the layer) of one of our layers, and its weight's layout."""
    name, layout = family_of(model.spec.family).weight_map(model.spec)[f"{path}/kernel"]
    return name.removesuffix(".weight"), layout


def _strip(dense: Dense):
    dense.lora_a, dense.lora_b, dense.magnitude = (nnx.data(None) for _ in range(3))
    dense.lora_scale = dense.lora_dropout = 0.0
