"""cuDNN's flash attention on NVIDIA GPUs, through `jax.nn.dot_product_attention`."""

import functools
from collections.abc import Callable

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
    if T % 2 or S % 2:  # forward it takes others too, where there is no dense mask
        return f"even lengths, not {T} and {S}"
    return too_long(T, S, mask)


def attend(q, k, v, mask: Mask, *, scale: float):
    """See `vjax.attention.attend`."""
    call = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    return densely(call, q, k, v, mask, scale=scale)


def too_long(T: int, S: int, mask: Mask) -> str:
    """What `densely` would need; "" where it can."""
    if mask.q_segments is None and not (mask.causal and mask.q_positions is not None):
        return ""
    return f"a shorter row: segments are a dense mask there, of {T} x {S}" if T * S > DENSE else ""


def densely(call: Callable, q, k, v, mask: Mask, *, scale: float, windows: bool = True):
    """By a function with the arguments of `jax.nn.dot_product_attention`: what it has no argument
    for, segments and positions, as a dense mask.

    Args:
      windows: it takes them too.
    """
    seen, causal, window = None, mask.causal, mask.window if mask.causal else 0
    if causal and (mask.q_positions is not None or (window and not windows)):
        seen, causal, window = allowed(mask, q.shape[1], k.shape[1]), False, 0
    elif mask.q_segments is not None:
        seen = allowed(mask.replace(causal=False), q.shape[1], k.shape[1])
    out = call(
        q,
        k,
        v,
        mask=None if seen is None else jnp.broadcast_to(seen, (len(q), *seen.shape[1:]))[:, None],
        scale=scale,
        is_causal=causal,
        local_window_size=(window - 1, 0) if window else None,
    )
    if seen is None:
        return out
    # it gives the mean of all values where nothing is seen
    some = allowed(mask, q.shape[1], k.shape[1]).any(-1)
    return jnp.where(some[..., None, None], out, 0)
