"""The attention call that every model uses, and the table of backends behind it."""

import functools
import importlib.util
import types
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.attention import chunked, context, cudnn, splash, tokamax, xla
from vjax.attention.mask import SEE_ALL, Mask
from vjax.sharding import mesh_size, platform

BACKENDS: Mapping[str, types.ModuleType] = types.MappingProxyType(
    {"xla": xla, "chunked": chunked, "cudnn": cudnn, "splash": splash, "tokamax": tokamax}
)
# backend -> platform, and what that is called; the others run everywhere
NEEDS = types.MappingProxyType({"cudnn": ("gpu", "an NVIDIA GPU"), "splash": ("tpu", "a TPU")})
# platform -> (T x S up to which `xla` is taken, what is taken beyond); `chunked` where that cannot
AUTO = types.MappingProxyType(
    {"cpu": (1 << 18, "chunked"), "gpu": (1 << 20, "cudnn"), "tpu": (1 << 20, "splash")}
)


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Mask = SEE_ALL,
    *,
    scale: float | None = None,
    backend: str = "auto",
    rows: str = "batch",
    context_parallel: str | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax attention with grouped keys and values, never repeated in memory.

    Args:
      q: queries; N is a multiple of K, and query head n reads kv head n // (N // K).
      k: keys.
      v: values.
      mask: who sees whom; a query that sees nothing gives zeros. Tokens of segment 0 may hold
        anything, NaN too.
      scale: multiplies the scores; H ** -0.5 where None.
      backend: a name in BACKENDS, or `auto`: by the table AUTO.
      rows: the logical name of axis B where no token of it is split; `images` keep heads whole.
      context_parallel: all_gather, ring or ulysses, for self-attention of rows whose tokens are
        split over the axis `context` of the mesh that is set; None: they are not split. `ring`
        computes as `chunked` does, whatever the backend.

    Returns:
      The mixed values, in q's dtype; scores and softmax are float32.

    Raises:
      ValueError: an unknown backend or one that cannot take the call, N not a multiple of K, or
        sizes that the mesh does not divide.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(
            f"attention backend {backend!r} is not known; known: auto, {', '.join(BACKENDS)}"
        )
    if context_parallel is not None and context_parallel not in context.METHODS:
        raise ValueError(
            f"context_parallel {context_parallel!r} is not known; known: "
            f"{', '.join(context.METHODS)}"
        )
    if q.shape[2] % k.shape[2]:
        raise ValueError(f"{q.shape[2]} query heads are not a multiple of {k.shape[2]} kv heads")
    if (mask.q_positions is None) != (mask.kv_positions is None):
        raise ValueError("a mask has positions of both queries and keys, or of neither")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if mask.q_segments is not None:
        # padding may hold anything, and 0 * NaN is NaN: in the output by v, in gradients by q and k
        q = jnp.where((mask.q_segments > 0)[:, :, None, None], q, 0)
        k, v = (jnp.where((mask.kv_segments > 0)[:, :, None, None], x, 0) for x in (k, v))
    with jax.named_scope("attend"):
        if context_parallel is not None and context.context_size() > 1:
            local = functools.partial(_local, scale=scale, backend=backend)
            return context.attend(q, k, v, mask, scale=scale, method=context_parallel, local=local)
        if mesh_size() > 1:
            backend = choose(q, k, mask) if backend == "auto" else backend
            if backend != "xla":
                local = functools.partial(_local, scale=scale, backend=backend)
                return context.split_rows_and_heads(local, q, k, v, mask, rows)
        return _local(q, k, v, mask, scale=scale, backend=backend)


def absent(backend: str) -> str:
    """What this machine lacks for a backend; "" where it has it."""
    if backend == "tokamax" and not importlib.util.find_spec("tokamax"):
        return "a package that is not there: pip install tokamax"
    wanted, needed = NEEDS.get(backend, (platform(), ""))
    here = platform()
    return "" if wanted == here else f"{needed}; this is {here}"


def choose(q, k, mask: Mask) -> str:
    """The backend that `auto` stands for."""
    short, name = AUTO.get(platform(), AUTO["cpu"])
    if q.shape[1] * k.shape[1] <= short:
        return "xla"
    return "chunked" if BACKENDS[name].lacks(q, k, mask) else name


def _local(q, k, v, mask: Mask, *, scale: float, backend: str):
    if backend == "auto":
        backend = choose(q, k, mask)
    elif lacks := absent(backend) or BACKENDS[backend].lacks(q, k, mask):
        raise ValueError(f"attention backend {backend!r} needs {lacks}")
    return BACKENDS[backend].attend(q, k, v, mask, scale=scale)
