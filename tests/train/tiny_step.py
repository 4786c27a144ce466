"""A tiny model in parts, its step, and batches as arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tests.data import made_up
from tests.models import tiny
from vjax.models import lora
from vjax.train import optimizer
from vjax.train.step import TrainState, make_step

LR = 1e-2


def parts(trainable="lora", *, dropout=0.0, targets=".*"):
    """(graphdef, trainable, frozen) of a model whose every base variable is random."""
    model = tiny.model(made_up.SPEC)
    if trainable == "lora":
        lora.add(model, rank=2, alpha=4.0, dropout=dropout, targets=targets, rngs=nnx.Rngs(1))
    return nnx.split(model, lora.trainable_filter(trainable), ...)


def adamw(trainable, **options):
    defaults = dict(b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.0, clip_norm=1.0)
    return optimizer.make(trainable, optax.constant_schedule(LR), **defaults | options)


def arrays(batch):
    return {name: jnp.asarray(field) for name, field in batch.items() if name != "item"}


def flat(state) -> dict[str, np.ndarray]:
    return {lora.path_str(path): np.asarray(v[...]) for path, v in nnx.to_flat_state(state)}


@functools.cache
def batches(n: int = 3):
    """Batches of four examples each; the same shapes."""
    examples = made_up.examples()
    return [arrays(made_up.batch([[examples[(i + k) % 4]] for k in range(4)])) for i in range(n)]


def take(graphdef, trainable, frozen, tx, over, **options):
    """The state and the metrics after a step on each batch."""
    step = jax.jit(make_step(graphdef, tx, **options))
    state = TrainState(trainable, tx.init(trainable), jnp.zeros((), jnp.int32))
    seen = []
    for batch in over:
        state, metrics = step(state, frozen, batch)
        seen.append({name: np.asarray(value) for name, value in metrics.items()})
    return state, seen
