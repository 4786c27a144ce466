"""Packing: logits and gradients of examples that share rows are those of each one alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.data import made_up
from tests.models import tiny
from tests.train.tiny_step import jit
from vjax.data.collate import Shape, collate
from vjax.prompts import Prompt, tokenizer
from vjax.prompts.chat import Chat
from vjax.prompts.media import Squares

SPECS = {
    "one position": made_up.SPEC,
    "M-RoPE": dataclasses.replace(
        made_up.SPEC, text=dataclasses.replace(made_up.SPEC.text, mrope=(2, 3, 3))
    ),
    "sliding window": dataclasses.replace(
        made_up.SPEC, text=dataclasses.replace(made_up.SPEC.text, window=7)
    ),
}


def examples(spec):
    chat = Chat(made_up.small_tokenizer(), tokenizer.TINY_TEMPLATE, spec, Squares.of(spec))
    rng = np.random.default_rng(0)
    made = []
    for frames in (2, 0, 1, 3):
        images = tuple(rng.integers(0, 256, (frames, 16, 16, 3)).astype(np.uint8))
        parts = [("text", "Tell me. ")] + [("frame", n) for n in range(frames)]
        made.append(chat.encode(Prompt((*parts, ("text", "What is it?")), images, "A red box.")))
    return made


def batch(spec, rows):
    """One shape for both, so that one program is compiled."""
    shape = Shape(4, 96, 16, 16, spec.frame_side**2, row_images=4)
    made = collate(rows, shape, pad_token_id=made_up.PAD)
    return {name: jnp.asarray(field) for name, field in made.items() if name != "item"}


@pytest.mark.parametrize("name", SPECS)
def test_packed_is_unpacked(name):
    spec = SPECS[name]
    graphdef, state = nnx.split(tiny.model(spec))
    all_of = examples(spec)
    assert all((e.rope is not None) == (name == "M-RoPE") for e in all_of)

    @jit
    def run(state, one):
        def loss(state):
            model = nnx.merge(graphdef, state)
            hidden = model(one, dtype=jnp.float32, remat=False)[0]
            logits = model.decoder.logits(hidden)
            nll = optax.softmax_cross_entropy_with_integer_labels(logits, one["targets"])
            return jnp.sum(nll * one["loss_weights"]), logits

        return jax.value_and_grad(loss, has_aux=True)(state)

    (got, logits), grads = run(state, batch(spec, [all_of[:2], [all_of[2]], [all_of[3]]]))
    (want, alone), summed = run(state, batch(spec, [[example] for example in all_of]))
    n = len(all_of[0].tokens)
    for k, (b, start) in enumerate([(0, 0), (0, n), (1, 0), (2, 0)]):
        size = len(all_of[k].tokens)
        here = logits[b, start : start + size]
        np.testing.assert_allclose(here, alone[k, :size], atol=1e-5, err_msg=f"example {k}")
    np.testing.assert_allclose(got, want, rtol=1e-6)
    pairs = zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(summed), strict=True)
    for (path, one), other in pairs:
        size = max(1.0, float(jnp.abs(other).max()))
        np.testing.assert_allclose(one, other, atol=1e-5 * size, err_msg=str(path))
