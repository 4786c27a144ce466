"""Vision tokens on a mesh: those of a gather, and no device holds the bank of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.attention.dense import jit
from vjax.models.bank import taken
from vjax.sharding import make_mesh

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
B, T, N, E = 8, 12, 64, 16
ROWS = PartitionSpec(("data", "fsdp"))


def index_of(where):
    """-1 is text, N the newline; `beside` as pictures lie that are dealt out with their rows."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, N, (B, T))
    if where == "beside":
        index = index % (N // B) + np.arange(B)[:, None] * (N // B)
    index[rng.random((B, T)) < 0.3] = -1
    index[:, -1] = N
    return index.astype(np.int32)


def sums(bank, index, weights):
    seen = jnp.where((index >= 0)[..., None], taken(bank, index, newline=True), 0)
    return (seen * weights).sum(), seen


def made(mesh, arrays):
    with jax.set_mesh(mesh):
        run = jit(jax.value_and_grad(sums, has_aux=True))
        program = run.lower(*arrays).compile()
        return program, program(*arrays)


@pytest.mark.parametrize("where", ["beside", "anywhere"])
@pytest.mark.parametrize(
    "shape", [{"fsdp": 8}, {"data": 4, "context": 2}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str
)
def test_tokens_and_gradients_are_those_of_a_gather(where, shape):
    rng = np.random.default_rng(1)
    bank = rng.normal(size=(N + 1, E)).astype(np.float32)
    weights = rng.normal(size=(B, T, E)).astype(np.float32)
    index = index_of(where)
    want = jnp.where((index >= 0)[..., None], bank[np.maximum(index, 0)], 0)
    (_, got), gradient = made(make_mesh(**shape), (bank, index, weights))[1]
    np.testing.assert_array_equal(got, want)
    theirs = np.zeros_like(bank)
    np.add.at(theirs, index[index >= 0], weights[index >= 0])
    np.testing.assert_allclose(gradient, theirs, atol=1e-5)


def test_no_device_holds_the_whole_bank():
    """Nothing is gathered, and what a device holds beside its part does not grow with the bank."""
    mesh = make_mesh(fsdp=8)

    def program(count):
        shapes = ((8 * count, 256), "float32"), ((B, T), "int32")
        where = NamedSharding(mesh, ROWS)
        given = [jax.ShapeDtypeStruct(*shape, sharding=where) for shape in shapes]
        with jax.set_mesh(mesh):
            run = jit(lambda bank, index: taken(bank, index, newline=False))
            return run.lower(*given).compile()

    assert "all-gather" not in program(1024).as_text()
    part = 1024 * 256 * 4  # bytes
    grown = [program(n).memory_analysis().temp_size_in_bytes for n in (1024, 2048)]
    assert grown[1] - grown[0] < 3 * part  # of the parts that go round, where 8 would be the bank
