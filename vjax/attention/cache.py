"""Keys and values that are kept, and attention over them, on a mesh by those who keep them.

Where the axis `context` splits the slots, queries meet the slots of every device where these lie.
What they find there is one softmax in parts (arXiv 2307.08691), joined by a maximum and two sums;
keys and values never travel ("pass-Q" of arXiv 2411.01783, which sums in a ring).
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from vjax.attention import chunked
from vjax.attention.api import AUTO
from vjax.attention.context import context_size
from vjax.attention.mask import Mask
from vjax.sharding import fitting_spec, laid, mesh_size, platform

SLOTS = ("layers", "batch", "length", "kv_heads", None)  # axes of keys and values


@flax.struct.dataclass
class Cache:
    """Keys and values, one slot a token; segment 0 is an empty slot.

    Slots of a row stand in no order: positions say which token is earlier. On a mesh each device of
    the axis `context` holds as many as every other.
    """

    k: Float[Array, "L B S K H"]
    v: Float[Array, "L B S K H"]
    segments: Int[Array, "B S"]
    positions: Int[Array, "B S"]

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], dtype) -> "Cache":
        """Of shape [L, B, S, K, H], S rounded up to what the axis `context` divides."""
        L, B, S, K, H = shape
        S += -S % context_size()
        k, v = (laid(jnp.zeros((L, B, S, K, H), dtype), SLOTS) for _ in "kv")
        segments, positions = (laid(jnp.zeros((B, S), jnp.int32), SLOTS[1:3]) for _ in "sp")
        return cls(k=k, v=v, segments=segments, positions=positions)

    def write(self, new: "Cache", at: int | Int[Array, ""]) -> "Cache":
        """Puts tokens into slots that are still empty, in place where the old cache is not needed.

        As many go to every device; or a single token to one of them, whose turn it is, so that
        slots run out everywhere at once.

        Args:
          new: T tokens, 1 or a multiple of the axis `context`.
          at: tokens that were written before, a multiple of it too where T is.

        Raises:
          ValueError: another number of tokens.
        """
        n, T = context_size(), new.segments.shape[1]
        if T % n and T != 1:
            raise ValueError(f"{T} tokens are neither 1 nor a multiple of mesh.context={n}")

        def put(old, new, at):
            def one(old, new, axis):
                if T % n:
                    kept = lax.dynamic_slice_in_dim(old, at // n, 1, axis)
                    new = jnp.where(lax.axis_index("context") == at % n, new, kept)
                return lax.dynamic_update_slice_in_dim(old, new, at // n, axis)

            return tuple(one(o, x, axis) for o, x, axis in zip(old, new, (2, 2, 1, 1), strict=True))

        # padding may hold anything, and an empty slot's value counts 0 times
        real = (new.segments > 0)[None, :, :, None, None]
        leaves = (jnp.where(real, new.k, 0), jnp.where(real, new.v, 0), new.segments, new.positions)
        old = self.k, self.v, self.segments, self.positions
        if mesh_size() > 1:
            to, come = (
                (spec, spec, PartitionSpec(*spec[1:3]), PartitionSpec(*spec[1:3]))
                for spec in _specs(self.k.shape, T)
            )
            put = jax.shard_map(
                put, in_specs=(to, come, PartitionSpec()), out_specs=to, check_vma=False
            )
        k, v, segments, positions = put(old, leaves, jnp.asarray(at, jnp.int32))
        return Cache(k=k, v=v, segments=segments, positions=positions)

    def of_layer(self, layer: Int[Array, ""]) -> tuple[Array, Array, Array, Array]:
        """Keys and values [B, S, K, H] of a layer, segments and positions."""
        k, v = (lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in (self.k, self.v))
        return k, v, self.segments, self.positions


def attend(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    mask: Mask,
    past: tuple[Array, Array, Array, Array],
    *,
    scale: float | None = None,
) -> Float[Array, "R T N H"]:
    """Attention of new tokens over each other and over what is kept; for inference alone.

    Args:
      q, k, v: of the new tokens. R is a multiple of the B rows of `past`: each of these is the past
        of R / B rows side by side, and is not copied for them.
      mask: among new tokens, with segments and positions.
      past: keys and values [B, S, K, H], segments and positions [B, S].
      scale: multiplies the scores; H ** -0.5 where None.

    Returns:
      The mixed values, in q's dtype; zeros where a query sees nothing.
    """
    n, T = context_size(), q.shape[1]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    split = n > 1 and T % n == 0  # each device has some of the new tokens, else all of them
    real = (mask.kv_segments > 0)[:, :, None, None]
    own = (jnp.where(real, k, 0), jnp.where(real, v, 0), mask.kv_segments, mask.kv_positions)

    def local(queries, own, past):
        if split:
            queries = lax.all_gather(queries, "context", axis=1, tiled=True)
        elif n > 1:  # they count on one device
            first = lax.axis_index("context") == 0
            own = (*own[:2], jnp.where(first, own[2], 0), own[3])
        side = len(queries[0]) // len(past[0])
        as_one = [rearrange(x, "(b g) t ... -> b (g t) ...", g=side) for x in queries]
        found = [
            jax.tree.map(
                lambda x: rearrange(x, "b (g t) ... -> (b g) t ...", g=side),
                _meet(as_one, past, mask, scale),
            ),
            _meet(queries, own, mask, scale),
        ]
        best = functools.reduce(jnp.maximum, (part.best for part in found))
        best = lax.pmax(best, "context") if n > 1 else best
        shrink = [jnp.exp(part.best - best) for part in found]
        pairs = list(zip(found, shrink, strict=True))
        total = sum(part.total * by for part, by in pairs)
        mixed = sum(part.mixed * by[..., None] for part, by in pairs)
        if split:
            add = functools.partial(
                lax.psum_scatter, axis_name="context", scatter_dimension=1, tiled=True
            )
            total, mixed = add(total), add(mixed)
        elif n > 1:
            total, mixed = lax.psum((total, mixed), "context")
        return (mixed / jnp.where(total > 0, total, 1)[..., None]).astype(q.dtype)

    queries = q, mask.q_segments, mask.q_positions
    if mesh_size() > 1:
        (_, *to), (_, *come) = _specs((1, *past[0].shape), T)
        slots, tokens = (
            (PartitionSpec(*spec), PartitionSpec(*spec), *[PartitionSpec(*spec[:2])] * 2)
            for spec in (to, come)
        )
        local = jax.shard_map(
            local, in_specs=(tokens[1:], tokens, slots), out_specs=tokens[0], check_vma=False
        )
    return local(queries, own, past)


def _specs(shape: tuple[int, ...], T: int) -> tuple[PartitionSpec, PartitionSpec]:
    """Where keys [L, B, S, K, H] lie that are kept, and those of T new tokens of the same rows."""
    to = fitting_spec(SLOTS, shape)
    return to, to if T % context_size() == 0 else PartitionSpec(*to[:2], None, *to[3:])


def _meet(queries, keys, mask: Mask, scale: float) -> chunked.Sums:
    """What queries [B, T, N] find among some keys: [B, T, N] and, mixed, [B, T, N, H]."""
    (q, q_segments, q_positions), (k, v, kv_segments, kv_positions) = queries, keys
    (T, N), S = q.shape[1:3], k.shape[1]
    mask = mask.replace(
        q_segments=q_segments,
        q_positions=q_positions,
        kv_segments=kv_segments,
        kv_positions=kv_positions,
    )
    short, _ = AUTO.get(platform(), AUTO["cpu"])
    lone = T * S <= short
    blocks, kept = chunked.blocks(q, k, v, mask, max(T, S) if lone else 0)
    sums = chunked.accumulate(chunked.empty(blocks), blocks, kept, mask, scale, skip=not lone)
    return jax.tree.map(lambda x: chunked.unblock_rows(x, T, N), sums)
