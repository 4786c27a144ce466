"""Attention over keys and values that are kept, against float64; slots, and where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attention import dense
from vjax.attention import Cache, Mask, attend_cache, cache, chunked
from vjax.sharding import make_mesh

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices"),
]

B, S, N, K, H = 2, 24, 4, 2, 8
SEGMENTS = np.array([[1] * 24, [0] * 5 + [1] * 13 + [0] * 6])
POSITIONS = np.stack([np.random.default_rng(0).permutation(24), np.arange(24)[::-1]])


def case(T, side, window=0):
    """New tokens behind S slots in any order, `side` rows a row; and attention written out."""
    R = B * side
    q, k, v, _ = dense.arrays(R, T, N, K, H, seed=1)
    _, past_k, past_v, _ = dense.arrays(B, S, N, K, H, seed=2)
    segments = np.ones((R, T), int)
    segments[-1, T // 2 :] = 0
    positions = np.tile(20 + np.arange(T), (R, 1))

    def behind(past, new):
        return np.concatenate([np.repeat(past, side, axis=0), new], axis=1)

    fields = dict(
        causal=True,
        window=window,
        q_segments=segments,
        q_positions=positions,
        kv_segments=behind(SEGMENTS, segments),
        kv_positions=behind(POSITIONS, positions),
    )
    seen = dense.see(R, T, S + T, **fields)
    want = dense.attention(q, behind(past_k, k), behind(past_v, v), seen)
    ids = [jnp.asarray(x, "int32") for x in (segments, positions, SEGMENTS, POSITIONS)]
    mask = Mask(True, window, ids[0], ids[0], ids[1], ids[1])
    return (*map(jnp.asarray, (q, k, v)), mask, (past_k, past_v, *ids[2:])), want


@pytest.mark.parametrize(
    ("mesh", "T", "side", "window"),
    [
        ({}, 5, 1, 0),
        ({}, 3, 3, 7),
        ({"context": 8}, 1, 1, 0),
        ({"context": 4}, 8, 1, 7),
        ({"context": 2, "data": 2, "tensor": 2}, 4, 3, 0),
        ({"context": 2, "tensor": 2, "fsdp": 2}, 3, 2, 9),
        ({"fsdp": 8}, 2, 4, 0),  # which does not divide the rows of the past
    ],
)
@pytest.mark.parametrize("blocks", [False, True])
def test_it_is_attention_over_both(monkeypatch, mesh, T, side, window, blocks):
    if blocks:
        monkeypatch.setattr(cache, "AUTO", {"cpu": (0, "")})
        monkeypatch.setattr(chunked, "BLOCK", 5)
    given, want = case(T, side, window)
    with jax.set_mesh(make_mesh(**mesh)):
        got = dense.jit(attend_cache)(*given)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("context", [1, 2, 8])
def test_tokens_are_written_once_and_to_all_devices_alike(context):
    def write(tokens):
        made = Cache.empty((2, B, 8 + 5, K, H), jnp.float32)
        at = 0
        for first, last in ((0, 8), *((n, n + 1) for n in range(8, 13))):
            ids = jnp.broadcast_to(jnp.arange(first, last), (B, last - first))
            kv = jnp.broadcast_to(
                tokens[first:last][None, None, :, None, None], (2, B, last - first, K, H)
            )
            made = made.write(Cache(kv, kv + 100, (ids != 3).astype(jnp.int32), ids), at)
            at += last - first
        return made

    with jax.set_mesh(make_mesh(context=context)):
        made = dense.jit(write)(jnp.arange(13.0))
    taken = np.asarray(made.segments[0]) > 0
    assert sorted(np.asarray(made.positions[0])[taken]) == [n for n in range(13) if n != 3]
    for values, more in ((made.k, 0), (made.v, 100)):
        found = np.asarray(values)
        want = np.where(taken, np.asarray(made.positions[0]) + more, 0)
        np.testing.assert_array_equal(found, np.broadcast_to(want[:, None, None], found.shape))
    each = taken.reshape(context, -1).sum(axis=1)
    assert each.max() - each.min() <= 1 + (context > 1)  # token 3 is padding


def test_tokens_that_cannot_be_dealt_out_are_refused():
    made = Cache.empty((1, 1, 8, 1, 2), jnp.float32)
    with jax.set_mesh(make_mesh(context=4)):
        with pytest.raises(ValueError, match="3 tokens are neither 1 nor a multiple of mesh.conte"):
            made.write(jax.tree.map(lambda x: x[:, :, :3] if x.ndim > 2 else x[:, :3], made), 0)
