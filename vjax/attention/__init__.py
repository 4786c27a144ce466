"""One call, many backends: `attend(q, k, v, mask)`."""

from vjax.attention.api import attend
from vjax.attention.context import context_size
from vjax.attention.mask import Mask

__all__ = ["Mask", "attend", "context_size"]
