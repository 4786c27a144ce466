"""cuDNN's flash attention on NVIDIA GPUs, through `jax.nn.dot_product_attention`."""

import jax
import jax.numpy as jnp

from vjax.attention.mask import Mask, allowed

DENSE = 8192 * 8192  # segments and positions are a dense mask there: up to so many of T x S


def lacks(q, k, mask: Mask) -> str:
    """What the call would need to run; "" where it can."""
    T, S, H = q.shape[1], k.shape[1], q.shape[3]
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"bfloat16 or float16, not {q.dtype}: model.dtype=bfloat16"
    if H > 128 or H % 8:
        return f"a head size of at most 128 that 8 divides, not {H}"
    if mask.q_segments is not None or (mask.causal and mask.q_positions is not None):
        if T * S > DENSE:
            return f"a shorter row: segments are a dense mask there, of {T} x {S}"
        if T % 2 or S % 2:
            return f"even lengths where there are segments, not {T} and {S}"
    return ""


def attend(q, k, v, mask: Mask, *, scale: float):
    """See `vjax.attention.attend`."""
    seen, causal = None, mask.causal
    if causal and mask.q_positions is not None:
        seen, causal = allowed(mask, q.shape[1], k.shape[1]), False
    elif mask.q_segments is not None:
        seen = allowed(mask.replace(causal=False), q.shape[1], k.shape[1])
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=None if seen is None else jnp.broadcast_to(seen, (len(q), *seen.shape[1:]))[:, None],
        scale=scale,
        is_causal=causal,
        local_window_size=(mask.window - 1, 0) if causal and mask.window else None,
        implementation="cudnn",
    )
    if seen is None:
        return out
    # it gives the mean of all values where nothing is seen
    some = allowed(mask, q.shape[1], k.shape[1]).any(-1)
    return jnp.where(some[..., None, None], out, 0)
