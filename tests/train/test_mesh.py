"""The step on a mesh of 8 devices: the losses and gradients of one device, however it is split."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.data import made_up
from tests.models import tiny
from tests.train.tiny_step import flat, jit
from vjax.data import device
from vjax.data.collate import Shape, collate
from vjax.data.order import Zigzag
from vjax.families.spec import ProjectorSpec
from vjax.models import lora
from vjax.prompts import tokenizer
from vjax.prompts.chat import Chat
from vjax.prompts.media import Squares
from vjax.sharding import check_split, make_mesh, place, replicate, shardings_of
from vjax.train.step import TrainState, make_step

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")

TEXT = dataclasses.replace(made_up.SPEC.text, heads=4, kv_heads=2, head_dim=8, ffn=64)
MROPE = dataclasses.replace(TEXT, mrope=(1, 1, 2))
SPECS = {
    "one position": dataclasses.replace(made_up.SPEC, text=TEXT),
    "M-RoPE": dataclasses.replace(made_up.SPEC, text=MROPE),
    "windows and taps": dataclasses.replace(
        made_up.SPEC,
        vision=dataclasses.replace(
            made_up.SPEC.vision, patch_size=4, merge=2, position="rope2d", window=2, taps=(0,),
            full_layers=(1,), table_side=3,
        ),
        projector=ProjectorSpec(kind="deepstack", merge=2, norm=True),
        text=MROPE,
    ),
}  # fmt: skip
# data, fsdp, context, tensor
FEW = [(8, 1, 1, 1), (1, 8, 1, 1), (1, 1, 8, 1), (1, 1, 1, 8), (2, 2, 1, 2), (1, 4, 2, 1),
       (2, 1, 4, 1), (1, 2, 2, 2)]  # fmt: skip
ALL = [s for s in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(s) == 8]


def batch(spec):
    """Eight rows of examples and their pictures."""
    chat = Chat(made_up.small_tokenizer(), tokenizer.TINY_TEMPLATE, spec, Squares.of(spec))
    asked = [made_up.question(f"Tell me {n}.", "A red box.", 1 + n % 3, seed=n) for n in range(12)]
    made = [chat.encode(one) for one in asked]
    rows = [[made[n], made[8 + n]] if n < 4 else [made[n]] for n in range(8)]
    shape = Shape(8, 128, 48, 16, spec.frame_side**2, row_images=6)
    return collate(rows, shape, pad_token_id=made_up.PAD)


def one_step(spec, mesh):
    """Metrics and what trains after a step of gradient descent, by name."""
    model = tiny.model(spec)
    lora.add(model, rank=8, alpha=8.0, dropout=0.0, targets=".*", rngs=nnx.Rngs(1))
    graphdef, trainable, frozen = nnx.split(model, lora.trainable_filter("lora|projector/.*"), ...)
    trainable = jax.tree.map(lambda x: x + 0.02, trainable)  # with B = 0 no gradient reaches A
    tx, make = optax.sgd(1.0), lambda i: batch(spec)
    if mesh.shape["context"] > 1:
        make = Zigzag(make, mesh.shape["context"], stacked=False)
    with jax.set_mesh(mesh):
        frozen, trainable = place(mesh, frozen), place(mesh, trainable)
        state = TrainState(trainable, tx.init(trainable), replicate(mesh, jnp.zeros((), jnp.int32)))
        step = jit(make_step(graphdef, tx), out_shardings=(shardings_of(state), None))
        state, metrics = step(state, frozen, device.put(make(0), mesh))
    return {k: float(v) for k, v in metrics.items()}, flat(jax.device_get(state.trainable))


@pytest.fixture(scope="module")
def alone():
    """By name of a spec, what one device gives."""
    return {name: one_step(spec, make_mesh()) for name, spec in SPECS.items()}


def check_same(alone, name, shape):
    mesh = make_mesh(*shape)
    metrics, after = one_step(SPECS[name], mesh)
    want, wanted = alone[name]
    assert metrics["tokens"] == want["tokens"]
    np.testing.assert_allclose(metrics["loss"], want["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], want["grad_norm"], rtol=1e-5)
    for path, value in wanted.items():
        np.testing.assert_allclose(after[path], value, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("shape", FEW, ids=lambda s: "x".join(map(str, s)))
def test_a_mesh_gives_what_one_device_gives(alone, shape):
    check_same(alone, "one position", shape)


@pytest.mark.parametrize("name", ["M-RoPE", "windows and taps"])
@pytest.mark.parametrize("shape", [(2, 2, 1, 2), (1, 1, 8, 1)])
def test_with_three_positions_too(alone, name, shape):
    check_same(alone, name, shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("shape", ALL, ids=lambda s: "x".join(map(str, s)))
def test_every_factorisation(alone, name, shape):
    check_same(alone, name, shape)


def test_variables_are_split_as_the_table_says():
    mesh = make_mesh(fsdp=4, tensor=2)
    _, state = nnx.split(tiny.model(SPECS["one position"]))
    placed = place(mesh, state)
    kernel = placed["decoder"]["layers"]["mlp"]["gate"]["kernel"][...]  # [layers, embed, ffn]
    L, D, F = kernel.shape
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(L, D // 4, F // 2)}
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(placed))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(placed))
    assert held < 0.3 * total  # norms and biases are whole
    check_split(mesh, placed)


def test_a_mesh_that_divides_little_is_refused():
    spec = dataclasses.replace(SPECS["one position"], text=dataclasses.replace(TEXT, ffn=60))
    _, state = nnx.split(tiny.model(spec))
    with pytest.raises(ValueError, match=r"mesh data=1 .* tensor=8 leaves \d+% of .* 2x60x32"):
        check_split(make_mesh(tensor=8), state)
