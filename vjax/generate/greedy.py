"""Greedy decoding into a cache of fixed size."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from vjax.generate.prefill import Prompt, embed_tokens
from vjax.models.video_llm import VideoLLM


def greedy(model: VideoLLM, prompt: Prompt, max_new_tokens: int) -> Int[Array, "B max_new_tokens"]:
    """The most probable token, again and again, until every row has ended.

    Returns:
      Token ids: the answer, its end token, then pad tokens (as transformers' `generate` does).
      Rows without a prompt give pad tokens.

    Raises:
      ValueError: the prompt's cache has no room for as many.
    """
    if max_new_tokens > prompt.room:
        raise ValueError(f"{max_new_tokens} tokens, and the cache has room for {prompt.room}")
    spec = model.spec
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
        hidden, new = model.decoder(
            embed_tokens(model, token, cache.k.dtype),
            (prompt.position + i)[:, None],
            prompt.segment[:, None],
            rope_positions=(prompt.rope_position + i)[:, None],
            cache=cache,
            keep_kv=True,
        )
        cache = cache.write(new, prompt.length + i)
        out, ended = write(out, i + 1, model.decoder.logits(hidden[:, 0]), ended)
        return i + 1, out, ended, cache

    if max_new_tokens == 0:
        return out
    out, ended = write(out, 0, prompt.logits, prompt.segment == 0)
    return jax.lax.while_loop(go_on, step, (0, out, ended, prompt.cache))[1]
