"""The attention call that every model uses, and the table of backends behind it."""

from collections.abc import Callable

import flax.struct
import jax
from jaxtyping import Array, Float, Int

from vjax.attention import xla


@flax.struct.dataclass
class Mask:
    """What a query may look at. All given conditions hold at once; no field: everything is seen.

    Attributes:
      causal: a query sees keys whose position is not larger than its own.
      q_segments: int32 [B, T]; kv_segments: int32 [B, S]; a query sees keys of its own segment, and
        segment 0 (padding) sees nothing. Both or neither.
      window: with `causal`, a query sees keys less than this many positions back; 0 = all.
      q_positions: int32 [B, T], kv_positions: int32 [B, S]: what `causal` compares; the order in
        the array where absent.
    """

    causal: bool = flax.struct.field(pytree_node=False, default=False)
    window: int = flax.struct.field(pytree_node=False, default=0)
    q_segments: Int[Array, "B T"] | None = None
    kv_segments: Int[Array, "B S"] | None = None
    q_positions: Int[Array, "B T"] | None = None
    kv_positions: Int[Array, "B S"] | None = None


BACKENDS: dict[str, Callable] = {"xla": xla.attend}
SEE_ALL = Mask()


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Mask = SEE_ALL,
    *,
    scale: float | None = None,
    backend: str = "xla",
) -> Float[Array, "B T N H"]:
    """Softmax attention with grouped keys and values, never repeated in memory.

    Args:
      q: queries; N is a multiple of K, and query head n reads kv head n // (N // K).
      k: keys.
      v: values.
      mask: who sees whom; a query that sees nothing gives zeros.
      scale: multiplies the scores; H ** -0.5 where None.
      backend: a name in BACKENDS.

    Returns:
      The mixed values, in q's dtype; scores and softmax are float32.

    Raises:
      ValueError: an unknown backend, or N not a multiple of K.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"attention backend {backend!r} is not known; known: {', '.join(BACKENDS)}"
        )
    if q.shape[2] % k.shape[2]:
        raise ValueError(f"{q.shape[2]} query heads are not a multiple of {k.shape[2]} kv heads")
    with jax.named_scope("attend"):
        return BACKENDS[backend](
            q, k, v, mask, scale=q.shape[-1] ** -0.5 if scale is None else scale
        )
