"""AdamW with warm-up, clipping, and one learning-rate multiplier per parameter group."""

import re
from collections.abc import Sequence

import jax
import optax
from flax import nnx

from vjax.models.lora import path_str

VECTORS = ("bias", "norm")  # axis names of what weight decay leaves alone


def schedule(kind: str, *, lr: float, steps: int, warmup: float) -> optax.Schedule:
    """Linear warm-up over the share `warmup` of `steps`, then `cosine`, `linear` or `constant`."""
    ramp = max(1, round(steps * warmup))
    rest = max(1, steps - ramp)
    tails = {
        "cosine": lambda: optax.cosine_decay_schedule(lr, rest),
        "linear": lambda: optax.linear_schedule(lr, 0.0, rest),
        "constant": lambda: optax.constant_schedule(lr),
    }
    if kind not in tails:
        raise ValueError(f"optim.schedule {kind!r} is none of {', '.join(tails)}")
    # starts above zero, so that the first step counts
    return optax.join_schedules(
        [optax.linear_schedule(lr / ramp, lr, max(1, ramp - 1)), tails[kind]()], [ramp]
    )


def leaf_paths(params) -> list[str]:
    """The path of every leaf, as `decoder/layers/attn/q/lora_a`, in tree order."""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=lambda x: hasattr(x, "get_metadata")
    )
    return [
        path_str(tuple(getattr(k, "key", getattr(k, "idx", k)) for k in path)) for path, _ in flat
    ]


def decays(params):
    """True for matrices, False for biases and norms (which, stacked, have two axes too)."""
    return jax.tree.map(
        lambda v: v.replace(v.get_metadata()["axes"][-1] not in VECTORS),
        params,
        is_leaf=lambda x: isinstance(x, nnx.Variable),
    )


def make(
    params,
    lr: optax.Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    groups: Sequence[str] = (),
    b_lr_ratio: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW over the trainable partition.

    Args:
      params: the trainable pytree, for its paths.
      weight_decay: on matrices only (biases and norms are left alone).
      clip_norm: global norm of all trainable gradients; 0 switches it off.
      groups: `regex=multiplier` strings; the first whose regex matches a parameter's whole path
        scales its learning rate (0 freezes it). A regex that matches nothing is an error.
      b_lr_ratio: scales the learning rate of every `lora_b` on top of that (LoRA+, arXiv
        2402.12354).
    """
    paths = leaf_paths(params)
    rules = [
        (pattern, float(factor))
        for pattern, _, factor in (group.rpartition("=") for group in groups)
    ]
    for pattern, _ in rules:
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise ValueError(
                f"optim.groups {pattern!r} matches no trainable parameter; "
                f"there are: {', '.join(paths)}"
            )

    def factor_of(path: str) -> float:
        factor = next((factor for pattern, factor in rules if re.fullmatch(pattern, path)), 1.0)
        return factor * b_lr_ratio if path.endswith("/lora_b") else factor

    def adamw(factor: float) -> optax.GradientTransformation:
        if factor == 0:
            return optax.set_to_zero()
        return optax.adamw(
            lambda step: factor * lr(step), b1, b2, eps, weight_decay=weight_decay, mask=decays
        )

    treedef = jax.tree.structure(params)
    factors = [factor_of(path) for path in paths]
    labels = jax.tree.unflatten(treedef, [f"x{factor:g}" for factor in factors])
    parts = {f"x{factor:g}": adamw(factor) for factor in factors}
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    grouped = rules or b_lr_ratio != 1
    return optax.chain(*clip, optax.partition(parts, labels) if grouped else adamw(1.0))
