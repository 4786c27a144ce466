"""Attention written out in float64, forward and backward, and masks to try it with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vjax.attention import Mask

# programs of this size take longer to optimise than to run
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def see(B, T, S, *, causal=False, window=0, **fields):
    """[B, T, S]: whether a query sees a key, one pair at a time."""
    q_at = fields.get("q_positions", np.tile(np.arange(T), (B, 1)))
    k_at = fields.get("kv_positions", np.tile(np.arange(S), (B, 1)))
    q_of = fields.get("q_segments", np.ones((B, T)))
    k_of = fields.get("kv_segments", np.ones((B, S)))
    seen = np.zeros((B, T, S), bool)
    for b, t, s in np.ndindex(B, T, S):
        back = q_at[b, t] - k_at[b, s]
        in_time = not causal or (back >= 0 and (not window or back < window))
        seen[b, t, s] = in_time and q_of[b, t] == k_of[b, s] and q_of[b, t] > 0
    return seen


def attention(q, k, v, seen, *, dout=None, scale=None):
    """Output [B, T, N, H]; with its cotangent `dout` also those of q, k and v. float64."""
    N, K, H = q.shape[2], k.shape[2], q.shape[3]
    scale = H**-0.5 if scale is None else scale
    q, k, v = (np.asarray(x, np.float64).swapaxes(1, 2) for x in (q, k, v))  # b n t h
    k_all, v_all = (np.repeat(x, N // K, axis=1) for x in (k, v))
    scores = q @ k_all.swapaxes(2, 3) * scale
    scores = np.where(seen[:, None], scores, -np.inf)
    best = np.where(seen.any(-1)[:, None], scores.max(-1), 0)
    weights = np.exp(scores - best[..., None])
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    out = (weights @ v_all).swapaxes(1, 2)
    if dout is None:
        return out
    dout = np.asarray(dout, np.float64).swapaxes(1, 2)
    dweights = dout @ v_all.swapaxes(2, 3)
    dscores = weights * (dweights - (weights * dweights).sum(-1, keepdims=True)) * scale
    dq = (dscores @ k_all).swapaxes(1, 2)
    dk, dv = dscores.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ dout
    grouped = (len(k), K, N // K, *k.shape[2:])
    dk, dv = (x.reshape(grouped).sum(2).swapaxes(1, 2) for x in (dk, dv))
    return out, dq, dk, dv


def arrays(B, T, N, K, H, S=None, seed=0):
    """q, k, v and a cotangent of the output, float32."""
    rng = np.random.default_rng(seed)
    S = T if S is None else S
    shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H), (B, T, N, H)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def as_mask(fields) -> Mask:
    static = {"causal", "window"}
    return Mask(**{k: v if k in static else jnp.asarray(v, "int32") for k, v in fields.items()})
