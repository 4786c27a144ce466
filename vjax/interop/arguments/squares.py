"""Images of one size: pixel_values [V, 3, H, W], as LlavaForConditionalGeneration takes them."""

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.interop.arguments.slots import slots

NAMES = ("pixel_values",)


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Positions are 0, 1, 2, ... over the whole row, padding counted."""
    side = spec.vision.image_size
    pixels = given.pop("pixel_values", np.zeros((0, 3, side, side)))
    if pixels.shape[2:] != (side, side):
        raise ValueError(
            f"pictures of {pixels.shape[2]} x {pixels.shape[3]} pixels, the tower takes {side}; "
            "bring it to another size with vjax.models.resize.resize_positions"
        )
    index = slots(ids, {spec.image_token_id: len(pixels) * spec.frame_side**2})
    images = rearrange(pixels, "v c h w -> v h w c").astype(np.float32)
    # a model without images still has one in its buffer
    images = images if len(images) else np.zeros((1, side, side, 3), np.float32)
    return {"images": images, "vision_index": index}
