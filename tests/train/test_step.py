"""The step: what it sums, what it changes, and what it leaves alone to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.data import made_up
from tests.train.tiny_step import (
    LENGTH,
    arrays,
    batch,
    flat,
    gradient,
    jit,
    logits,
    parts,
    take,
)
from vjax.data.packing import pack


def same(a, b) -> dict[str, bool]:
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    return {name: np.array_equal(a[name], b[name]) for name in a}


# ---- the loss


@pytest.mark.smoke
def test_loss_is_the_mean_over_answer_tokens():
    one = batch()
    _, (metrics,) = take([one])
    scores = logits(one).astype(np.float64)
    logp = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    nll = -np.take_along_axis(logp, np.asarray(one["targets"])[..., None], -1)[..., 0]
    weights = np.asarray(one["loss_weights"])
    assert metrics["tokens"] == weights.sum() == sum(e.answer.sum() for e in made_up.examples())
    np.testing.assert_allclose(metrics["loss"], (nll * weights).sum() / weights.sum(), rtol=1e-5)


def test_a_batch_of_holes_changes_nothing():
    empty = arrays(made_up.batch([], height=4, length=LENGTH))
    state, (metrics,) = take([empty])
    assert metrics["loss"] == metrics["grad_norm"] == 0
    assert all(same(state.trainable, parts()[1]).values())


# ---- packing


def packed_and_alone():
    """The same examples sharing rows, and one a row; where each lies in the packed batch."""
    examples = made_up.examples()
    rows = pack([len(e.tokens) for e in examples], LENGTH)
    assert len(rows) < len(examples)
    packed = made_up.batch([[examples[n] for n in row] for row in rows], height=4, length=LENGTH)
    where = {}
    for b, row in enumerate(rows):
        at = 0
        for n in row:
            where[n] = b, slice(at, at + len(examples[n].tokens))
            at += len(examples[n].tokens)
    return arrays(packed), batch(), where


@pytest.mark.parametrize("of", ["lora", ".*"])
def test_packed_examples_give_the_loss_and_gradients_of_examples_alone(of):
    # with B = 0 the gradients of A would be 0
    trainable = jax.tree.map(lambda x: x + 0.05, parts(of)[1])
    packed, alone, _ = packed_and_alone()
    want, grads = gradient(of)(trainable, alone)
    got, other = gradient(of)(trainable, packed)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    grads, other = flat(grads), flat(other)
    for name, g in grads.items():
        size = np.abs(g).max()
        assert size > 0, name
        np.testing.assert_allclose(other[name], g, atol=1e-5 * max(1, size), err_msg=name)


def test_packed_logits_are_those_of_examples_alone():
    packed, alone, where = packed_and_alone()
    got, want = logits(packed), logits(alone)
    for n, (b, here) in where.items():
        np.testing.assert_allclose(got[b, here], want[n, : here.stop - here.start], atol=1e-5)


def test_a_pack_of_one_example_is_the_plain_path_to_the_bit():
    graphdef, trainable, frozen = parts()
    example = made_up.examples()[2]
    n = len(example.tokens)
    packed = arrays(made_up.batch([[example]], length=n, images=4))
    here = example.tokens == made_up.IMAGE
    vision = jnp.asarray(np.where(here, np.cumsum(here) - 1, -1)[None], jnp.int32)
    tokens = jnp.asarray(example.tokens)[None]
    images = jnp.asarray(np.stack(example.images))

    @jit
    def both(trainable, frozen):
        model = nnx.merge(graphdef, trainable, frozen)
        embedded, _ = model.embed({"tokens": tokens, "vision_index": vision, "images": images})
        plain, _ = model.decoder(embedded, jnp.arange(n)[None], jnp.ones((1, n), jnp.int32))
        return plain, model(packed)[0]

    plain, got = both(trainable, frozen)
    np.testing.assert_array_equal(got, plain)


# ---- accumulation


def test_two_micro_batches_are_one_batch():
    """Answers of 2 to 16 tokens: a mean of micro-batch means would differ in the second digit."""
    examples = made_up.examples()
    counts = [int(e.answer.sum()) for e in examples]
    assert len(set(counts)) >= 3 and sum(counts[:2]) != sum(counts[2:])
    halves = [
        made_up.batch([[e] for e in half], length=LENGTH, images=8)
        for half in (examples[:2], examples[2:])
    ]
    stacked = arrays({name: np.stack([half[name] for half in halves]) for name in halves[0]})
    want, (one,) = take([batch()], tx="sgd")
    got, (two,) = take([stacked], tx="sgd", accumulate=2)
    assert one["tokens"] == two["tokens"] == sum(counts)
    np.testing.assert_allclose(two["loss"], one["loss"], atol=1e-6)
    np.testing.assert_allclose(two["grad_norm"], one["grad_norm"], rtol=1e-5)
    want, got, start = flat(want.trainable), flat(got.trainable), flat(parts()[1])
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6, err_msg=name)
    assert max(np.abs(want[name] - start[name]).max() for name in want) > 1e-3


# ---- what changes


def test_the_first_step_moves_b_and_later_ones_a_too():
    _, trainable, frozen = parts()
    before = jax.tree.map(np.array, frozen)
    state, _ = take([batch()])
    still = same(state.trainable, trainable)
    assert {name.rsplit("/")[-1] for name in still if still[name]} == {"lora_a"}
    assert {name.rsplit("/")[-1] for name in still if not still[name]} == {"lora_b"}
    state, _ = take([batch(0), batch(1), batch(2)])
    assert not any(same(state.trainable, trainable).values())
    assert all(same(frozen, before).values())
    assert state.step == 3


def test_only_what_the_pattern_names_is_trained():
    pattern = "projector/.*|decoder/layers/mlp/.*"
    _, trainable, frozen = parts(pattern)
    assert not {name for name in flat(frozen) if name.startswith("projector")}
    before = jax.tree.map(np.array, frozen)
    state, _ = take([batch(0), batch(1)], pattern)
    assert not any(same(state.trainable, trainable).values())
    assert all(same(frozen, before).values())


def test_the_same_steps_give_the_same_bits():
    (one, metrics), (two, again) = (take([batch(0), batch(1)]) for _ in range(2))
    assert metrics == again
    assert all(same(one.trainable, two.trainable).values())


# ---- dropout


def losses(rate, **options):
    """Of three steps on the same batch that change nothing; B is not 0, which would hide A."""
    start = jax.tree.map(lambda x: x + 0.05, parts(dropout=rate)[1])
    over = [batch()] * 3
    if options.get("accumulate"):
        over = [{name: jnp.stack([x, x]) for name, x in one.items()} for one in over]
    _, seen = take(over, tx="none", start=start, lora_dropout=rate, **options)
    return [float(m["loss"]) for m in seen]


def test_no_dropout_is_the_path_without_a_key_to_the_bit():
    assert losses(0.0, dropout=True) == losses(0.0)


def test_dropout_differs_by_step_and_seed_and_comes_back():
    first = losses(0.5, dropout=True)
    assert len({*first, losses(0.0)[0]}) == 4
    assert losses(0.5, dropout=True) == first
    assert not set(losses(0.5, dropout=True, seed=1)) & set(first)


def test_micro_batches_drop_different_things():
    """Of twice the same micro-batch the loss is the mean of two draws, not one of them."""
    once, twice = losses(0.5, dropout=True), losses(0.5, dropout=True, accumulate=2)
    assert not set(once) & set(twice)


# ---- bfloat16


def test_bfloat16_computes_and_float32_learns():
    over = [batch(0), batch(1)]
    state, seen = take(over, dtype=jnp.bfloat16)
    assert all(np.isfinite(m["loss"]) for m in seen)
    floats = [x for x in jax.tree.leaves((state.trainable, state.optimizer)) if x.ndim]
    assert {str(x.dtype) for x in floats} == {"float32"}
    assert not any(same(state.trainable, parts()[1]).values())
    _, exact = take(over)
    assert seen[0]["loss"] != exact[0]["loss"]
    np.testing.assert_allclose(seen[0]["loss"], exact[0]["loss"], rtol=0.02)
