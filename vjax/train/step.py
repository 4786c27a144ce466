"""The train step: one jitted function from (state, frozen, batch) to (state, metrics)."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from vjax.train.loss import token_loss


@flax.struct.dataclass
class TrainState:
    """All that a step changes. Trees of shardings or shapes come in it too.

    Attributes:
      trainable: nnx.State of the trainable variables; optimizer: optax state; step: int32 [].
    """

    trainable: Any
    optimizer: Any
    step: Any


def make_step(
    graphdef: nnx.GraphDef,
    tx: optax.GradientTransformation,
    *,
    dtype=jnp.float32,
    remat: bool = False,
    accumulate: int = 1,
    seed: int = 0,
    dropout: bool = False,
) -> Callable:
    """Builds `step(state, frozen, batch) -> (state, metrics)`, to be jitted by the caller.

    The loss is the sum of token losses over the global token count, also when a batch is cut into
    `accumulate` micro-batches (a leading axis of every batch field): the mean over means of
    micro-batches would weigh tokens of short answers more.

    Metrics: loss, grad_norm, tokens (target tokens), all float32 [].
    """

    def loss_and_grad(trainable, frozen, batch, key):
        def loss(trainable):
            return token_loss(
                nnx.merge(graphdef, trainable, frozen), batch, dtype=dtype, remat=remat, key=key
            )

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    def step(state: TrainState, frozen: nnx.State, batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(seed), state.step) if dropout else None
        if accumulate == 1:
            (total, count), grads = loss_and_grad(state.trainable, frozen, batch, key)
        else:

            def micro(carry, xs):
                n, part = xs
                part_key = None if key is None else jax.random.fold_in(key, n)
                (total, count), grads = loss_and_grad(state.trainable, frozen, part, part_key)
                return jax.tree.map(jnp.add, carry, (total, count, grads)), None

            zero = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trainable))
            (total, count, grads), _ = jax.lax.scan(micro, zero, (jnp.arange(accumulate), batch))
        count = jnp.maximum(count, 1.0)
        grads = jax.tree.map(lambda g: g / count, grads)
        updates, optimizer = tx.update(grads, state.optimizer, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        metrics = {"loss": total / count, "grad_norm": optax.tree.norm(grads), "tokens": count}
        return TrainState(trainable, optimizer, state.step + 1), metrics

    return step
