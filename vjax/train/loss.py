"""Cross-entropy of the answers: over the vocabulary for tokens that count, some at a time."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from vjax.sharding import laid, pieces

SHARE = 8  # rows with answers in less than one token of so many are scored there alone
TOKENS = 2048  # and a device scores at most about so many at once


def token_loss(
    model, batch: dict[str, Array], *, dtype, remat: bool, key: Array | None
) -> tuple[Array, Array]:
    """Summed cross-entropy over weighted target tokens, and the sum of weights, float32 [].

    Tokens with answers come first; where the first few blocks hold them all, no others are scored.
    Logits of one block, float32 over the vocabulary, are all that is held of them. Blocks are of
    each device's own part of a row.
    """
    hidden, _ = model(batch, dtype=dtype, remat=remat, key=key)
    weights = batch["loss_weights"]
    B, T = weights.shape
    ways = pieces("length", T)
    local = T // ways
    few = max(1, local // SHARE)
    share = max(SHARE, B // pieces("batch", B) * local // TOKENS)
    size = max(1, local // share)

    empty = (weights == 0).reshape(B, ways, local)
    order = jnp.argsort(empty, axis=2, stable=True)
    answers = jnp.max(jnp.sum(~empty, axis=2))
    blocks = [_blocks(x, order, size) for x in (hidden, batch["targets"], weights)]
    head = model.decoder.head_matrix(dtype)

    @jax.checkpoint
    def add(total, block):
        hidden, targets, weights = block
        scores = model.decoder.logits(hidden, head)
        nll = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
        return total + jnp.sum(nll * weights), None

    def scored(*blocks):
        return jax.lax.scan(add, jnp.zeros(()), blocks)[0]

    some = -(-few // size)

    @jax.checkpoint  # a cond keeps what either branch would need
    def total(*blocks):
        first = [x[:some] for x in blocks]
        return jax.lax.cond(answers <= some * size, lambda: scored(*first), lambda: scored(*blocks))

    return total(*blocks), jnp.sum(weights)


def _blocks(x: Array, order: Int[Array, "B ways local"], size: int) -> Array:
    """[B, T, ...] in that order -> [blocks, B, ways * size, ...]; the last is filled with zeros."""
    (B, ways, local), rest = order.shape, x.shape[2:]
    flat = (slice(None),) * 3 + (None,) * len(rest)
    x = jnp.take_along_axis(x.reshape(B, ways, local, *rest), order[flat], axis=2)
    x = laid(x, ("batch", "length", None, *[None] * len(rest)))
    count = -(-local // size)
    x = jnp.pad(x, [(0, 0), (0, 0), (0, count * size - local), *[(0, 0)] * len(rest)])
    x = jnp.moveaxis(x.reshape(B, ways, count, size, *rest), 2, 0)
    return laid(
        x.reshape(count, B, ways * size, *rest), (None, "batch", "length", *[None] * len(rest))
    )
