"""Splash attention, the Pallas kernel for TPUs that jax comes with."""

import jax
import jax.numpy as jnp

from vjax.attention.mask import Mask, allowed

LANES = 128
BLOCK = 512  # queries or keys of a tile, at most


def lacks(q, k, mask: Mask) -> str:
    """What the call would need to run; "" where it can."""
    if mask.causal and mask.q_positions is not None:
        return "tokens in the order of their positions: its causal mask is of the array's order"
    return ""


def attend(q, k, v, mask: Mask, *, scale: float, interpret: bool = False):
    """See `vjax.attention.attend`; with `interpret`, op by op on any platform."""
    # imported here: Pallas takes half a second that other platforms need not wait for
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    (B, T, N, _), S = q.shape, k.shape[1]
    segments = mask.q_segments, mask.kv_segments
    if segments[0] is None and (T % _tile(T) or S % _tile(S)):
        segments = jnp.ones((B, T), jnp.int32), jnp.ones((B, S), jnp.int32)
    if segments[0] is not None:
        segments = kernel.SegmentIds(*(_pad(x.astype(jnp.int32)) for x in segments))
    q, k, v = (_pad(x).swapaxes(1, 2) for x in ((q * scale).astype(q.dtype), k, v))
    shape = q.shape[2], k.shape[2]
    one = masks.FullMask(shape)
    if mask.causal:
        one = masks.CausalMask(shape)
        if mask.window:
            one = masks.LocalMask(shape, window_size=(mask.window - 1, 0), offset=0)
    t, s = map(_tile, shape)
    attention = kernel.make_splash_mha_single_device(
        masks.MultiHeadMask([one] * N),
        block_sizes=kernel.BlockSizes(
            block_q=t, block_kv=s, block_kv_compute=s,
            block_q_dkv=t, block_kv_dkv=s, block_kv_dkv_compute=s,
            block_q_dq=t, block_kv_dq=s,
        ),
        interpret=interpret,
    )  # fmt: skip
    if segments[0] is None:
        out = jax.vmap(lambda q, k, v: attention(q, k, v))(q, k, v)
    else:
        out = jax.vmap(attention)(q, k, v, segments)
    out = out.swapaxes(1, 2)[:, :T]
    if mask.q_segments is None:
        return out
    # it gives the mean of all values where nothing is seen, and lets segment 0 see itself
    some = allowed(mask, T, S).any(-1)
    return jnp.where(some[..., None, None], out, 0)


def _tile(length: int) -> int:
    """Tokens of a tile: as many as a short row has, in whole lanes."""
    return min(BLOCK, -(-length // LANES) * LANES)


def _pad(x):
    """Zeros at the end of axis 1, up to whole tiles."""
    missing = -x.shape[1] % _tile(x.shape[1])
    return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)) if missing else x
