"""Attention of rows that several devices share, against dense attention written out in float64."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attention import dense
from vjax.attention import Mask, attend, chunked
from vjax.data.order import zigzag
from vjax.sharding import make_mesh

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices"),
]

B, T, H = 2, 32, 8
IDS = np.stack([np.repeat([1, 2, 3, 0], [9, 13, 6, 4]), np.repeat([1, 2], [27, 5])])
MASKS = {
    "full": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 7},
    "packed": {"causal": True, "q_segments": IDS, "kv_segments": IDS},
    "packed full": {"q_segments": IDS, "kv_segments": IDS},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(chunked, "BLOCK", 5)


def laid_out(order, n, arrays, fields):
    """Arrays and mask fields as the order lays them, and the way back."""
    if order == "contiguous":
        return arrays, fields, np.arange(T)
    to = zigzag(T, n)
    ids = {name: x[:, to] for name, x in fields.items() if isinstance(x, np.ndarray)}
    if fields.get("causal"):
        ids |= dict.fromkeys(("q_positions", "kv_positions"), np.tile(to, (B, 1)))
    return [x[:, to] for x in arrays], fields | ids, np.argsort(to)


def program(mask, method):
    def both(q, k, v, dout):
        out, back = jax.vjp(lambda *a: attend(*a, mask, context_parallel=method), q, k, v)
        return out, *back(dout)

    return dense.jit(both)


def check(method, n, order, name, group, *, kv_heads=1, **axes):
    fields = MASKS[name]
    arrays = dense.arrays(B, T, group * kv_heads, kv_heads, H)
    want = dense.attention(*arrays[:3], dense.see(B, T, T, **fields), dout=arrays[3])
    arrays, fields, back = laid_out(order, n, arrays, fields)
    with jax.set_mesh(make_mesh(context=n, **axes)):
        got = program(dense.as_mask(fields), method)(*map(jnp.asarray, arrays))
    for what, g, w, atol in zip(
        ("out", "dq", "dk", "dv"), got, want, (1e-6, 1e-5, 1e-5, 1e-5), strict=True
    ):
        np.testing.assert_allclose(g[:, back], w, atol=atol, err_msg=what)


FEW = [
    ("ring", 1, "contiguous", "causal", 2),
    ("ring", 2, "zigzag", "packed", 7),
    ("ring", 4, "zigzag", "packed", 2),
    ("ring", 4, "contiguous", "full", 1),
    ("ring", 8, "zigzag", "causal", 2),
    ("ring", 4, "zigzag", "window", 2),
    ("all_gather", 4, "zigzag", "packed", 2),
    ("all_gather", 2, "contiguous", "full", 2),
    ("ulysses", 4, "contiguous", "packed", 2),
]


@pytest.mark.parametrize(("method", "n", "order", "name", "group"), FEW)
def test_equals_dense_attention_there_and_back(method, n, order, name, group):
    check(method, n, order, name, group, kv_heads=4 if method == "ulysses" else 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "n", "order", "name", "group"),
    [
        *itertools.product(
            ("ring", "all_gather", "ulysses"),
            (1, 2, 4, 8),
            ("contiguous", "zigzag"),
            MASKS,
            (1, 2, 7),
        )
    ],
)
def test_all_equal_dense_attention_there_and_back(method, n, order, name, group):
    check(method, n, order, name, group, kv_heads=8 if method == "ulysses" else 2)


@pytest.mark.parametrize("method", ["ring", "all_gather", "ulysses"])
@pytest.mark.parametrize(
    "axes", [{"data": 2, "tensor": 2}, {"fsdp": 4}], ids=["rows and heads", "too few rows"]
)
def test_beside_other_mesh_axes(method, axes):
    check(method, 2, "contiguous", "packed", 2, kv_heads=4, **axes)


@pytest.mark.parametrize("axes", [{"data": 2, "fsdp": 1, "tensor": 2}, {"fsdp": 4, "tensor": 2}])
def test_blocks_where_rows_and_heads_are_split_and_tokens_are_not(axes):
    q, k, v, dout = dense.arrays(B, T, 4, 2, H)
    mask = dense.as_mask(MASKS["packed"])
    want = dense.attention(q, k, v, dense.see(B, T, T, **MASKS["packed"]), dout=dout)

    def both(q, k, v, dout):
        out, back = jax.vjp(lambda *a: attend(*a, mask, backend="chunked"), q, k, v)
        return out, *back(dout)

    with jax.set_mesh(make_mesh(**axes)):
        got = dense.jit(both)(*map(jnp.asarray, (q, k, v, dout)))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5)


# what devices add to dk and dv of gathered keys is rounded before it is summed
@pytest.mark.parametrize(("method", "most"), [("ring", 1.05), ("all_gather", 1.25)])
def test_bfloat16_is_as_near_as_dense_bfloat16(method, most):
    arrays = dense.arrays(B, T, 4, 2, H)
    fields = MASKS["packed"]
    want = dense.attention(*arrays[:3], dense.see(B, T, T, **fields), dout=arrays[3])
    low = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
    mask = dense.as_mask(fields)

    def error(got):
        pairs = zip(got, want, strict=True)
        return np.array([np.sqrt(np.mean((np.asarray(g, np.float64) - w) ** 2)) for g, w in pairs])

    one = error(program(mask, None)(*low))
    with jax.set_mesh(make_mesh(context=4)):
        ours = program(mask, method)(*low)
    assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}
    assert np.all(error(ours) <= most * one), (error(ours), one)


def test_padding_may_hold_anything():
    q, k, v, dout = dense.arrays(B, T, 4, 2, H)
    hole = (IDS == 0)[:, :, None, None]
    run = program(dense.as_mask(MASKS["packed"]), "ring")
    with jax.set_mesh(make_mesh(context=4)):
        want = run(*map(jnp.asarray, (q, k, v, dout)))
        filled = [np.where(hole, np.nan, x) for x in (q, k, v)]
        got = run(*map(jnp.asarray, (*filled, dout)))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


# ---- what is compiled ----------------------------------------------------------------------------


def compiled(method, n, T=T, *, packed=False, backward=True):
    """The program of one call on n devices."""
    shapes = [jax.ShapeDtypeStruct((1, T, heads, H), "float32") for heads in (4, 2, 2)]
    shapes.append(jax.ShapeDtypeStruct((1, T), "int32"))

    def loss(q, k, v, ids):
        mask = Mask(causal=True)
        if packed:
            mask = mask.replace(q_segments=ids, kv_segments=ids)
        return jnp.square(attend(q, k, v, mask, context_parallel=method)).sum()

    with jax.set_mesh(make_mesh(context=n)):
        spec = jax.sharding.PartitionSpec(None, "context")
        fn = dense.jit(loss, in_shardings=spec)
        if backward:
            fn = dense.jit(jax.grad(loss, (0, 1, 2)), in_shardings=spec, out_shardings=spec)
        return fn.lower(*shapes).compile()


def permutes(program) -> int:
    return len(re.findall(r" collective-permute(?:-start)?\(", program.as_text()))


def test_hops_of_the_ring():
    # two devices, so that no hop is in a loop: keys, values and positions take one hop
    assert permutes(compiled("ring", 2, backward=False)) == 3
    # segment ids are a fourth
    assert permutes(compiled("ring", 2, packed=True, backward=False)) == 4
    # on the way back dk and dv take two, out and home; the first hop of the others is shared
    assert permutes(compiled("ring", 2)) == 3 + 2 * 2
    # more devices: all hops but the first and the last are one loop; dk and dv lag one behind
    assert permutes(compiled("ring", 8, backward=False)) == 2 * 3
    assert permutes(compiled("ring", 8)) == 2 * 3 + 3 + 3 * 2


def test_nothing_is_gathered_in_a_ring():
    assert "all-gather" not in compiled("ring", 4, packed=True).as_text()
    assert "all-gather" in compiled("all_gather", 4, packed=True).as_text()


def test_memory_of_a_ring_grows_with_local_length(monkeypatch):
    monkeypatch.setattr(chunked, "BLOCK", 64)
    short, long = (
        compiled("ring", 4, T, packed=True).memory_analysis().temp_size_in_bytes
        for T in (1024, 2048)
    )
    assert long < 2.2 * short


def test_zigzag_gives_every_device_the_same_work(monkeypatch):
    """Of 2 n x 2 n pairs of chunks, each device computes 2 n + 1, a hop 2; device 0 has 3 first."""
    n, met = 4, []
    monkeypatch.setattr(chunked, "BLOCK", T // (2 * n))
    product = chunked._dot

    def counted(*args):
        at = jax.lax.axis_index("context")
        jax.debug.callback(lambda at: met.append(int(at)), at)
        return product(*args)

    monkeypatch.setattr(chunked, "_dot", counted)

    def work(order):
        met.clear()
        arrays, fields, _ = laid_out(order, n, dense.arrays(B, T, 2, 2, H), MASKS["causal"])
        mask = dense.as_mask(fields)
        with jax.set_mesh(make_mesh(context=n)):
            call = dense.jit(lambda *a: attend(*a, mask, context_parallel="ring"))
            jax.block_until_ready(call(*map(jnp.asarray, arrays[:3])))
        jax.effects_barrier()
        return (np.bincount(met, minlength=n) / 2).tolist()  # two products a pair

    assert work("zigzag") == [2 * n + 1] * n
    assert work("contiguous") == [3, 7, 11, 15]


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("T", "S", "K", "method", "error"),
    [
        (30, 30, 2, "ring", "rows of 30 tokens do not split over mesh.context=4: pad them"),
        (8, 16, 2, "ring", "keys of all queries: 8 and 16"),
        (32, 32, 2, "ulysses", "mesh.context=4 does not divide 2: use ring or all_gather"),
        (32, 32, 2, "rings", "'rings' is not known; known: all_gather, ring, ulysses"),
    ],
)
def test_what_cannot_be_split(T, S, K, method, error):
    q, k, v, _ = map(jnp.asarray, dense.arrays(1, T, 4, K, H, S=S))
    with jax.set_mesh(make_mesh(context=4)), pytest.raises(ValueError, match=error):
        attend(q, k, v, context_parallel=method)
