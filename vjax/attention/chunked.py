"""Attention over pairs of blocks with an online softmax: memory grows with length, not its square.

FlashAttention-2 (arXiv 2307.08691, algorithms 1 and 2) in plain JAX. Scores exist for one block of
queries and one of keys at a time, in float32, and the backward computes them again from the
log-sum-exp of each query. A pair of blocks of which nothing is seen is skipped when it is met, so
causal attention costs half and packed rows less, in whatever order their tokens lie.

`accumulate` and `gradients` take keys in any number of calls: ring attention is made of them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Int

from vjax.attention.mask import MASKED, Mask, allowed

BLOCK = 512  # queries or keys of a block, at most


class Queries(NamedTuple):
    """Blocks of queries; a row r is (group, query)."""

    x: Float[Array, "n B K r H"]
    segments: Int[Array, "n B t"] | None
    positions: Int[Array, "n B t"] | None


class Keys(NamedTuple):
    """Blocks of keys and values."""

    k: Float[Array, "m B K s H"]
    v: Float[Array, "m B K s H"]
    segments: Int[Array, "m B s"] | None
    positions: Int[Array, "m B s"] | None


class Sums(NamedTuple):
    """The softmax of each row over the keys seen so far, float32: largest score, sum, mixture."""

    best: Float[Array, "n B K r"]
    total: Float[Array, "n B K r"]
    mixed: Float[Array, "n B K r H"]


def lacks(q, k, mask: Mask) -> str:
    """It takes every call."""
    return ""


def attend(q, k, v, mask: Mask, *, scale: float):
    """See `vjax.attention.attend`."""
    return _attend(q, k, v, mask, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, mask, scale):
    return _forward(q, k, v, mask, scale)[0]


def _forward(q, k, v, mask, scale):
    queries, keys = blocks(q, k, v, mask)
    out, lse = finish(accumulate(empty(queries), queries, keys, mask, scale), q)
    return out, (q, k, v, mask, out, lse)


def _backward(scale, kept, dout):
    q, k, v, mask, out, lse = kept
    queries, keys = blocks(q, k, v, mask)
    dq, (dk, dv) = gradients(queries, keys, outer(q, k, out, lse, dout), mask, scale)
    return unblock_queries(dq, q), unblock_keys(dk, k), unblock_keys(dv, v), None


_attend.defvjp(_forward, _backward)


# ---- blocks --------------------------------------------------------------------------------------


def count(length: int, block: int = 0) -> int:
    """Blocks that a length is cut into."""
    return -(-length // (block or BLOCK))


def blocks(q, k, v, mask: Mask, block: int = 0) -> tuple[Queries, Keys]:
    """[B, T, N, H] and [B, S, K, H] with their mask, cut into blocks of equal length.

    Blocks have at most `block` queries or keys (0: BLOCK). Lengths that they do not divide are
    padded with segment 0.
    """
    (B, T), S, K = q.shape[:2], k.shape[1], k.shape[2]
    n, m = count(T, block), count(S, block)
    if not mask.causal:
        mask = mask.replace(q_positions=None, kv_positions=None)
    elif mask.q_positions is None:
        mask = mask.replace(
            q_positions=jnp.broadcast_to(jnp.arange(T), (B, T)),
            kv_positions=jnp.broadcast_to(jnp.arange(S), (B, S)),
        )
    if (T % n or S % m) and mask.q_segments is None:
        mask = mask.replace(
            q_segments=jnp.ones((B, T), jnp.int32), kv_segments=jnp.ones((B, S), jnp.int32)
        )

    def ids(x, pieces):
        return None if x is None else rearrange(_pad(x, pieces), "b (n t) -> n b t", n=pieces)

    def heads(x):
        return rearrange(_pad(x, m), "b (m s) k h -> m b k s h", m=m)

    made = (
        Queries(block_rows(q, K, block), ids(mask.q_segments, n), ids(mask.q_positions, n)),
        Keys(heads(k), heads(v), ids(mask.kv_segments, m), ids(mask.kv_positions, m)),
    )
    # a scan over layers hoists what the mask alone decides, and would keep it for all pairs at once
    return made if n == m == 1 and block else lax.optimization_barrier(made)


def block_rows(x: Float[Array, "B T N *H"], K: int, block: int = 0) -> Float[Array, "n B K r *H"]:
    """What belongs to queries, cut as they are."""
    n = count(x.shape[1], block)
    return rearrange(_pad(x, n), "b (n t) (k g) ... -> n b k (g t) ...", n=n, k=K)


def unblock_rows(x: Float[Array, "n B K r *H"], T: int, N: int) -> Float[Array, "B T N *H"]:
    return rearrange(x, "n b k (g t) ... -> b (n t) (k g) ...", g=N // x.shape[2])[:, :T]


def unblock_queries(dq, q):
    """Gradients of blocks of queries as those of `q`, in its dtype."""
    return unblock_rows(dq, *q.shape[1:3]).astype(q.dtype)


def unblock_keys(dk, k):
    """Gradients of blocks of keys or values as those of `k`, in its dtype."""
    return rearrange(dk, "m b k s h -> b (m s) k h")[:, : k.shape[1]].astype(k.dtype)


def _pad(x, pieces: int):
    """Zeros at the end of axis 1, up to a whole number of elements a piece."""
    missing = -x.shape[1] % pieces
    return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)) if missing else x


# ---- forward -------------------------------------------------------------------------------------


def empty(queries: Queries) -> Sums:
    """Nothing seen yet."""
    x = queries.x
    return Sums(
        best=jnp.full_like(x[..., 0], MASKED, jnp.float32),
        total=jnp.zeros_like(x[..., 0], jnp.float32),
        mixed=jnp.zeros_like(x, jnp.float32),
    )


def accumulate(
    sums: Sums, queries: Queries, keys: Keys, mask: Mask, scale: float, *, skip: bool = True
) -> Sums:
    """`sums` with further keys seen; of `mask` counts what is no array.

    Pairs of blocks of which nothing is seen are not computed, unless `skip` is False.
    """

    def row(block):
        q, sums = block

        def step(sums, kv):
            seen = _seen(q, kv, mask)

            def add(sums):
                scores = _dot(q.x, kv.k, 3, 3) * scale
                if seen is not None:
                    scores = jnp.where(seen, scores, MASKED)
                best = jnp.maximum(sums.best, scores.max(-1))
                weights = jnp.exp(scores - best[..., None])
                if seen is not None:  # a row of nothing but MASKED has weights of 1 here
                    weights = jnp.where(seen, weights, 0.0)
                shrink = jnp.exp(sums.best - best)
                mixed = _dot(weights.astype(kv.v.dtype), kv.v, 3, 2)
                return Sums(
                    best,
                    sums.total * shrink + weights.sum(-1),
                    sums.mixed * shrink[..., None] + mixed,
                )

            if seen is None or not skip:
                return add(sums), None
            return lax.cond(seen.any(), add, lambda sums: sums, sums), None

        return lax.scan(step, sums, keys)[0]

    return lax.map(row, (queries, sums))


def finish(sums: Sums, q) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N"]]:
    """Attention's output in q's dtype, and the log-sum-exp of each query's scores, float32.

    A query that saw nothing has zeros in both.
    """
    some = sums.total > 0
    total = jnp.where(some, sums.total, 1.0)
    out = unblock_rows(sums.mixed / total[..., None], *q.shape[1:3]).astype(q.dtype)
    lse = jnp.where(some, sums.best + jnp.log(total), 0.0)
    return out, unblock_rows(lse, *q.shape[1:3])


# ---- backward ------------------------------------------------------------------------------------


class Outer(NamedTuple):
    """What the backward needs of each row beside its query, in blocks."""

    dout: Float[Array, "n B K r H"]
    lse: Float[Array, "n B K r"]  # of all keys, not only those of one call
    delta: Float[Array, "n B K r"]  # sum of dout * out


def outer(q, k, out, lse, dout) -> Outer:
    delta = jnp.sum(dout.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
    K = k.shape[2]
    return Outer(block_rows(dout.astype(q.dtype), K), block_rows(lse, K), block_rows(delta, K))


def gradients(queries: Queries, keys: Keys, outer: Outer, mask: Mask, scale: float):
    """dq, and (dk, dv) of these keys, in blocks, float32."""

    def column(dq, kv):
        def step(sums, block):
            q, o = block
            seen = _seen(q, kv, mask)

            def add(sums):
                dk, dv = sums
                scores = _dot(q.x, kv.k, 3, 3) * scale
                weights = jnp.exp(scores - o.lse[..., None])
                if seen is not None:
                    weights = jnp.where(seen, weights, 0.0)
                dweights = _dot(o.dout, kv.v, 3, 3)
                dscores = (weights * (dweights - o.delta[..., None]) * scale).astype(q.x.dtype)
                dv = dv + _dot(weights.astype(o.dout.dtype), o.dout, 2, 2)
                dk = dk + _dot(dscores, q.x, 2, 2)
                return (dk, dv), _dot(dscores, kv.k, 3, 2)

            if seen is None:
                return add(sums)
            nothing = jnp.zeros_like(q.x, jnp.float32)
            return lax.cond(seen.any(), add, lambda sums: (sums, nothing), sums)

        start = jnp.zeros_like(kv.k, jnp.float32), jnp.zeros_like(kv.v, jnp.float32)
        sums, part = lax.scan(step, start, (queries, outer))
        return dq + part, sums

    return lax.scan(column, jnp.zeros_like(queries.x, jnp.float32), keys)


def _seen(q: Queries, kv: Keys, mask: Mask):
    """[B, 1, r, s] of one pair of blocks, or None where all is seen."""
    B, _, r, _ = q.x.shape
    s = kv.k.shape[2]
    of = Mask(
        causal=mask.causal,
        window=mask.window,
        q_segments=q.segments,
        kv_segments=kv.segments,
        q_positions=q.positions,
        kv_positions=kv.positions,
    )
    ids = q.segments if q.segments is not None else q.positions
    if ids is None:
        return None
    t = ids.shape[1]
    seen = allowed(of, t, s)
    return jnp.broadcast_to(seen[:, None], (B, r // t, t, s)).reshape(B, 1, r, s)


def _dot(a, b, i: int, j: int):
    """Sum over axis i of a and j of b, for each row and kv head; float32."""
    return lax.dot_general(
        a, b, (((i,), (j,)), ((0, 1), (0, 1))), preferred_element_type=jnp.float32
    )
