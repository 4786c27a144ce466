"""Adapters: drawn as PEFT draws them, scaled by alpha over rank, dropped at their input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.models import lora
from vjax.models.layers import Dense, LoRAParam
from vjax.models.video_llm import VideoLLM

pytestmark = pytest.mark.smoke


def layer(*, stack=(), bias=True, dropout=0.0, rank=4, alpha=8.0, d_in=16, d_out=24):
    """One Dense with an adapter whose B is not zero."""
    rngs = nnx.Rngs(0)
    dense = Dense(d_in, d_out, ("embed", "ffn"), bias=bias, stack=stack, rngs=rngs)
    holder = nnx.Module()
    holder.dense = dense
    lora.add(holder, rank=rank, alpha=alpha, dropout=dropout, targets="dense", rngs=nnx.Rngs(1))
    dense.lora_b[...] = jnp.ones_like(dense.lora_b[...]) * 0.1
    return dense


def test_the_adapter_is_alpha_over_rank_times_a_b():
    """LoRA, arXiv 2106.09685, equation 3 and section 4.1."""
    dense = layer(alpha=8.0, rank=4)
    x = jax.random.normal(jax.random.key(2), (5, 16))
    a, b, w = (np.asarray(v[...], np.float64) for v in (dense.lora_a, dense.lora_b, dense.kernel))
    want = np.asarray(x, np.float64) @ (w + 8.0 / 4 * a @ b)
    np.testing.assert_allclose(dense(x), want, atol=1e-5)


@pytest.mark.parametrize("rows, folds", [(2, False), (400, True)])
def test_folded_or_not_outputs_and_gradients_are_the_same(monkeypatch, rows, folds):
    dense = layer(rank=8)
    assert dense.folding_pays(rows) == folds
    graph, adapter, rest = nnx.split(dense, LoRAParam, ...)
    x = jax.random.normal(jax.random.key(2), (rows, 16))

    def loss(adapter, x):
        return jnp.sum(jnp.sin(nnx.merge(graph, adapter, rest)(x)))

    found = []
    for fold in (False, True):
        monkeypatch.setattr(Dense, "folding_pays", lambda self, rows, fold=fold: fold)
        found.append(jax.tree.leaves(jax.value_and_grad(loss, argnums=(0, 1))(adapter, x)))
    assert len(found[0]) == 4  # the loss; of A, of B, of x
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-4)


def test_a_is_uniform_within_one_over_the_root_of_its_width_and_b_is_zero():
    dense = Dense(400, 8, ("embed", "ffn"), bias=False, stack=(3,), rngs=nnx.Rngs(0))
    holder = nnx.Module()
    holder.dense = dense
    lora.add(holder, rank=16, alpha=1.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(1))
    a = np.asarray(dense.lora_a[...])
    assert a.shape == (3, 400, 16) and dense.lora_b.shape == (3, 16, 8)
    bound = 400**-0.5
    assert np.abs(a).max() <= bound and np.abs(a).max() > 0.99 * bound
    np.testing.assert_allclose(a.std(), bound / 3**0.5, rtol=0.02)
    assert not np.asarray(dense.lora_b[...]).any()
    assert len({layer.tobytes() for layer in a}) == 3  # every layer its own


def test_layers_and_seeds_draw_different_matrices():
    def drawn(seed):
        model = tiny.model()
        lora.add(model, rank=2, alpha=2.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(seed))
        return {
            lora.path_str(path): np.asarray(v[...])
            for path, v in nnx.to_flat_state(nnx.state(model, LoRAParam))
            if path[-1] == "lora_a"
        }

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert len({x.tobytes() for x in one.values()}) == len(one) > 10
    for name, x in one.items():
        np.testing.assert_array_equal(x, again[name])
        assert (x != other[name]).any()


def test_axes_of_the_adapter_are_those_of_its_layer():
    dense = layer(stack=(2,))
    assert dense.lora_a.get_metadata()["axes"] == ("layers", "embed", "rank")
    assert dense.lora_b.get_metadata()["axes"] == ("layers", "rank", "ffn")


def test_dropout_scales_what_it_keeps_and_leaves_the_base_alone():
    dense = layer(dropout=0.25, d_in=4000, d_out=8)
    x = jnp.ones((1, 4000))
    base = x @ dense.kernel[...] + dense.bias[...]
    adapter = dense(x) - base
    dense.lora_a[...] = jnp.full_like(dense.lora_a[...], 0.01)
    whole = float((dense(x) - base)[0, 0])
    draws = np.array([(dense(x, jax.random.key(n)) - base)[0, 0] for n in range(20)])
    assert len(set(draws)) > 10
    np.testing.assert_allclose(draws.mean(), whole, rtol=0.02)
    assert draws.std() > 0 and adapter.shape == (1, 8)
    np.testing.assert_array_equal(dense(x, jax.random.key(3)), dense(x, jax.random.key(3)))


def test_without_a_key_or_a_rate_nothing_is_dropped():
    dense, none = layer(dropout=0.5), layer(dropout=0.0)
    x = jax.random.normal(jax.random.key(0), (3, 16))
    np.testing.assert_array_equal(dense(x), none(x))
    np.testing.assert_array_equal(none(x, jax.random.key(0)), none(x))


def test_bfloat16_inputs_meet_float32_adapters():
    dense = layer()
    x = jax.random.normal(jax.random.key(0), (3, 16))
    low = dense(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16 and dense.lora_a.dtype == jnp.float32
    np.testing.assert_allclose(low.astype(jnp.float32), dense(x), rtol=0.05, atol=0.05)


# ---- which variables train


@pytest.fixture(scope="module")
def names():
    """What a filter selects, by name, of an adapted model."""
    model = nnx.eval_shape(lambda: adapted())

    def select(pattern):
        _, chosen, rest = nnx.split(model, lora.trainable_filter(pattern), ...)
        chosen, rest = ({lora.path_str(p) for p, _ in nnx.to_flat_state(s)} for s in (chosen, rest))
        assert not chosen & rest
        return chosen, rest

    return select


def adapted():
    model = VideoLLM(tiny.SPEC, rngs=nnx.Rngs(0))
    lora.add(model, rank=2, alpha=2.0, dropout=0.0, targets="decoder/.*", rngs=nnx.Rngs(1))
    return model


def test_lora_selects_the_adapters_and_nothing_else(names):
    chosen, rest = names("lora")
    assert {name.rsplit("/")[-1] for name in chosen} == {"lora_a", "lora_b"}
    assert not [name for name in rest if "lora" in name]
    assert len(chosen) == 2 * 7


def test_a_pattern_matches_whole_paths(names):
    assert names("projector/.*")[0] == {
        f"projector/fc{n}/{w}" for n in (1, 2) for w in ("kernel", "bias")
    }
    assert names("projector")[0] == set()
    assert names(".*")[1] == set()


def test_paths_are_written_with_slashes():
    assert lora.path_str(("decoder", "layers", 0, "q")) == "decoder/layers/0/q"
