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
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def save_adapter(folder: str | Path, model: VideoLLM, base_name: str):
    """Writes adapter_model.safetensors (float32) and adapter_config.json.

    Names are those of transformers 5's modules: `base_model.model.` + module + `.lora_A.weight`
    [R, in] and `.lora_B.weight` [out, R] (the Conv2d's: [R, C, h, w], [D, R, 1, 1]), per layer.

    Args:
      base_name: name or path of the base model, for users of PEFT.

    Raises:
      ValueError: the model has no adapters, or not all of one rank, scale and dropout.
    """
    adapted = {path: d for path, d in _dense(model).items() if d.lora_a is not None}
    if not adapted:
        raise ValueError("the model has no adapters to save")
    kinds = {(d.lora_a.shape[-1], d.lora_scale, d.lora_dropout) for d in adapted.values()}
    if len(kinds) > 1:
        raise ValueError(f"adapters of several (rank, scale, dropout) {sorted(kinds)}: one only")
    rank, scale, dropout = kinds.pop()
    tensors, patterns = {}, []
    for path, dense in adapted.items():
        module, layout = _module(model, path)
        patterns.append(re.escape(module).replace(r"\{\}", r"\d+"))
        for part, variable in (("A", dense.lora_a), ("B", dense.lora_b)):
            value = np.asarray(variable[...], np.float32)
            for i, w in enumerate(value if value.ndim == 3 else [value]):
                conv_b = (part, layout) == ("B", "conv")
                w = to_theirs(w, "linear" if conv_b else layout)
                key = f"{PREFIX}{module.format(i)}.lora_{part}.weight"
                tensors[key] = w[:, :, None, None] if conv_b else w
    config = PLAIN | {
        "base_model_name_or_path": base_name,
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": dropout,
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

    rank, found, problems = config["r"], {}, []
    for path, dense in _dense(model).items():
        module, layout = _module(model, path)
        *stack, d_in, d_out = dense.kernel.shape
        names = [module.format(i) for i in range(stack[0] if stack else 1)]
        if not any(f"{name}.lora_A.weight" in tensors for name in names):
            continue
        found[path] = []
        for part, shape in (("A", (d_in, rank)), ("B", (rank, d_out))):
            layers = []
            for key in (f"{name}.lora_{part}.weight" for name in names):
                w = tensors.pop(key, None)
                if w is None:
                    problems.append(f"missing: {key}")
                    continue
                conv_b = (part, layout) == ("B", "conv")
                w = w.reshape(w.shape[:2]).T if conv_b else to_ours(w, layout)
                if w.shape != shape:
                    problems.append(
                        f"wrong shape: {key} is {list(w.shape)} in our layout, "
                        f"the model asks for {list(shape)}"
                    )
                layers.append(w)
            found[path].append(layers if stack else layers[0])
    problems += [f"not used: {key}" for key in sorted(tensors)]
    if problems:
        raise UserError(f"{folder / WEIGHTS} does not fit the model\n  " + "\n  ".join(problems))

    for dense in _dense(model).values():
        _strip(dense)
    alpha, dropout = config["lora_alpha"], config["lora_dropout"]
    targets = "|".join(map(re.escape, found))
    lora.add(model, rank=rank, alpha=alpha, dropout=dropout, targets=targets, rngs=nnx.Rngs(0))
    for path, dense in _dense(model).items():
        if path in found:
            a, b = found[path]
            dense.lora_a[...] = jnp.asarray(np.array(a, np.float32))
            dense.lora_b[...] = jnp.asarray(np.array(b, np.float32))


def merge(model: VideoLLM) -> VideoLLM:
    """The same model with W + (alpha / R) A B in the place of W, and no adapters."""
    model = nnx.clone(model)
    for dense in _dense(model).values():
        if dense.lora_a is not None:
            kernel = dense.kernel[...]
            low = jnp.matmul(dense.lora_a[...], dense.lora_b[...], precision="highest")
            dense.kernel[...] = (kernel + dense.lora_scale * low).astype(kernel.dtype)
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
    dense.lora_a, dense.lora_b = nnx.data(None), nnx.data(None)
    dense.lora_scale = dense.lora_dropout = 0.0
