"""The mesh and the table of logical axes."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from tests.models import tiny
from vjax import sharding
from vjax.models import lora
from vjax.models.video_llm import VideoLLM
from vjax.plan.machines import Machine

pytestmark = pytest.mark.smoke


def test_names_become_mesh_axes():
    got = sharding.partition_spec(("layers", "embed", "ffn"))
    assert got == PartitionSpec(None, ("fsdp",), ("tensor",))
    assert sharding.partition_spec(("batch", "length", None)) == PartitionSpec(
        ("data", "fsdp"), ("context",), None
    )
    assert sharding.partition_spec(()) == PartitionSpec()


def test_two_names_on_one_mesh_axis_are_an_error_that_names_both():
    with pytest.raises(ValueError, match="'ffn' and 'vocab' both lie on mesh axis 'tensor'"):
        sharding.partition_spec(("ffn", "vocab"))
    with pytest.raises(ValueError, match="'batch' and 'embed' both lie on mesh axis 'fsdp'"):
        sharding.partition_spec(("batch", "embed"))


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="'embd' is not in sharding.RULES: batch, length"):
        sharding.partition_spec(("embd",))


def test_the_table_names_mesh_axes_only():
    on = {axis for axes in sharding.RULES.values() for axis in axes or ()}
    assert on == set(sharding.MESH_AXES)


def test_every_variable_of_a_model_has_a_place():
    def build():
        model = VideoLLM(tiny.spec(tied=False), rngs=nnx.Rngs(0))
        lora.add(model, rank=2, alpha=2.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(1))
        return model

    for path, variable in nnx.to_flat_state(nnx.state(nnx.eval_shape(build))):
        axes = variable.get_metadata()["axes"]
        assert len(axes) == len(variable.shape), path
        sharding.partition_spec(axes)


def test_a_mesh_has_the_four_axes_and_leaves_sharding_to_the_compiler():
    mesh = sharding.make_mesh()
    assert mesh.axis_names == ("data", "fsdp", "context", "tensor")
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    assert mesh.size == 1


def test_a_mesh_larger_than_the_machine_is_an_error_with_both_numbers():
    have = jax.device_count()
    with pytest.raises(
        ValueError, match=f"data=1 fsdp={have + 1} .* needs {have + 1} devices, {have} f"
    ):
        sharding.make_mesh(fsdp=have + 1)


def test_replicated_arrays_are_equal_and_whole_on_the_mesh():
    mesh = sharding.make_mesh()
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.int32(3)}
    got = sharding.replicate(mesh, tree)
    for name, value in tree.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].sharding.is_fully_replicated
    assert sharding.shardings_of(got)["a"].mesh == mesh


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_a_mesh_that_does_not_lie_on_a_torus_is_an_error_that_names_it():
    chips = Machine.named("v5p:8x8x16").devices()
    with pytest.raises(ValueError, match="mesh data=4 fsdp=256 .* does not lie on these chips"):
        sharding.mesh_over(chips, (4, 256, 1, 1))
    assert sharding.mesh_over(chips, (8, 128, 1, 1)).size == 1024
