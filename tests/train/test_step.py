"""The step: what it sums, what it changes, and what it leaves alone to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.data import made_up
from tests.train.tiny_step import adamw, arrays, batches, flat, parts, take
from vjax.data.collate import pack
from vjax.train.step import token_loss

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def lora_parts():
    return parts()


def equal(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    return {name: np.array_equal(a[name], b[name]) for name in a}


# ---- the loss


def test_loss_is_the_mean_over_answer_tokens(lora_parts):
    graphdef, trainable, frozen = lora_parts
    batch = batches()[0]
    _, (metrics,) = take(graphdef, trainable, frozen, adamw(trainable), [batch])
    model = nnx.merge(graphdef, trainable, frozen)
    logits = np.asarray(model.decoder.logits(model(batch)[0]), np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(logp, np.asarray(batch["targets"])[..., None], -1)[..., 0]
    weights = np.asarray(batch["loss_weights"])
    assert metrics["tokens"] == weights.sum() == sum(e.answer.sum() for e in made_up.examples())
    np.testing.assert_allclose(metrics["loss"], (nll * weights).sum() / weights.sum(), rtol=1e-5)


def test_a_batch_of_holes_changes_nothing(lora_parts):
    graphdef, trainable, frozen = lora_parts
    empty = arrays(made_up.batch([], height=4))
    state, (metrics,) = take(graphdef, trainable, frozen, adamw(trainable), [empty])
    assert metrics["loss"] == metrics["grad_norm"] == 0
    assert all(equal(state.trainable, trainable).values())


# ---- packing


def loss_and_grads(lora_parts, batch):
    graphdef, trainable, frozen = lora_parts

    def total(trainable):
        model = nnx.merge(graphdef, trainable, frozen)
        return token_loss(model, batch, dtype=jnp.float32, remat=False, key=None)[0]

    return jax.jit(jax.value_and_grad(total))(trainable)


@pytest.mark.parametrize("trainable", ["lora", ".*"])
def test_packed_examples_give_the_loss_and_gradients_of_examples_alone(trainable):
    model = parts(trainable)
    if trainable == "lora":  # with B = 0 the gradients of A are 0
        random = jax.tree.map(lambda x: x + 0.05, model[1])
        model = (model[0], random, model[2])
    examples = made_up.examples()
    alone = arrays(made_up.batch([[e] for e in examples], length=128))
    rows = pack([len(e.tokens) for e in examples], 128)
    assert len(rows) < len(examples)
    packed = arrays(made_up.batch([[examples[n] for n in row] for row in rows], length=128))
    (want, grads), (got, other) = loss_and_grads(model, alone), loss_and_grads(model, packed)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    grads, other = flat(grads), flat(other)
    assert all(np.abs(g).max() > 0 for name, g in grads.items() if "attn/k/bias" not in name)
    for name, g in grads.items():
        np.testing.assert_allclose(
            other[name], g, atol=1e-5 * max(1, np.abs(g).max()), err_msg=name
        )


def test_packed_logits_are_those_of_examples_alone(lora_parts):
    model = nnx.merge(*lora_parts)
    examples = made_up.examples()
    logits = jax.jit(lambda batch: model.decoder.logits(model(batch)[0]))
    packed = np.asarray(logits(arrays(made_up.batch([examples[:2], examples[2:]], length=128))))
    alone = np.asarray(logits(arrays(made_up.batch([[e] for e in examples], length=128))))
    for n, e in enumerate(examples):
        at = len(examples[n - 1].tokens) if n % 2 else 0
        got = packed[n // 2, at : at + len(e.tokens)]
        np.testing.assert_allclose(got, alone[n, : len(e.tokens)], atol=1e-5)


def test_a_pack_of_one_example_is_the_plain_path_to_the_bit(lora_parts):
    model = nnx.merge(*lora_parts)
    example = made_up.examples()[2]
    n = len(example.tokens)
    packed = arrays(made_up.batch([[example]], length=n, images=4))
    vision = np.where(
        example.tokens == made_up.IMAGE, np.cumsum(example.tokens == made_up.IMAGE) - 1, -1
    )
    embedded = model.embed(
        jnp.asarray(example.tokens)[None],
        jnp.asarray(vision, jnp.int32)[None],
        jnp.asarray(np.stack(example.images)),
    )
    plain, _ = model.decoder(embedded, jnp.arange(n)[None], jnp.ones((1, n), jnp.int32))
    np.testing.assert_array_equal(model(packed)[0], plain)


# ---- accumulation


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_is_one_large_batch(lora_parts, micro):
    """Answers of 2 to 16 tokens: a mean of micro-batch means would differ in the second digit."""
    graphdef, trainable, frozen = lora_parts
    examples = made_up.examples()
    counts = [int(e.answer.sum()) for e in examples]
    assert len(set(counts)) >= 3
    tx = optax.sgd(1.0)
    whole = [arrays(made_up.batch([[e] for e in examples]))]
    cut = [
        made_up.batch([[e] for e in examples[at : at + micro]], images=8)
        for at in range(0, 4, micro)
    ]
    stacked = {name: np.stack([part[name] for part in cut]) for name in cut[0]}
    want, (one,) = take(graphdef, trainable, frozen, tx, whole)
    got, (many,) = take(graphdef, trainable, frozen, tx, [arrays(stacked)], accumulate=4 // micro)
    assert one["tokens"] == many["tokens"] == sum(counts)
    np.testing.assert_allclose(many["loss"], one["loss"], atol=1e-6)
    np.testing.assert_allclose(many["grad_norm"], one["grad_norm"], rtol=1e-5)
    want, got, start = flat(want.trainable), flat(got.trainable), flat(trainable)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6, err_msg=name)
    assert max(np.abs(want[name] - start[name]).max() for name in want) > 1e-3


# ---- what changes


def test_adapters_with_b_zero_leave_logits_bit_equal():
    plain, adapted = nnx.merge(*parts(".*")), nnx.merge(*parts())
    batch = batches()[0]
    want, got = (model.decoder.logits(model(batch)[0]) for model in (plain, adapted))
    np.testing.assert_array_equal(got, want)


def test_the_first_step_moves_b_and_later_ones_a_too(lora_parts):
    graphdef, trainable, frozen = lora_parts
    before = jax.tree.map(np.array, frozen)
    state, _ = take(graphdef, trainable, frozen, adamw(trainable), batches(1))
    still = equal(state.trainable, trainable)
    assert {name.rsplit("/")[-1] for name in still if still[name]} == {"lora_a"}
    assert {name.rsplit("/")[-1] for name in still if not still[name]} == {"lora_b"}
    state, _ = take(graphdef, trainable, frozen, adamw(trainable), batches())
    assert not any(equal(state.trainable, trainable).values())
    assert all(equal(frozen, before).values())
    assert state.step == 3


@pytest.mark.parametrize("pattern", ["projector/.*", "(tower|decoder)/.*/kernel", ".*"])
def test_only_what_the_pattern_names_is_trained(pattern):
    graphdef, trainable, frozen = parts(pattern)
    before = jax.tree.map(np.array, frozen)
    state, _ = take(graphdef, trainable, frozen, adamw(trainable), batches())
    still = equal(state.trainable, trainable)
    # softmax does not see what all keys have in common
    assert {name for name in still if still[name]} <= {
        f"{x}/layers/attn/k/bias" for x in ("tower", "decoder")
    }
    assert all(equal(frozen, before).values())


def test_the_same_steps_give_the_same_bits(lora_parts):
    runs = [take(*lora_parts, adamw(lora_parts[1]), batches()) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert all(equal(runs[0][0].trainable, runs[1][0].trainable).values())


def test_remat_gives_the_same_loss(lora_parts):
    (_, plain), (_, again) = (
        take(*lora_parts, adamw(lora_parts[1]), batches(2), remat=remat) for remat in (False, True)
    )
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


# ---- dropout


def losses(dropout, *, keys, seed=0, accumulate=1):
    graphdef, trainable, frozen = parts(dropout=dropout)
    trainable = jax.tree.map(lambda x: x + 0.05, trainable)  # B = 0 would hide it
    one = batches(1)[0]
    if accumulate > 1:
        one = {name: jnp.stack([x] * accumulate) for name, x in one.items()}
    tx = optax.set_to_zero()  # the same state every step
    options = dict(seed=seed, dropout=keys, accumulate=accumulate)
    _, seen = take(graphdef, trainable, frozen, tx, [one] * 3, **options)
    return [float(m["loss"]) for m in seen]


def test_no_dropout_is_the_path_without_a_key_to_the_bit():
    assert losses(0.0, keys=True) == losses(0.0, keys=False)
    assert losses(0.5, keys=False) == losses(0.0, keys=False)


def test_dropout_differs_by_step_and_seed_and_comes_back():
    first = losses(0.5, keys=True)
    assert len({*first, losses(0.0, keys=False)[0]}) == 4
    assert losses(0.5, keys=True) == first
    assert not set(losses(0.5, keys=True, seed=1)) & set(first)


def test_micro_batches_drop_different_things():
    """Of twice the same micro-batch the loss is the mean of two draws, not one of them."""
    one, two = losses(0.5, keys=True), losses(0.5, keys=True, accumulate=2)
    assert not set(one) & set(two)
    assert losses(0.0, keys=True, accumulate=2)[0] == pytest.approx(losses(0.0, keys=True)[0])


# ---- bfloat16


def test_bfloat16_computes_and_float32_learns(lora_parts):
    graphdef, trainable, frozen = lora_parts
    options = dict(dtype=jnp.bfloat16)
    state, seen = take(graphdef, trainable, frozen, adamw(trainable), batches(), **options)
    assert all(np.isfinite(m["loss"]) for m in seen)
    floats = [x for x in jax.tree.leaves((state.trainable, state.optimizer)) if x.ndim]
    assert {str(x.dtype) for x in floats} == {"float32"}
    assert not any(equal(state.trainable, trainable).values())
    _, exact = take(graphdef, trainable, frozen, adamw(trainable), batches())
    np.testing.assert_allclose(seen[0]["loss"], exact[0]["loss"], rtol=0.02)
    assert seen[0]["loss"] != exact[0]["loss"]


def test_bfloat16_accumulates_gradients_in_float32(lora_parts):
    graphdef, trainable, frozen = lora_parts
    one = batches(1)[0]
    two = {name: jnp.stack([x, x]) for name, x in one.items()}
    options = dict(dtype=jnp.bfloat16)
    want, _ = take(graphdef, trainable, frozen, optax.sgd(1.0), [one], **options)
    got, _ = take(graphdef, trainable, frozen, optax.sgd(1.0), [two], accumulate=2, **options)
    want, got = flat(want.trainable), flat(got.trainable)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6, err_msg=name)
