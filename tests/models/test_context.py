"""A decoder on a mesh whose context axis splits rows: the model of one device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from tests.attention.dense import jit
from tests.models import tiny
from vjax.attention import chunked
from vjax.data.order import zigzag
from vjax.sharding import make_mesh, place

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices"),
]

T = 32
ROWS = {
    "x": np.random.default_rng(0).standard_normal((2, T, 32)).astype(np.float32),
    "positions": np.stack([np.r_[0:20, 0:10, 0, 0], np.r_[0:25, 0:7]]),
    "segments": np.stack([np.repeat([1, 2, 0], [20, 10, 2]), np.repeat([1, 2], [25, 7])]),
}


def run(decoder, rows):
    """Hidden states, and gradients of the sum of their squares over real tokens."""
    graphdef, state = nnx.split(decoder)

    def loss(state, rows):
        hidden, _ = nnx.merge(graphdef, state)(**rows, remat=True)
        real = (rows["segments"] > 0)[..., None]
        return jnp.where(real, jnp.square(hidden), 0).sum(), hidden

    rows = {name: jnp.asarray(x) for name, x in rows.items()}
    grads, hidden = jit(jax.grad(loss, has_aux=True))(state, rows)
    return hidden, grads


@pytest.fixture(scope="module")
def whole():
    return run(tiny.model(tiny.spec(kv_heads=2)).decoder, ROWS)


@pytest.mark.parametrize(
    ("method", "order", "mesh"),
    [
        ("ring", "zigzag", {"context": 4, "data": 2}),
        pytest.param(
            *("ring", "contiguous", {"context": 2, "data": 2, "tensor": 2}), marks=pytest.mark.slow
        ),
        pytest.param(*("all_gather", "zigzag", {"context": 4, "fsdp": 2}), marks=pytest.mark.slow),
        ("ulysses", "contiguous", {"context": 2, "data": 2}),
    ],
)
def test_rows_that_are_split_give_the_states_and_gradients_of_whole_rows(
    whole, method, order, mesh
):
    decoder = tiny.model(tiny.spec(kv_heads=2)).decoder
    want, want_grads = whole
    to = zigzag(T, mesh["context"]) if order == "zigzag" else np.arange(T)
    decoder.context_parallel = method
    with jax.set_mesh(make_mesh(**mesh)):
        got, grads = run(decoder, {name: x[:, to] for name, x in ROWS.items()})
    real = (ROWS["segments"] > 0)[..., None]
    difference = np.where(real, got[:, np.argsort(to)] - want, 0)
    np.testing.assert_allclose(difference, 0, atol=2e-6)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want_grads))
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, atol=1e-5 * scale), grads, want_grads
    )


@pytest.mark.slow
def test_what_is_kept_of_a_row_is_split_too(monkeypatch):
    monkeypatch.setattr(chunked, "BLOCK", 64)  # a pair of blocks takes as much on any mesh
    decoder = tiny.model(tiny.spec(kv_heads=2)).decoder
    graphdef, state = nnx.split(decoder)

    def loss(state, x, ids):
        return jnp.square(nnx.merge(graphdef, state)(x, ids, ids)[0]).sum()

    def temporaries(n):
        with jax.set_mesh(make_mesh(context=n)):
            shapes = jax.ShapeDtypeStruct((1, 4096, 32), "float32"), jax.ShapeDtypeStruct(
                (1, 4096), "int32"
            )  # fmt: skip
            program = jit(jax.grad(loss)).lower(state, *shapes).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporaries(8) < 0.4 * temporaries(2)


@pytest.mark.parametrize(
    ("backward", "hops"),
    # keys, values, positions and segments hop, in a loop and once behind it; on the way back, after
    # the layer is run again, dk and dv too (tests/attention/test_context.py counts those)
    [(False, 2 * 4), (True, 2 * 4 + 2 * 4 + 4 + 3 * 2)],
)
def test_collectives_of_a_layer(backward, hops):
    graphdef, state = nnx.split(tiny.model(tiny.spec(kv_heads=2)).decoder)

    def loss(state, x, positions, segments):
        hidden, _ = nnx.merge(graphdef, state)(x, positions, segments, remat=True)
        return jnp.square(hidden).sum()

    mesh = make_mesh(context=8)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(None, "context"))
        shapes = [
            jax.ShapeDtypeStruct((1, 128, 32), "float32", sharding=rows),
            *[jax.ShapeDtypeStruct((1, 128), "int32", sharding=rows)] * 2,
        ]
        run = jax.jit(jax.grad(loss) if backward else loss)
        program = run.lower(place(mesh, state), *shapes).compile().as_text()
    # layers are one loop, so that what is in the program is there once a layer
    assert len(re.findall(r" collective-permute(?:-start)?\(", program)) == hops
    assert "all-gather" not in program
    assert "all-to-all" not in program


@pytest.mark.parametrize("n", [1, 4])
def test_memory_of_stacked_layers_grows_with_length(n, monkeypatch):
    """What the mask alone decides is not kept for all pairs of blocks by the scan over layers."""
    monkeypatch.setattr(chunked, "BLOCK", 32)
    decoder = tiny.model(tiny.spec(kv_heads=2)).decoder
    decoder.attention = "chunked"
    graphdef, state = nnx.split(decoder)

    def loss(x, ids):
        return jnp.square(nnx.merge(graphdef, state)(x, ids, ids, remat=True)[0]).sum()

    def temporaries(T):
        with jax.set_mesh(make_mesh(context=n)):
            shapes = jax.ShapeDtypeStruct((1, T, 32), "float32"), jax.ShapeDtypeStruct(
                (1, T), "int32"
            )  # fmt: skip
            program = jit(jax.grad(loss)).lower(*shapes).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporaries(2048) < 2.5 * temporaries(1024)
