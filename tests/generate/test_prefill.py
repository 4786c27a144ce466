"""Prompts that are read in chunks: those that are read at once."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from tests.attention.dense import jit
from tests.generate import reading
from tests.models import tiny
from vjax.families.spec import RopeScaling
from vjax.generate import greedy, prefill

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module", params=reading.SPECS)
def read(request):
    """Model, batch and what it answers when it reads all at once."""
    model = tiny.model(reading.SPECS[request.param])
    batch = reading.prompts(request.param)
    return model, batch, reading.answers(model, batch)


@pytest.mark.parametrize(
    "chunk", [4, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10, 64))]
)
def test_chunks_change_nothing(read, chunk):
    model, batch, want = read
    reading.agree(reading.answers(model, batch, chunk=chunk), want)


def long(spec, length, chunk, pictures=0):
    """Bytes of temporaries of the compiled reading of one long prompt, and of its cache."""
    graphdef, state = nnx.split(tiny.model(spec))
    fields = ("tokens", "positions", "segment_ids", "vision_index")
    batch = {name: jax.ShapeDtypeStruct((1, length), "int32") for name in fields}
    if pictures:
        batch["images"] = jax.ShapeDtypeStruct((pictures, 16, 16, 3), "uint8")

    def run(state, batch):
        return prefill(nnx.merge(graphdef, state), batch, chunk=chunk)

    text = spec.text
    kept = 2 * text.layers * length * text.kv_heads * text.head_dim * 4
    return jit(run).lower(state, batch).compile().memory_analysis().temp_size_in_bytes, kept


def test_memory_is_that_of_a_chunk():
    wide = dataclasses.replace(tiny.SPEC.text, ffn=1024)
    spec = dataclasses.replace(tiny.SPEC, vision=None, projector=None, text=wide)
    (whole, _), (half, _), (chunked, kept) = (
        long(spec, *at) for at in ((4096, 0), (2048, 256), (4096, 256))
    )
    assert chunked < 0.2 * whole
    assert chunked - half < kept  # what grows with the prompt is its cache, at most twice


def test_towers_see_as_much_at_a_time():
    wide = dataclasses.replace(tiny.SPEC.vision, ffn=2048)
    spec = dataclasses.replace(tiny.SPEC, vision=wide)
    whole, chunked = (long(spec, 128, chunk, pictures=256)[0] for chunk in (0, 16))
    assert chunked < 0.2 * whole


def test_a_prompt_beyond_the_reach_of_dynamic_positions_is_refused():
    scaled = RopeScaling(kind="dynamic", factor=2.0, original_length=16)
    spec = dataclasses.replace(
        tiny.SPEC, text=dataclasses.replace(tiny.SPEC.text, rope_scaling=scaled)
    )
    with pytest.raises(ValueError, match="rows of 20 tokens"):
        jax.eval_shape(
            lambda batch: prefill(tiny.model(spec), batch, chunk=8), reading.prompts("plain")
        )


def test_a_cache_without_room_is_refused(read):
    model, batch, _ = read
    with pytest.raises(ValueError, match="3 tokens, and the cache has room for 2"):
        jax.eval_shape(lambda batch: greedy(model, prefill(model, batch, room=2), 3), batch)


def test_zeros_stand_where_nothing_is_kept(read):
    model, batch, _ = read
    batch = {name: np.asarray(x) for name, x in batch.items()}
    cache = jit(lambda batch: prefill(model, batch, chunk=6).cache)(batch)
    empty = cache.segments == 0
    assert empty[:, reading.T :].all() and not np.asarray(cache.k)[:, empty].any()
