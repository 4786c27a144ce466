"""The loss in blocks: what optax says of all logits at once, however many tokens have answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.data import made_up
from tests.train.tiny_step import arrays, flat, gradient, jit, parts


@jit
def dense(trainable, batch):
    def total(trainable):
        model = nnx.merge(parts()[0], trainable, parts()[2])
        scores = model.decoder.logits(model(batch)[0])
        nll = optax.softmax_cross_entropy_with_integer_labels(scores, batch["targets"])
        return jnp.sum(nll * batch["loss_weights"])

    return jax.value_and_grad(total)(trainable)


@pytest.mark.parametrize("length", [128, 123])
@pytest.mark.parametrize("answers", [0, 1, 15, 16, 40, None])
def test_blocks_give_what_all_logits_do(length, answers):
    """Of a row: none, some that one block holds, some that several do, all."""
    examples = made_up.examples()
    batch = arrays(made_up.batch([[example] for example in examples], length=length))
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, (len(examples), length)).astype(np.float32)
    for row in weights[1:] if answers is not None else ():  # the first row has one more
        row[rng.permutation(length)[answers:]] = 0
    if answers is not None:
        weights[0, rng.permutation(length)[answers + 1 :]] = 0
    batch["loss_weights"] = jnp.asarray(weights)
    trainable = jax.tree.map(lambda x: x + 0.05, parts()[1])  # with B = 0 A has no gradient
    want, grads = dense(trainable, batch)
    got, found = gradient()(trainable, batch)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    for name, value in flat(grads).items():
        np.testing.assert_allclose(flat(found)[name], value, atol=2e-5 * np.abs(value).max())
