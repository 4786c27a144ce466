"""Taps of a tower and what they add to a decoder: by layers run one after another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import tiny
from vjax.models.decoder import Decoder
from vjax.models.vit import Tower

VISION = dataclasses.replace(tiny.SPEC.vision, select_layer=-1, patch_size=4)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 16, 16, 3)), jnp.float32)


@pytest.mark.parametrize("taps", [(0, 1), (1, 2)], ids=["early", "with the last"])
def test_taps_are_the_outputs_of_towers_that_end_there(taps):
    tapped = Tower(dataclasses.replace(VISION, taps=taps), rngs=nnx.Rngs(0))
    last, *rest = jnp.split(tapped(IMAGES), 1 + len(taps), axis=-1)
    for tap, got in zip((VISION.layers - 1, *taps), (last, *rest), strict=True):
        short = dataclasses.replace(VISION, select_layer=tap - VISION.layers)
        want = Tower(short, rngs=nnx.Rngs(0))(IMAGES)
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_gradients_do_not_depend_on_what_is_kept():
    tower = Tower(dataclasses.replace(VISION, taps=(0,)), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(tower)

    def loss(state, remat):
        return jnp.square(nnx.merge(graphdef, state)(IMAGES, remat=remat)).sum()

    kept, again = (jax.grad(loss)(state, remat) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), kept, again)


def test_a_decoder_adds_them_after_its_first_layers():
    rng = np.random.default_rng(1)
    decoder = Decoder(dataclasses.replace(tiny.SPEC.text, layers=3), rngs=nnx.Rngs(0))
    x, *deep = (jnp.asarray(rng.standard_normal((1, 5, 32)), jnp.float32) for _ in range(3))
    at, seen = jnp.arange(5)[None], jnp.ones((1, 5), jnp.int32)
    got, cache = decoder(x, at, seen, deep=jnp.stack(deep), keep_kv=True)
    want, kv = x, []
    for n in range(3):
        one = Decoder(dataclasses.replace(tiny.SPEC.text, layers=1), rngs=nnx.Rngs(0))
        layer = jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], nnx.state(decoder.layers))
        nnx.update(one.layers, layer)
        one.norm = decoder.norm if n == 2 else lambda x: x
        want, past = one(want, at, seen, keep_kv=True)
        kv.append(past.k)
        want = want + deep[n] if n < 2 else want
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(cache.k, jnp.concatenate(kv), atol=1e-5)
