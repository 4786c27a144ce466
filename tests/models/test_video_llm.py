"""What must hold of the model itself; parity with transformers is in tests/interop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.interop import reference_logits
from vjax.models import lora
from vjax.models.layers import LoRAParam

pytestmark = pytest.mark.smoke

FRAME = [tiny.FRAME, *[tiny.IMAGE] * 4]
ROWS = [[7, 8, *FRAME, 9, *FRAME, 10, 11], [12, *FRAME, 13, 14]]


@jax.jit
def hidden(state, batch):
    return nnx.merge(GRAPHDEF, state)(batch)[0]


MODEL = tiny.model()
GRAPHDEF, STATE = nnx.split(MODEL)


def inputs(rows, length):
    names = ("tokens", "positions", "segment_ids", "vision_index", "images")
    batch = tiny.batch(rows, length)
    return {name: jnp.asarray(batch[name]) for name in names}


def test_an_adapter_with_b_zero_leaves_logits_bit_equal():
    model = tiny.model()
    arrays = tiny.inputs()
    before = reference_logits(model, **arrays)
    lora.add(model, rank=4, alpha=8.0, dropout=0.5, targets=".*", rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(reference_logits(model, **arrays), before)


def test_adapters_go_where_targets_says():
    model = tiny.model()
    hit = lora.add(
        model, rank=4, alpha=8.0, dropout=0.0, targets="decoder/.*/(q|v)", rngs=nnx.Rngs(0)
    )
    assert hit == ["decoder/layers/attn/q", "decoder/layers/attn/v"]
    shapes = {
        lora.path_str(path): v.shape for path, v in nnx.to_flat_state(nnx.state(model, LoRAParam))
    }
    assert shapes["decoder/layers/attn/v/lora_a"] == (2, 32, 4)
    assert shapes["decoder/layers/attn/v/lora_b"] == (2, 4, 8)
    assert len(shapes) == 4


def test_targets_that_match_nothing():
    with pytest.raises(ValueError, match="'decoder' matches no layer; layers: decoder/layers/at"):
        lora.add(tiny.model(), rank=4, alpha=8.0, dropout=0.0, targets="decoder", rngs=nnx.Rngs(0))


def test_packed_rows_equal_rows_alone():
    alone = inputs(ROWS, 24)
    packed = inputs(ROWS, 24)
    lengths = [len(row) for row in ROWS]
    for name, x in packed.items():
        if name != "images":
            tail = jnp.full((24 - sum(lengths),), -1 if name == "vision_index" else 0, jnp.int32)
            parts = [x[i, :n] for i, n in enumerate(lengths)]
            if name == "segment_ids":
                parts[1] = parts[1] * 2
            packed[name] = jnp.zeros_like(x).at[0].set(jnp.concatenate([*parts, tail]))
    want, got = hidden(STATE, alone), hidden(STATE, packed)[0]
    np.testing.assert_allclose(got[: lengths[0]], want[0, : lengths[0]], atol=1e-5)
    np.testing.assert_allclose(got[lengths[0] : sum(lengths)], want[1, : lengths[1]], atol=1e-5)


def test_remat_changes_nothing():
    graphdef, state = nnx.split(MODEL.decoder)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 32)), jnp.float32)
    positions, segments = jnp.arange(6)[None], jnp.ones((1, 6), jnp.int32)

    def loss(state, remat):
        decoder = nnx.merge(graphdef, state)
        return jnp.square(decoder(x, positions, segments, remat=remat)[0]).sum()

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    plain, again = grad(state, False), grad(state, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


def test_every_image_reaches_its_own_slots():
    batch = inputs(ROWS, 24)
    other = dict(batch, images=batch["images"].at[1].set(0))
    changed = jnp.abs(hidden(STATE, batch) - hidden(STATE, other)).max(axis=-1) > 1e-6
    real = np.asarray(batch["segment_ids"]) > 0
    second = ROWS[0].index(9) + 2  # the first slot of the second image; what follows sees it too
    want = np.zeros_like(real)
    want[0, second:] = real[0, second:]
    np.testing.assert_array_equal(np.asarray(changed), want)
