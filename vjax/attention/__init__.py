"""One call, many backends: `attend(q, k, v, mask)`."""

from vjax.attention.api import absent, attend
from vjax.attention.context import context_size
from vjax.attention.mask import Mask

__all__ = ["Mask", "absent", "attend", "context_size"]
