"""Windows in a tower: cut out or masked, they are the same; who sees whom."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vjax.attention import attend
from vjax.families.spec import TowerSpec
from vjax.models.vit import Tower, patch_grid
from vjax.models.windows import attend_in_windows, window_ids

SPEC = TowerSpec(
    16, 3, 2, 24, 32, 4, position="rope2d", merge=2, fused_qkv=True, norm="rms", gated=True,
    window=4, full_layers=(1,), patch_bias=False,
)  # fmt: skip


def test_windows_are_numbered_along_rows_and_apart_from_those_of_other_images():
    hw = np.concatenate([patch_grid(4, 6, 2), patch_grid(2, 2, 2), np.zeros((3, 2), np.int32)])
    segments = np.repeat([1, 2, 0], [24, 4, 3])[None].astype(np.int32)
    ids = np.asarray(window_ids(jnp.asarray(hw)[None], jnp.asarray(segments), 4))[0]
    assert (ids[-3:] == 0).all()
    first, second, third = sorted(set(ids[:-3].tolist()))
    assert (ids == first).sum() == 16 and (ids == second).sum() == 8 and (ids == third).sum() == 4
    assert {tuple(at) for at in hw[:24][ids[:24] == second]} == {
        (h, w) for h in range(4) for w in (4, 5)
    }


def test_cut_out_is_masked():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 12, 2, 8)), jnp.float32) for _ in "qkv")
    ids = jnp.asarray([[1] * 4 + [2] * 4 + [3] * 4] * 2, jnp.int32)
    cut, masked = (attend_in_windows(q, k, v, ids, size=n, attend=attend) for n in (4, 0))
    np.testing.assert_allclose(cut, masked, atol=1e-6)


@pytest.fixture(scope="module")
def tower():
    return Tower(SPEC, rngs=nnx.Rngs(0))


def features(tower, images):
    return np.asarray(nnx.jit(lambda tower, images: tower(images))(tower, images))


def test_images_alone_and_packed_give_the_same(tower):
    """Square frames, of whole windows, against one row of patches with padding at its end."""
    images = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
    want = features(tower, images)
    x = images.reshape(2, 4, 2, 4, 4, 2, 4, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    x = np.pad(x.reshape(1, 128, 48), [(0, 0), (0, 8), (0, 0)])
    hw = np.concatenate([patch_grid(8, 8, 2)] * 2 + [np.zeros((8, 2), np.int32)])[None]
    segments = np.repeat([1, 2, 0], [64, 64, 8])[None].astype(np.int32)
    got = jax.jit(tower.encode)(jnp.asarray(x), jnp.asarray(hw), jnp.asarray(segments))
    np.testing.assert_allclose(got[0, :128].reshape(2, 64, 16), want, atol=1e-5)


@pytest.mark.parametrize(("full", "seen"), [((), 16), ((1,), 64)], ids=["none", "one"])
def test_only_full_blocks_look_beyond_a_window(full, seen):
    tower = Tower(dataclasses.replace(SPEC, full_layers=full), rngs=nnx.Rngs(0))
    images = np.random.default_rng(2).standard_normal((1, 32, 32, 3)).astype(np.float32)
    other = images.copy()
    other[:, :4, :4] += 1  # the first patch
    moved = np.abs(features(tower, other) - features(tower, images)).max(-1) > 1e-6
    assert moved.sum() == seen
