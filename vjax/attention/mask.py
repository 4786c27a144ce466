"""What a query may look at."""

from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool

# scores of masked keys: finite, so that a row that sees nothing gives no NaN on the way back
MASKED = -1e30


@flax.struct.dataclass
class Mask:
    """What a query may look at. All given conditions hold at once; no field: everything is seen.

    Attributes:
      causal: a query sees keys whose position is not larger than its own.
      q_segments: int32 [B, T]; kv_segments: int32 [B, S]; a query sees keys of its own segment, and
        segment 0 (padding) sees nothing. Both or neither.
      window: with `causal`, a query sees keys less than this many positions back; 0 = all.
      q_positions: int32 [B, T], kv_positions: int32 [B, S]: what `causal` compares; the order in
        the array where absent. Both or neither.
    """

    causal: bool = flax.struct.field(pytree_node=False, default=False)
    window: int = flax.struct.field(pytree_node=False, default=0)
    # Any, for a transformation may put other leaves than arrays here for a while
    q_segments: Any = None
    kv_segments: Any = None
    q_positions: Any = None
    kv_positions: Any = None


SEE_ALL = Mask()


def allowed(mask: Mask, T: int, S: int) -> Bool[Array, "B T S"] | None:
    """The dense form of a Mask, broadcastable over B; None where everything is seen."""
    seen = None
    if mask.causal:
        q_pos = jnp.arange(T)[None] if mask.q_positions is None else mask.q_positions
        k_pos = jnp.arange(S)[None] if mask.kv_positions is None else mask.kv_positions
        seen = q_pos[:, :, None] >= k_pos[:, None, :]
        if mask.window:
            seen &= q_pos[:, :, None] - k_pos[:, None, :] < mask.window
    if mask.q_segments is not None:
        same = (mask.q_segments[:, :, None] == mask.kv_segments[:, None, :]) & (
            mask.q_segments[:, :, None] > 0
        )
        seen = same if seen is None else seen & same
    return seen
