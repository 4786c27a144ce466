"""One call, many backends: `attend(q, k, v, mask)`."""

from vjax.attention.api import Mask, attend

__all__ = ["Mask", "attend"]
