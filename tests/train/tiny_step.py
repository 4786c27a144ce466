"""A tiny model in parts, its step, and batches as arrays. What is compiled is compiled once."""

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
from vjax.train.loss import token_loss
from vjax.train.step import TrainState, make_step

LR = 1e-2
LENGTH = 128
# one adapter of every kind of layer, so that compiling stays short
TARGETS = "(tower|decoder)/layers/attn/q|decoder/layers/mlp/down|tower/patch|projector/fc1"
# tests compile more than they run
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def parts(trainable="lora", *, dropout=0.0, targets=TARGETS):
    """(graphdef, trainable, frozen) of a model whose every variable is random, B = 0 apart."""
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
def batch(shift: int = 0):
    """Four examples, one a row, in another order for every shift."""
    examples = made_up.examples()
    rows = [[examples[(shift + k) % 4]] for k in range(4)]
    return arrays(made_up.batch(rows, length=LENGTH))


TRANSFORMS = {
    "adamw": adamw,
    "sgd": lambda trainable: optax.sgd(1.0),
    "none": lambda trainable: optax.set_to_zero(),
}


@functools.cache
def stepper(of="lora", tx="adamw", *, lora_dropout=0.0, **options):
    """The parts, the optimiser and the compiled step."""
    model = parts(of, dropout=lora_dropout)
    made = TRANSFORMS[tx](model[1])
    return model, made, jit(make_step(model[0], made, **options))


def take(over, *args, start=None, **options):
    """The state and the metrics after a step on each batch of `over`."""
    (_, trainable, frozen), tx, step = stepper(*args, **options)
    trainable = trainable if start is None else start
    state = TrainState(trainable, tx.init(trainable), jnp.zeros((), jnp.int32))
    seen = []
    for one in over:
        state, metrics = step(state, frozen, one)
        seen.append({name: np.asarray(value) for name, value in metrics.items()})
    return state, seen


@functools.cache
def gradient(of="lora"):
    """grad(trainable, batch) -> summed loss and its gradients."""
    graphdef, _, frozen = parts(of)

    def total(trainable, batch):
        model = nnx.merge(graphdef, trainable, frozen)
        return token_loss(model, batch, dtype=jnp.float32, remat=False, key=None)[0]

    return jit(jax.value_and_grad(total))


@jit
def logits_of(frozen_and_trainable, batch):
    model = nnx.merge(parts()[0], *frozen_and_trainable)
    return model.decoder.logits(model(batch)[0])


def logits(batch) -> np.ndarray:
    """float32 [B, T, vocab] of the model with its fresh adapter."""
    return np.asarray(logits_of(parts()[1:], batch))
