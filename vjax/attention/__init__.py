"""One call, many backends: `attend(q, k, v, mask)`; and keys and values that are kept."""

from vjax.attention.api import absent, attend
from vjax.attention.cache import Cache
from vjax.attention.cache import attend as attend_cache
from vjax.attention.context import check_heads, context_size
from vjax.attention.mask import Mask

__all__ = ["Cache", "Mask", "absent", "attend", "attend_cache", "check_heads", "context_size"]
