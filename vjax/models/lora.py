"""Adding adapters, and saying which variables train."""

import re
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from vjax.models.layers import Dense, LoRAParam


def path_str(path: tuple) -> str:
    """('decoder', 'layers', 'attn', 'q') -> 'decoder/layers/attn/q'."""
    return "/".join(str(part) for part in path)


Kind = Literal["lora", "rslora", "dora"]


def scale_of(kind: Kind, rank: int, alpha: float) -> float:
    """What A B is multiplied by: alpha / R, or alpha / sqrt(R) (rsLoRA, arXiv 2312.03732)."""
    return alpha / rank**0.5 if kind == "rslora" else alpha / rank


def add(
    model: nnx.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: str,
    rngs: nnx.Rngs,
    kind: Kind = "lora",
) -> list[str]:
    """Puts an adapter into every Dense whose path matches `targets` in full.

    A is drawn as PEFT draws it (Kaiming uniform with a = sqrt(5), that is U(+-1/sqrt(D_in))), B is
    zero, so that the model's output does not change.

    Args:
      kind: `rslora` scales otherwise, `dora` has a magnitude too, of what the kernel's columns are.
      targets: a regular expression over paths such as `decoder/layers/attn/q`, matched in full.

    Returns:
      The paths that got one.

    Raises:
      ValueError: `targets` matches nothing; the message lists what there is.
    """
    dense = {
        path_str(path): module
        for path, module in nnx.iter_modules(model)
        if isinstance(module, Dense)
    }
    hit = [path for path in sorted(dense) if re.fullmatch(targets, path)]
    if not hit:
        raise ValueError(
            f"lora.targets {targets!r} matches no layer; layers: {', '.join(sorted(dense))}"
        )
    for path in hit:
        layer = dense[path]
        *stack, d_in, d_out = layer.kernel.shape
        names = layer.kernel.get_metadata()["axes"]
        bound = d_in**-0.5
        a = rngs.params.uniform((*stack, d_in, rank), minval=-bound, maxval=bound)
        layer.lora_a = LoRAParam(a, axes=(*names[:-1], "rank"))
        layer.lora_b = LoRAParam(
            jnp.zeros((*stack, rank, d_out)), axes=(*names[:-2], "rank", names[-1])
        )
        layer.lora_scale = scale_of(kind, rank, alpha)
        layer.lora_dropout = dropout
        layer.magnitude = nnx.data(None)
        if kind == "dora":
            layer.magnitude = LoRAParam(layer.column_lengths(), axes=(*names[:-2], "bias"))
    return hit


def split_trainable(pattern: str) -> tuple[bool, str]:
    """`lora|projector/.*` -> (True, `projector/.*`): whether adapters train, and what else does."""
    first, _, rest = pattern.partition("|")
    return (True, rest) if first == "lora" else (False, pattern)


def trainable_filter(pattern: str):
    """An nnx filter: `lora` selects the adapters; anything else is a regex over variable paths.

    Examples: `lora`, `projector/.*`, `.*` (everything), `lora|projector/.*` (adapters and, beside
    them, the projector).
    """
    adapters, rest = split_trainable(pattern)
    if not rest:
        return LoRAParam
    regex = re.compile(rest)
    return lambda path, value: (
        isinstance(value, nnx.Variable)
        and (bool(regex.fullmatch(path_str(path))) or (adapters and isinstance(value, LoRAParam)))
    )
