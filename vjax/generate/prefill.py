"""The prompt, read once: what scoring and decoding go on from."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vjax.models.decoder import Cache
from vjax.models.video_llm import VideoLLM


@flax.struct.dataclass
class Prompt:
    """A batch of prompts after the model has read them, one a row.

    Attributes:
      cache: keys and values of the prompts' tokens.
      logits: float32 scores of the token that comes next.
      position: of that token; rope_position: what it is rotated by, one number (a text token).
      segment: the row's segment id (0 = a row without a prompt).
    """

    cache: Cache
    logits: Float[Array, "B vocab"]
    position: Int[Array, " B"]
    rope_position: Int[Array, " B"]
    segment: Int[Array, " B"]


def prefill(model: VideoLLM, batch: dict[str, Array], *, dtype=jnp.float32) -> Prompt:
    """Runs the model over prompts: the batch dict of WORKSPACE.md, one segment a row, padded right.

    Args:
      batch: tokens, positions, segment_ids, vision_index [B, T] and images [V, H, W, 3]; and
        rope_positions [B, T, 3] where the model has M-RoPE. Prompts end with a text token.
      dtype: of the computation and of the cache.
    """
    hidden, cache = model(batch, dtype=dtype, keep_kv=True)
    last = jnp.maximum((batch["segment_ids"] > 0).sum(axis=1) - 1, 0)
    rows = jnp.arange(len(last))
    rope = batch.get("rope_positions", batch["positions"][..., None])
    return Prompt(
        cache=cache,
        logits=model.decoder.logits(hidden[rows, last]),
        position=batch["positions"][rows, last] + 1,
        rope_position=rope[rows, last, 0] + 1,
        segment=batch["segment_ids"][rows, last],
    )


def embed_tokens(model: VideoLLM, tokens: Int[Array, "..."], dtype) -> Float[Array, "... D"]:
    """Text tokens as the decoder takes them."""
    return jnp.take(model.decoder.embed[...].astype(dtype), tokens, axis=0)
