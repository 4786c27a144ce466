"""The first stage of vjax-tiny: what the losses ask for, and that they can be learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vjax.data.sight import STATE
from vjax.families.spec import TowerSpec
from vjax.models.vit import Tower
from vjax.train.tower import TEMPERATURE, Seeing, contrast, seeing_loss, train_tower

CLASSES = (5, 3, 2)


def batch(seed=0, n=6):
    rng = np.random.default_rng(seed)
    return {
        "images": rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8),
        "noise": rng.random((n, 32, 32)) < 0.1,
        "objects": rng.integers(0, 2, (n, 5)).astype(np.float32),
        "background": rng.integers(0, 3, n).astype(np.int32),
        "ambient": rng.integers(0, 2, n).astype(np.int32),
        "asked": rng.integers(0, 6, (n, 3)).astype(np.int32),
        "state": rng.random((n, 3, STATE)).astype(np.float32),
        "moment": np.arange(n, dtype=np.int32) // 2,
    }


@pytest.fixture(scope="module")
def tower():
    return Tower(TowerSpec(16, 2, 2, 32, 32, 16), rngs=nnx.Rngs(0))


def losses(tower, given):
    return tell(Seeing(tower, CLASSES, rngs=nnx.Rngs(1)), given)


def tell(model, given):
    return seeing_loss(model, jax.tree.map(jnp.asarray, given))[1]


def test_what_is_not_known_of_a_state_costs_nothing(tower):
    given = batch()
    assert losses(tower, given)["state"] > 0
    given["state"][:] = np.nan
    assert losses(tower, given)["state"] == 0


def test_pixels_are_told_patch_by_patch(tower):
    """A grey picture told as grey costs nothing, wherever the patches lie."""
    given = batch()
    model = Seeing(tower, CLASSES, rngs=nnx.Rngs(1))
    model.pixels.kernel[...] = jnp.zeros_like(model.pixels.kernel[...])
    model.pixels.bias[...] = jnp.full_like(model.pixels.bias[...], 0.5)
    given["images"][:] = 191  # 0.498 of -1 ... 1
    assert float(tell(model, given)["pixels"]) < 1e-4
    given["images"][0, :16, :16] = 0
    one = float(tell(model, given)["pixels"])
    assert one == pytest.approx(1.5**2 / 6 / 4, rel=1e-2)


def test_a_patch_is_told_its_share_of_the_noise(tower):
    """Logits that say what lies where cost the entropy of what they say, and a clean picture 0."""
    given = batch()
    given["noise"][:] = False
    model = Seeing(tower, CLASSES, rngs=nnx.Rngs(1))
    model.noise.kernel[...] = jnp.zeros_like(model.noise.kernel[...])
    model.noise.bias[...] = jnp.full_like(model.noise.bias[...], -30.0)
    assert float(tell(model, given)["noise"]) < 1e-4
    given["noise"][0, 12:20, 20:28] = True  # half in the second patch, half in the fourth
    assert float(tell(model, given)["noise"]) == pytest.approx(30 / 6, rel=1e-4)


def test_the_tower_learns_one_batch_by_heart(tower):
    given, seen = batch(), []
    train_tower(
        tower, CLASSES, lambda n: given, steps=40, lr=3e-3, seed=0,
        on_step=lambda n, parts: seen.append(sum(float(part) for part in parts.values())),
    )  # fmt: skip
    assert len(seen) == 40 and seen[-1] < 0.6 * seen[0]


def test_the_contrast_is_the_supervised_one_of_the_paper():
    """Equation 2 of arXiv 2004.11362, written out; with one patch an image, it is the paper's."""
    rng = np.random.default_rng(0)
    vectors, label = rng.normal(size=(7, 3, 5)), np.array([0, 0, 1, 1, 1, 2, 2])
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    want = np.zeros((7, 3))
    for i, p in np.ndindex(7, 3):
        e = {a: np.exp(unit[i, p] @ unit[a].mean(0) / TEMPERATURE) for a in range(7) if a != i}
        own = [a for a in e if label[a] == label[i]]
        want[i, p] = -np.mean([np.log(e[q] / sum(e.values())) for q in own])
    got = contrast(jnp.asarray(vectors, jnp.float32), jnp.asarray(label))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
