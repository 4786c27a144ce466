"""What blocks are for: memory, and pairs of blocks that nobody looks at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attention import dense
from vjax.attention import Mask, attend, chunked


def temporaries(T, backend):
    """Bytes that forward and backward of a packed causal row take beside what goes in and out."""
    q, k, ids = ((1, T, 4, 16), "float32"), ((1, T, 2, 16), "float32"), ((1, T), "int32")

    def loss(q, k, v, ids):
        mask = Mask(causal=True, q_segments=ids, kv_segments=ids)
        return attend(q, k, v, mask, backend=backend).sum()

    program = dense.jit(jax.grad(loss, argnums=(0, 1, 2)))
    shapes = (jax.ShapeDtypeStruct(*x) for x in (q, k, k, ids))
    return program.lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_length_and_not_with_its_square(monkeypatch):
    monkeypatch.setattr(chunked, "BLOCK", 128)
    short, long = (temporaries(T, "chunked") for T in (1024, 2048))
    short_dense, long_dense = (temporaries(T, "xla") for T in (1024, 2048))
    assert long < 2.2 * short
    assert long_dense > 3.5 * short_dense
    assert long < 0.1 * long_dense


@pytest.fixture
def met(monkeypatch):
    """Counts products of blocks as they run."""
    calls: list[int] = []
    monkeypatch.setattr(chunked, "BLOCK", 4)
    product = chunked._dot

    def counted(*args):
        jax.debug.callback(lambda: calls.append(1))
        return product(*args)

    monkeypatch.setattr(chunked, "_dot", counted)
    return calls


ROWS = np.repeat([[1, 1, 2, 3]], 4, axis=1)  # four segments of the length of a block


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [
        ({}, 16),
        ({"causal": True}, 10),
        ({"causal": True, "window": 5}, 7),
        ({"causal": True, "q_segments": ROWS, "kv_segments": ROWS}, 5),
    ],
    ids=["everything", "causal", "window", "packed"],
)
def test_pairs_of_blocks_of_which_nothing_is_seen_are_not_computed(met, fields, pairs):
    q, k, v, dout = map(jnp.asarray, dense.arrays(1, 16, 2, 1, 4))

    def both(q, k, v):
        out, back = jax.vjp(
            lambda *a: attend(*a, dense.as_mask(fields), backend="chunked"), q, k, v
        )
        return out, back(dout)

    jax.block_until_ready(dense.jit(both)(q, k, v))
    jax.effects_barrier()
    # two products a pair there, five back
    assert len(met) == pairs * (2 + 5)


def test_long_rows_take_it_by_themselves(monkeypatch):
    taken = []
    monkeypatch.setattr(chunked, "attend", lambda q, *_, scale: taken.append(q.shape[1]) or q)
    for T in (512, 513):
        attend(*(jnp.zeros((1, T, 1, 1)) for _ in "qkv"))
    assert taken == [513]
