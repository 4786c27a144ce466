"""Every backend of `attend` against dense attention written out in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attention import dense
from tests.attention.dense import as_mask
from vjax.attention import api, attend, chunked, splash

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
    "window": {"causal": True, "window": 2},
    "segment without keys": SEGMENTS | {"q_segments": np.array([[1, 1, 2, 5, 0], [7] * 5])},
    "causal, segments": {"causal": True, **SEGMENTS},
    "causal by positions": {"causal": True, **POSITIONS},
    "window by positions, segments": {"causal": True, "window": 2, **SEGMENTS, **POSITIONS},
    "nothing seen by positions": {
        "causal": True,
        "q_positions": np.zeros((B, T)),
        "kv_positions": np.ones((B, S)),
    },
}
GQA = 4, 2
CASES = {name: (fields, GQA) for name, fields in MASKS.items()} | {
    "MHA": (MASKS["causal, segments"], (4, 4)),
    "MQA": (MASKS["causal, segments"], (4, 1)),
}


@pytest.fixture(params=["xla", "chunked", "splash", "tokamax"])
def backend(request, monkeypatch):
    """Blocks shorter than the rows, which they do not divide; splash interpreted, without a TPU."""
    if request.param == "tokamax":
        pytest.importorskip("tokamax")
    if request.param == "chunked":
        monkeypatch.setattr(chunked, "BLOCK", 3)
    if request.param == "splash" and jax.default_backend() != "tpu":
        monkeypatch.setattr(splash, "attend", functools.partial(splash.attend, interpret=True))
        monkeypatch.setattr(api, "absent", lambda backend: "")
    return request.param


def run(backend, q, k, v, dout, mask):
    """Output and gradients of sum(output * dout), jitted."""

    def both(q, k, v):
        out, back = jax.vjp(lambda *a: attend(*a, mask, backend=backend), q, k, v)
        return out, *back(jnp.asarray(dout, out.dtype))

    return dense.jit(both)(*map(jnp.asarray, (q, k, v)))


@pytest.mark.parametrize(("fields", "heads"), CASES.values(), ids=CASES.keys())
def test_equals_dense_attention_there_and_back(backend, fields, heads):
    if backend == "splash" and "q_positions" in fields:
        pytest.skip("splash masks by the order in the array, not by positions")
    q, k, v, dout = dense.arrays(B, T, *heads, H, S=S)
    got = run(backend, q, k, v, dout, as_mask(fields))
    want = dense.attention(q, k, v, dense.see(B, T, S, **fields), dout=dout)
    np.testing.assert_allclose(got[0], want[0], atol=1e-6)
    for name, g, w in zip(("dq", "dk", "dv"), got[1:], want[1:], strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5, err_msg=name)


def test_bfloat16_stays_bfloat16(backend):
    q, k, v, dout = (x.astype(jnp.bfloat16) for x in dense.arrays(B, T, *GQA, H, S=S))
    fields = MASKS["causal, segments"]
    got = run(backend, q, k, v, dout, as_mask(fields))
    want = dense.attention(q, k, v, dense.see(B, T, S, **fields), dout=dout)
    for g, w, atol in zip(got, want, (0.03, 0.06, 0.06, 0.06), strict=True):
        assert g.dtype == jnp.bfloat16
        np.testing.assert_allclose(g.astype("float32"), w, atol=atol)


def test_scale(backend):
    q, k, v, _ = dense.arrays(B, T, *GQA, H, S=S)
    call = dense.jit(functools.partial(attend, scale=1.0, backend=backend))
    want = dense.attention(q, k, v, dense.see(B, T, S), scale=1.0)
    np.testing.assert_allclose(call(*map(jnp.asarray, (q, k, v))), want, atol=1e-6)


def test_padding_may_hold_anything(backend):
    q, k, v, dout = dense.arrays(B, T, *GQA, H, S=S)
    q_hole, kv_hole = (SEGMENTS[name][:, :, None, None] == 0 for name in SEGMENTS)
    mask = as_mask(SEGMENTS)
    want = run(backend, q, k, v, dout, mask)
    filled = np.where(q_hole, np.nan, q), *(np.where(kv_hole, np.inf, x) for x in (k, v))
    for got, same in zip(run(backend, *filled, dout, mask), want, strict=True):
        np.testing.assert_array_equal(got, same)


def test_queries_that_see_nothing_give_zeros_and_take_no_gradient(backend):
    fields = MASKS["segment without keys"]
    blind = ~dense.see(B, T, S, **fields).any(-1)
    out, dq, dk, dv = run(backend, *dense.arrays(B, T, *GQA, H, S=S), as_mask(fields))
    assert blind.sum() == 7
    assert not np.any(out[blind])
    assert not np.any(dq[blind])
    assert not np.any(dk[1])  # no query of the second row sees anything
    assert not np.any(dv[1])


def test_heads_that_do_not_divide():
    q, k, v, _ = map(jnp.asarray, dense.arrays(B, T, 4, 3, H))
    with pytest.raises(ValueError, match="4 query heads are not a multiple of 3 kv heads"):
        attend(q, k, v)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("flash", "'flash' is not known; known: auto, xla, chunked, cudnn, splash"),
        ("cudnn", "attention backend 'cudnn' needs an NVIDIA GPU; this is cpu"),
        ("splash", "attention backend 'splash' needs a TPU; this is cpu"),
    ],
)
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="errors of a machine with CPUs alone")
def test_a_backend_that_is_not_there_says_what_it_needs(name, error):
    q, k, v, _ = map(jnp.asarray, dense.arrays(B, T, 4, 4, H))
    with pytest.raises(ValueError, match=error):
        attend(q, k, v, backend=name)


def test_positions_of_queries_alone():
    q, k, v, _ = map(jnp.asarray, dense.arrays(B, T, 4, 4, H))
    mask = as_mask({"causal": True, "q_positions": np.zeros((B, T))})
    with pytest.raises(ValueError, match="positions of both queries and keys, or of neither"):
        attend(q, k, v, mask)
