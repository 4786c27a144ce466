"""Prompts whose keys and values several devices keep: the answers of one device."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.attention.dense import jit
from tests.generate import reading
from tests.models import tiny
from vjax.generate import candidate_logprobs, greedy, prefill
from vjax.sharding import make_mesh, place

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


@pytest.fixture(scope="module")
def whole():
    """What one device answers, by kind of model; worked out once."""
    made = {}

    def of(kind):
        if kind not in made:
            model, batch = tiny.model(reading.SPECS[kind]), reading.prompts(kind)
            made[kind] = model, batch, reading.answers(model, batch)
        return made[kind]

    return of


@pytest.mark.parametrize(
    ("kind", "mesh", "chunk", "method"),
    [
        ("plain", {"context": 2}, 0, "ring"),
        ("plain", {"context": 8}, 0, "ring"),
        ("plain", {"context": 8}, 5, "ring"),
        ("deep", {"data": 2, "context": 2, "tensor": 2}, 6, "ring"),
        pytest.param("deep", {"context": 4, "fsdp": 2}, 0, "ring", marks=pytest.mark.slow),
        pytest.param("plain", {"context": 4}, 4, "ring", marks=pytest.mark.slow),
        pytest.param("plain", {"context": 4}, 0, "all_gather", marks=pytest.mark.slow),
        pytest.param("plain", {"context": 2}, 0, "ulysses", marks=pytest.mark.slow),
        pytest.param("plain", {"fsdp": 4, "tensor": 2}, 6, "ring", marks=pytest.mark.slow),
        pytest.param(
            *("deep", {"fsdp": 2, "context": 2, "tensor": 2}, 0, "ring"), marks=pytest.mark.slow
        ),
    ],
)
def test_answers_are_those_of_one_device(whole, kind, mesh, chunk, method):
    model, batch, want = whole(kind)
    model.decoder.context_parallel = method
    devices = make_mesh(**mesh)
    with jax.set_mesh(devices):
        got = reading.answers(model, batch, chunk=chunk, place=lambda s: place(devices, s))
    reading.agree(got, want)


def compiled(context, length=512, chunk=64):
    """Programs that read a long prompt, score and answer, for so many devices."""
    model = tiny.model(reading.PLAIN)
    graphdef, state = nnx.split(model)
    mesh = make_mesh(context=context)
    batch = {name: np.zeros((1, length), np.int32) for name in ("tokens", "vision_index")}
    batch |= {"positions": np.arange(length)[None], "segment_ids": np.ones((1, length), np.int32)}
    batch |= {"images": np.zeros((1, 16, 16, 3), np.uint8)}
    tokens, mask = (jnp.asarray(x[:1]) for x in reading.candidates())

    def read(state, batch):
        return prefill(nnx.merge(graphdef, state), batch, chunk=chunk, room=8)

    def go_on(state, leaves):
        model, prompt = nnx.merge(graphdef, state), jax.tree.unflatten(made_of, leaves)
        scores = candidate_logprobs(model, prompt, tokens, mask)
        return scores, greedy(model, prompt, 8)

    with jax.set_mesh(mesh):
        state = place(mesh, state)
        first = jit(read).lower(state, batch).compile()
        prompt = first(state, batch)
        leaves, made_of = jax.tree.flatten(prompt)
        return first, jit(go_on).lower(state, leaves).compile(), prompt.cache


def gathered(program) -> list[int]:
    """Numbers that each all-gather of a program brings together."""
    found = re.findall(
        r"= \(?\w+\[([\d,]*)\]\S* (?:\S+ )?all-gather(?:-start)?\(", program.as_text()
    )
    return [int(np.prod([int(d) for d in dims.split(",") if d])) for dims in found]


def test_keys_and_values_stay_where_they_are():
    reading_it, answering, cache = compiled(8)
    # queries of a chunk and what belongs to them, and no more
    sizes = gathered(reading_it)
    assert sizes and max(sizes) <= 64 * 4 * 8 < 512 * 2 * 8
    assert not gathered(answering)
    for program in (reading_it, answering):
        assert "all-to-all" not in program.as_text()
        assert "collective-permute" not in program.as_text()
    assert cache.k.sharding.shard_shape(cache.k.shape)[2] == 512 // 8 + 1


def test_each_device_keeps_its_part():
    """What a device needs to read a prompt, and to go on from it, falls with the devices."""
    few, many = (compiled(n, length=4096, chunk=16) for n in (2, 8))
    kept = [p[2].k.addressable_shards[0].data.nbytes for p in (few, many)]
    assert kept[1] <= kept[0] / 4 + 4096
    for n in (0, 1):
        sizes = [p[n].memory_analysis().temp_size_in_bytes for p in (few, many)]
        assert sizes[1] < 0.5 * sizes[0]
    outs = [p[0].memory_analysis().output_size_in_bytes for p in (few, many)]
    assert outs[1] < 0.3 * outs[0]
