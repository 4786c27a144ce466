"""Greedy decoding into a cache of fixed size."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from vjax.generate.prefill import Prompt, embed_tokens
from vjax.models.decoder import Cache
from vjax.models.video_llm import VideoLLM


def greedy(model: VideoLLM, prompt: Prompt, max_new_tokens: int) -> Int[Array, "B max_new_tokens"]:
    """The most probable token, again and again, until every row has ended.

    Returns:
      Token ids: the answer, its end token, then pad tokens (as transformers' `generate` does).
      Rows without a prompt give pad tokens.
    """
    spec, S = model.spec, prompt.cache.k.shape[2]
    cache = _over_slots(lambda x, axis: _grow(x, axis, max_new_tokens), prompt.cache)
    out = jnp.full((len(prompt.segment), max_new_tokens), spec.pad_token_id, jnp.int32)

    def write(out, i, logits, ended):
        """Puts token i of each row where it belongs; also says which rows are through by then."""
        token = jnp.where(ended, spec.pad_token_id, logits.argmax(axis=-1).astype(jnp.int32))
        out = jax.lax.dynamic_update_slice(out, token[:, None], (0, i))
        return out, ended | (token == spec.end_token_id)

    def go_on(carry):
        i, out, ended, _ = carry
        return (i + 1 < max_new_tokens) & ~ended.all()

    def step(carry):
        i, out, ended, cache = carry
        token = jax.lax.dynamic_slice_in_dim(out, i, 1, axis=1)
        hidden, grown = model.decoder(
            embed_tokens(model, token, cache.k.dtype),
            (prompt.position + i)[:, None],
            prompt.segment[:, None],
            rope_positions=(prompt.rope_position + i)[:, None],
            cache=cache,
            keep_kv=True,
        )

        def keep_last(old, new, axis):
            last = jax.lax.slice_in_dim(new, -1, None, axis=axis)
            return jax.lax.dynamic_update_slice_in_dim(old, last, S + i, axis)

        # the grown cache ends with this token: that slot goes to its place in the fixed one
        cache = _over_slots(keep_last, cache, grown)
        out, ended = write(out, i + 1, model.decoder.logits(hidden[:, 0]), ended)
        return i + 1, out, ended, cache

    if max_new_tokens == 0:
        return out
    out, ended = write(out, 0, prompt.logits, prompt.segment == 0)
    return jax.lax.while_loop(go_on, step, (0, out, ended, cache))[1]


def _over_slots(f: Callable, *caches: Cache) -> Cache:
    """f(leaf of each cache, the leaf's slot axis), leaf by leaf."""
    axes = {"k": 2, "v": 2, "segments": 1, "positions": 1}
    return Cache(**{x: f(*(getattr(c, x) for c in caches), axis) for x, axis in axes.items()})


def _grow(x: Array, axis: int, slots: int) -> Array:
    """x with empty slots at the end; segment 0 keeps them unseen."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, slots)
    return jnp.pad(x, pad)
