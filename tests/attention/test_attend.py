"""Every backend of `attend` against dense attention written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.attention import Mask, attend
from vjax.attention.api import BACKENDS

pytestmark = pytest.mark.smoke

B, T, S, H = 2, 5, 7, 4
SEGMENTS = dict(
    q_segments=np.array([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]]),
    kv_segments=np.array([[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0, 0]]),
)
POSITIONS = dict(
    q_positions=np.array([[1, 2, 0, 1, 0], [2, 3, 4, 0, 5]]),
    kv_positions=np.array([[0, 1, 2, 0, 1, 2, 0], [0, 4, 2, 1, 3, 5, 6]]),
)
MASKS = {
    "everything": {},
    "causal": {"causal": True},
    "segments": SEGMENTS,
    "causal by positions": {"causal": True, **POSITIONS},
    "causal by positions, segments": {"causal": True, **SEGMENTS, **POSITIONS},
    "nothing seen by positions": {
        "causal": True,
        "q_positions": np.zeros((B, T)),
        "kv_positions": np.ones((B, S)),
    },
}


def arrays(N, K):
    rng = np.random.default_rng(0)
    shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def as_mask(fields) -> Mask:
    return Mask(**{k: v if k == "causal" else jnp.asarray(v, "int32") for k, v in fields.items()})


def dense(q, k, v, causal=False, **fields):
    """One query at a time; float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    N, K = q.shape[2], k.shape[2]
    out = np.zeros(q.shape)
    for b in range(B):
        for t in range(T):
            seen = np.ones(S, bool)
            if causal:
                at = fields["q_positions"][b, t] if "q_positions" in fields else t
                keys = fields["kv_positions"][b] if "kv_positions" in fields else np.arange(S)
                seen &= keys <= at
            if "q_segments" in fields:
                own = fields["q_segments"][b, t]
                seen &= (fields["kv_segments"][b] == own) & (own > 0)
            if not seen.any():
                continue
            for n in range(N):
                kv = n // (N // K)
                scores = k[b, seen, kv] @ q[b, t, n] / np.sqrt(H)
                weights = np.exp(scores - scores.max())
                out[b, t, n] = weights / weights.sum() @ v[b, seen, kv]
    return out


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=["MHA", "GQA", "MQA"])
@pytest.mark.parametrize("fields", MASKS.values(), ids=MASKS.keys())
def test_equals_dense_attention(backend, fields, heads):
    q, k, v = arrays(*heads)
    got = attend(*map(jnp.asarray, (q, k, v)), as_mask(fields), backend=backend)
    np.testing.assert_allclose(got, dense(q, k, v, **fields), atol=1e-6)


def test_bfloat16_stays_bfloat16(backend):
    q, k, v = (x.astype(jnp.bfloat16) for x in arrays(4, 2))
    fields = MASKS["causal by positions, segments"]
    got = attend(*map(jnp.asarray, (q, k, v)), as_mask(fields), backend=backend)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype("float32"), dense(q, k, v, **fields), atol=0.03)


def test_scale(backend):
    q, k, v = arrays(4, 2)
    got = attend(*map(jnp.asarray, (q, k, v)), scale=1.0, backend=backend)
    np.testing.assert_allclose(got, dense(q * np.sqrt(H, dtype="float32"), k, v), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_may_hold_anything(backend, bad):
    q, k, v = arrays(4, 2)
    mask = as_mask(SEGMENTS)
    hole = (SEGMENTS["kv_segments"] == 0)[:, :, None, None]

    def loss(q, k, v):
        return (attend(q, k, v, mask, backend=backend) ** 2).sum()

    def run(k, v):
        return jax.value_and_grad(loss, argnums=(0, 1, 2))(*map(jnp.asarray, (q, k, v)))

    want, got = run(k, v), run(np.where(hole, bad, k), np.where(hole, bad, v))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_gradients_of_unseeing_queries_are_finite(backend):
    mask = as_mask(MASKS["nothing seen by positions"])
    q, k, v = map(jnp.asarray, arrays(4, 2))
    grads = jax.grad(lambda *a: attend(*a, mask, backend=backend).sum(), argnums=(0, 1, 2))(q, k, v)
    for grad in grads:
        np.testing.assert_array_equal(grad, np.zeros_like(grad))


def test_heads_that_do_not_divide():
    q, k, v = map(jnp.asarray, arrays(4, 3))
    with pytest.raises(ValueError, match="4 query heads are not a multiple of 3 kv heads"):
        attend(q, k, v)


def test_unknown_backend():
    q, k, v = map(jnp.asarray, arrays(4, 4))
    with pytest.raises(ValueError, match="'flash' is not known; known: xla"):
        attend(q, k, v, backend="flash")
