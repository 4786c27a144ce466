"""FLOPs of a traced function beside XLA's own analysis of the program with loops unrolled."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tests.models import tiny
from vjax.families.spec import DecoderSpec
from vjax.models import lora
from vjax.models.decoder import Decoder
from vjax.plan import flops

SPEC = DecoderSpec(
    width=256, layers=3, heads=4, kv_heads=2, head_dim=64, ffn=1024, vocab=512, tied=False
)
T = 256


@pytest.mark.parametrize("trainable", [None, "lora", ".*"])
def test_as_many_as_xla_counts_of_unrolled_layers(monkeypatch, trainable):
    """Forward, with adapters that train, and with everything that trains; within 2 %."""

    def made():
        decoder = Decoder(SPEC, rngs=nnx.Rngs(0))
        if trainable == "lora":
            lora.add(decoder, rank=8, alpha=8.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(1))
        return decoder

    split = nnx.split(nnx.eval_shape(made), lora.trainable_filter(trainable or ".*"), ...)
    graphdef, trained, frozen = split
    x = jax.ShapeDtypeStruct((2, T, SPEC.width), jnp.float32)
    ids = jax.ShapeDtypeStruct((2, T), jnp.int32)

    def loss(trained, frozen, x, positions, segments):
        decoder = nnx.merge(graphdef, trained, frozen)
        hidden, _ = decoder(x, positions, segments)
        return jnp.square(decoder.logits(hidden)).sum()

    step = jax.jit(jax.grad(loss) if trainable else loss)
    counted = sum(flops.count(step.trace(trained, frozen, x, ids, ids).jaxpr).values())
    monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
    jax.clear_caches()
    theirs = step.lower(trained, frozen, x, ids, ids).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(theirs, rel=0.02)


def test_parts_are_named():
    model = tiny.model()
    graphdef, state = nnx.split(model)

    def hidden(state, batch):
        out, _ = nnx.merge(graphdef, state)(batch)
        return nnx.merge(graphdef, state).decoder.logits(out)

    batch = tiny.batch([[1, 2, 3]], 32)
    found = flops.count(jax.jit(hidden).trace(state, batch).jaxpr)
    assert {part for part, _ in found} == {"tower", "projector", "decoder", "head"}
    assert {kind for _, kind in found} == {"products", "attention"}
