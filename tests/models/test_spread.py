"""Pictures of a batch over every device of a mesh, and what is kept of a tower."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.attention.dense import jit
from tests.models import tiny
from vjax.models import lora
from vjax.models.video_llm import VideoLLM
from vjax.sharding import make_mesh, place

V, P, D = 16, 4, 32
SIDE = tiny.SPEC.vision.image_size
MESHES = [{"context": 8}, {"tensor": 8}, {"fsdp": 2, "context": 2, "tensor": 2}]
eight = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


def pictures(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def seen(mesh, count):
    """The compiled bank of vision tokens of so many pictures, and its values."""
    graphdef, state = nnx.split(tiny.model())
    with jax.set_mesh(mesh):
        see = jit(lambda state, images: nnx.merge(graphdef, state).see({"images": images}))
        arguments = place(mesh, state), jnp.asarray(pictures(count))
        program = see.lower(*arguments).compile()
        return program, np.asarray(see(*arguments))


@eight
@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_each_device_computes_an_eighth_of_the_pictures(shape):
    alone, want = seen(make_mesh(), V)
    program, got = seen(make_mesh(**shape), V)
    np.testing.assert_allclose(got, want, atol=1e-5)
    flops = [made.cost_analysis()["flops"] for made in (program, alone)]
    assert flops[0] == pytest.approx(flops[1] / 8, rel=0.02)


@eight
def test_pictures_that_eight_devices_do_not_divide():
    got, want = (seen(make_mesh(**shape), 5)[1] for shape in ({"context": 8}, {}))
    assert got.shape == (5 * P, D)
    np.testing.assert_allclose(got, want, atol=1e-5)


def temporaries(layers, targets, *, remat=False):
    """Bytes that a gradient of what adapters in `targets` get needs on one device."""
    vision = dataclasses.replace(tiny.SPEC.vision, layers=layers, select_layer=-1)
    spec = dataclasses.replace(tiny.SPEC, vision=vision)

    def made():
        model = VideoLLM(spec, rngs=nnx.Rngs(0))
        lora.add(model, rank=2, alpha=2.0, dropout=0.0, targets=targets, rngs=nnx.Rngs(1))
        return model

    graphdef, trainable, frozen = nnx.split(
        nnx.eval_shape(made), lora.trainable_filter("lora"), ...
    )
    row = [tiny.FRAME, *[tiny.IMAGE] * P] * 64
    batch = {name: jnp.asarray(x) for name, x in tiny.batch([row], len(row)).items()}

    def loss(trainable, frozen, batch):
        hidden, _ = nnx.merge(graphdef, trainable, frozen)(batch, remat=remat)
        return jnp.square(hidden).sum()

    compiled = jax.jit(jax.grad(loss)).lower(trainable, frozen, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


ACTIVATIONS = 64 * P * D * 4  # of one layer's input, float32


def test_nothing_of_a_frozen_tower_is_kept():
    shallow, deep = (temporaries(layers, "decoder/.*") for layers in (2, 10))
    assert deep - shallow < ACTIVATIONS


@pytest.mark.slow
def test_of_a_tower_with_adapters_each_layer_keeps_its_input_alone():
    shallow, deep = (temporaries(layers, "(tower|decoder)/.*", remat=True) for layers in (2, 10))
    assert deep - shallow == pytest.approx(8 * ACTIVATIONS, rel=0.3)
    kept = temporaries(10, "(tower|decoder)/.*") - temporaries(2, "(tower|decoder)/.*")
    assert kept > 4 * (deep - shallow)
