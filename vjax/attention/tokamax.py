"""The kernels of the package tokamax (Mosaic, Triton or cuDNN on GPU, elsewhere XLA)."""

from vjax.attention.cudnn import densely, too_long
from vjax.attention.mask import Mask


def lacks(q, k, mask: Mask) -> str:
    """What the call would need to run; "" where it can."""
    return too_long(q.shape[1], k.shape[1], mask)


def attend(q, k, v, mask: Mask, *, scale: float):
    """See `vjax.attention.attend`."""
    import tokamax  # optional, and slow to import

    # its windows are of keys as many as queries, and wrong where there are more (0.0.12)
    return densely(tokamax.dot_product_attention, q, k, v, mask, scale=scale, windows=False)
