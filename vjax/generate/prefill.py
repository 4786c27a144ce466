"""The prompt, read once: what scoring and decoding go on from."""

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from vjax.attention import Cache, context_size
from vjax.data.order import TOKEN_FIELDS, zigzag
from vjax.models.layers import check_length
from vjax.models.video_llm import VideoLLM, look
from vjax.sharding import mesh_size


@flax.struct.dataclass
class Prompt:
    """A batch of prompts after the model has read them, one a row.

    Attributes:
      cache: keys and values of the prompts' tokens, and empty slots.
      logits: float32 scores of the token that comes next.
      position: of that token; rope_position: what it is rotated by, one number (a text token).
      segment: the row's segment id (0 = a row without a prompt).
      length: slots of a row that are taken, padding included.
      room: tokens that may be written behind them.
    """

    cache: Cache
    logits: Float[Array, "B vocab"]
    position: Int[Array, " B"]
    rope_position: Int[Array, " B"]
    segment: Int[Array, " B"]
    length: int = flax.struct.field(pytree_node=False)
    room: int = flax.struct.field(pytree_node=False)


def prefill(
    model: VideoLLM,
    batch: dict[str, Array],
    *,
    dtype=jnp.float32,
    chunk: int = 0,
    room: int = 0,
) -> Prompt:
    """Runs the model over prompts: the batch dict of WORKSPACE.md, one segment a row, padded right.

    Where a mesh splits rows, they are padded here to what its axis `context` divides.

    Args:
      batch: tokens, positions, segment_ids, vision_index [B, T] and images [V, H, W, 3]; and
        rope_positions [B, T, 3] where the model has M-RoPE. Prompts end with a text token.
      dtype: of the computation and of the cache.
      chunk: tokens of a row that are read at once, the others one chunk after another, each into
        the cache that the next one sees; 0 = all. Vision tokens are made before, for all chunks,
        from as many pictures at a time as have patches for a chunk's tokens.
      room: tokens that will be written behind the prompt.

    Raises:
      ValueError: a prompt that the model's rotary positions do not reach.
    """
    n, T = context_size(), batch["tokens"].shape[1]
    check_length(model.spec.text, T)
    chunk = min(chunk or T, T)
    whole = chunk == T
    # whole rows lie in zigzag order; chunks need not: any device meets all queries of a chunk
    chunk += -chunk % (2 * n if whole and n > 1 else n)
    batch = _padded(batch, -T % chunk)
    if whole and n > 1 and model.decoder.context_parallel != "ulysses":
        order = zigzag(chunk, n)
        batch |= {name: batch[name][:, order] for name in TOKEN_FIELDS if name in batch}
    length = batch["tokens"].shape[1]
    B, spec = len(batch["tokens"]), model.spec.text
    cache = Cache.empty((spec.layers, B, length + room, spec.kv_heads, spec.head_dim), dtype)
    # where the last token is; positions, because the order may be any
    real = batch["segment_ids"] > 0
    end = jnp.where(real, batch["positions"], -1).argmax(axis=1)
    is_end = jnp.arange(length) == end[:, None]
    read = _whole if whole else _in_chunks
    cache, hidden = read(model, batch, is_end, cache, chunk, dtype)
    rows = jnp.arange(B)
    rope = batch.get("rope_positions", batch["positions"][..., None])
    return Prompt(
        cache=cache,
        logits=model.decoder.logits(hidden),
        position=batch["positions"][rows, end] + 1,
        rope_position=rope[rows, end, 0] + 1,
        segment=batch["segment_ids"][rows, end],
        length=length,
        room=room,
    )


def embed_tokens(model: VideoLLM, tokens: Int[Array, "..."], dtype) -> Float[Array, "... D"]:
    """Text tokens as the decoder takes them."""
    return jnp.take(model.decoder.embed[...].astype(dtype), tokens, axis=0)


def _whole(model, batch, is_end, cache, chunk, dtype):
    hidden, new = model(batch, dtype=dtype, keep_kv=True)
    return cache.write(new, 0), _picked(hidden, is_end)


def _in_chunks(model, batch, is_end, cache, chunk, dtype):
    bank = None
    if model.tower is not None:
        patches = len(is_end) * chunk
        bank = model.see(_looked_at(model, batch, patches, dtype), dtype=dtype)
    fields = {name: batch[name] for name in TOKEN_FIELDS if name in batch} | {"is_end": is_end}
    chunks = jax.tree.map(lambda x: rearrange(x, "b (n t) ... -> n b t ...", t=chunk), fields)

    def step(carry, some):
        cache, last, at = carry
        hidden, new = model(some, bank, cache=cache, dtype=dtype, keep_kv=True)
        return (cache.write(new, at), last + _picked(hidden, some["is_end"]), at + chunk), None

    last = jnp.zeros((len(is_end), model.spec.text.width), dtype)
    (cache, last, _), _ = jax.lax.scan(step, (cache, last, jnp.int32(0)), chunks)
    return cache, last


def _looked_at(model, batch, patches: int, dtype):
    """The batch with features in place of images, which towers see some at a time."""
    if "images" not in batch:
        return batch
    images = batch["images"]
    few = max(1, patches // model.spec.vision.patches)
    few += -few % mesh_size()
    V, times = len(images), -(-len(images) // few)
    images = jnp.pad(images, [(0, few * times - V), *[(0, 0)] * 3])
    # every n-th picture of all: devices keep those that they have
    groups = rearrange(images, "(few n) ... -> n few ...", n=times)
    found = jax.lax.map(
        lambda some: look(model.tower, model.still_tower, some, dtype=dtype), groups
    )
    found = {name: rearrange(x, "n few ... -> (few n) ...")[:V] for name, x in found.items()}
    return {name: x for name, x in batch.items() if name != "images"} | found


def _picked(hidden, which):
    """The state of one token a row, by a sum: a gather would call in rows that lie on devices."""
    return jnp.where(which[..., None], hidden, 0).sum(axis=1)


def _padded(batch: dict[str, Array], more: int) -> dict[str, Array]:
    """With as many tokens of padding behind each row."""

    def pad(name, x):
        wide = [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)]
        return jnp.pad(x, wide, constant_values=-1 if name == "vision_index" else 0)

    return {name: pad(name, x) if name in TOKEN_FIELDS else x for name, x in batch.items()}
