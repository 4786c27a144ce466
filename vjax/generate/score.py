"""Log-probabilities of whole candidate answers."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from vjax.generate.prefill import Prompt, embed_tokens
from vjax.models.video_llm import VideoLLM

# tokens of candidates, over all rows, that are read at once: their logits are in memory together
TOKENS = 1024


def candidate_logprobs(
    model: VideoLLM,
    prompt: Prompt,
    tokens: Int[Array, "B C A"],
    mask: Bool[Array, "B C A"],
) -> Float[Array, "B C"]:
    """log p(candidate | prompt): the sum over the candidate's tokens.

    An end-of-turn token counts where the candidate holds one. Candidates of one token cost nothing
    beyond the prompt. Others are read in groups, side by side behind their row's cache.

    Args:
      tokens: candidates, padded right.
      mask: True on real tokens; a candidate without any is padding and gets -inf.
    """
    B, C, A = tokens.shape
    logp = jax.nn.log_softmax(prompt.logits)
    total = jnp.where(mask[..., 0], jnp.take_along_axis(logp, tokens[..., 0], axis=1), -jnp.inf)
    if A == 1:
        return total

    group = max(1, min(C, TOKENS // (B * A)))
    fill = -C % group
    tokens, mask = (jnp.pad(x, ((0, 0), (0, fill), (0, 0))) for x in (tokens, mask))

    def rest(args):
        """Log-probability of all tokens but the first, of one group of candidates a row."""
        tokens, mask = (rearrange(x, "b c a -> (b c) a") for x in args)
        position, rope, segment = (
            jnp.repeat(x, group) for x in (prompt.position, prompt.rope_position, prompt.segment)
        )
        hidden, _ = model.decoder(
            embed_tokens(model, tokens[:, :-1], prompt.cache.k.dtype),
            position[:, None] + jnp.arange(A - 1),
            jnp.where(mask[:, :-1], segment[:, None], 0),
            rope_positions=rope[:, None] + jnp.arange(A - 1),
            cache=prompt.cache,
        )
        logits = model.decoder.logits(hidden)
        said = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        logp = said - jax.nn.logsumexp(logits, axis=-1)
        return jnp.where(mask[:, 1:], logp, 0).sum(axis=1).reshape(B, group)

    groups = [rearrange(x, "b (n c) a -> n b c a", c=group) for x in (tokens, mask)]
    more = rearrange(jax.lax.map(rest, groups), "n b c -> b (n c)")
    return total + more[:, :C]
