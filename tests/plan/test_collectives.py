"""What a compiled program sends, read from its text: kinds, axes, loops."""

import functools
import importlib.util
import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vjax.plan.collectives import Traffic, traffic
from vjax.plan.machines import Machine
from vjax.sharding import MESH_AXES, make_mesh, mesh_over

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")

N, D = 5, 16  # times round the loop, width


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_a_sum_in_a_loop(axis):
    mesh = make_mesh(data=2, fsdp=4)
    ways = mesh.shape[axis]

    def local(x):
        return jax.lax.scan(lambda x, _: (jax.lax.psum(x, axis) / ways + 1, None), x, length=N)[0]

    run = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(),
                        check_vma=False)  # fmt: skip
    text = jax.jit(run).lower(jnp.zeros((D, D))).compile().as_text()
    # a ring sends each number twice, but for its own part
    sent = N * 2 * D * D * 4 * (ways - 1) / ways
    assert traffic(text, mesh.shape) == [Traffic("all-reduce", axis, N, sent)]


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_a_sum_in_a_loop_of_a_program_for_tpus():
    """Which does not say how often its loops run."""
    mesh = mesh_over(Machine.named("v5e:2x2").devices(), (1, 4, 1, 1))

    def local(x):
        def outer(x, _):
            return jax.lax.scan(lambda x, _: (jnp.tanh(jax.lax.psum(x, "fsdp")), None), x, length=3)

        return jax.lax.scan(outer, x, length=N)[0]

    run = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(),
                        check_vma=False)  # fmt: skip
    x = jax.ShapeDtypeStruct((8, 128), "float32", sharding=NamedSharding(mesh, PartitionSpec()))
    found = traffic(jax.jit(run).lower(x).compile().as_text(), mesh.shape)
    assert found == [Traffic("all-reduce", "fsdp", 3 * N, 3 * N * 2 * 8 * 128 * 4 * 3 / 4)]


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize(
    ("chips", "way"),
    [
        (4, "async_collective_fusion"),  # a gather in steps, each of which has the whole of it
        (16, "windowed_dot_general"),  # a gather by hops, two of them a turn of the loop each way
    ],
)
def test_gathers_inside_products_of_a_program_for_tpus(chips, way):
    side = math.isqrt(chips)
    mesh = mesh_over(Machine.named(f"v5e:{side}x{side}").devices(), (1, chips, 1, 1))

    def layer(x, weights):
        up, down = weights
        return x + jnp.tanh(x @ up) @ down, None

    def array(*shape, split):
        at = NamedSharding(mesh, PartitionSpec(*split))
        return jax.ShapeDtypeStruct(shape, "bfloat16", sharding=at)

    width, rows = 1024, array(chips, 1024, 1024, split=["fsdp"])
    weights = (
        array(N, width, 2 * width, split=[None, "fsdp"]),
        array(N, 2 * width, width, split=[None, "fsdp"]),
    )
    with jax.set_mesh(mesh):
        text = jax.jit(lambda x, w: jax.lax.scan(layer, x, w)[0]).lower(rows, weights)
        text = text.compile().as_text()
    assert way in text
    once = 2 * N * 2 * width * width * 2 * (chips - 1) / chips
    # hops of a loop that is taken in twos come to a few more than devices less one
    assert once <= sum(one.bytes for one in traffic(text, mesh.shape)) <= 1.2 * once


def test_of_branches_the_one_that_sends_most():
    mesh = make_mesh(fsdp=4)

    def local(x):
        def times(n, x):
            for _ in range(n):
                x = jnp.tanh(jax.lax.psum(x, "fsdp"))
            return x

        ways = (functools.partial(times, n) for n in (1, 2))
        return jax.lax.cond(x.sum() > 0, *ways, x)

    run = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(),
                        check_vma=False)  # fmt: skip
    text = jax.jit(run).lower(jnp.zeros((D, D))).compile().as_text()
    sent = 2 * 2 * D * D * 4 * 3 / 4
    assert traffic(text, mesh.shape) == [Traffic("all-reduce", "fsdp", 2, sent)]


def test_a_loop_that_ends_when_it_likes():
    mesh = make_mesh(fsdp=4)

    def local(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: jax.lax.psum(x, "fsdp"), x)

    run = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(),
                        check_vma=False)  # fmt: skip
    (found,) = traffic(jax.jit(run).lower(jnp.zeros(D)).compile().as_text(), mesh.shape)
    assert (found.axes, found.count) == ("fsdp (a loop of unknown length, once)", 1)


def test_a_hop_and_a_gather():
    mesh = make_mesh(context=4, tensor=2)

    def local(x):
        ring = [(n, (n + 1) % 4) for n in range(4)]
        x = jax.lax.ppermute(x, "context", ring)
        return jax.lax.all_gather(x, "tensor", tiled=True)

    split = PartitionSpec(("context", "tensor"))
    run = jax.shard_map(
        local, mesh=mesh, in_specs=split, out_specs=PartitionSpec("context"), check_vma=False
    )
    x = jax.ShapeDtypeStruct((8, D), jnp.float32, sharding=NamedSharding(mesh, split))
    found = traffic(jax.jit(run).lower(x).compile().as_text(), mesh.shape)
    row = D * 4
    assert found == [
        Traffic("all-gather", "tensor", 1, row),  # of two rows, the other one's
        Traffic("collective-permute", "context", 1, row),
    ]


def test_axes_are_those_of_every_mesh():
    assert tuple(make_mesh().shape) == MESH_AXES


def test_attributes_over_several_lines_end_no_computation():
    """As kernels have in programs for TPUs."""
    mesh = make_mesh(fsdp=8)
    text = """
ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %kernel = f32[8]{0} custom-call(%x), frontend_attributes={kernel_metadata={
"metadata":"{}"
}}, metadata={op_name="splash"}
  ROOT %sum = f32[8]{0} all-reduce(%kernel), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
}
"""
    assert traffic(text, mesh.shape) == [Traffic("all-reduce", "fsdp", 1, 2 * 8 * 4 * 7 / 8)]
