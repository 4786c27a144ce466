"""Images and videos of one size, as VideoLlavaForConditionalGeneration takes them.

pixel_values [V, 3, H, W]; pixel_values_videos [V, frames, 3, H, W].
"""

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec

NAMES = ("pixel_values", "pixel_values_videos")


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Positions are 0, 1, 2, ... over the whole row, padding counted."""
    side, bank = spec.vision.image_size, spec.picture_tokens
    videos = given.pop("pixel_values_videos", np.zeros((0, 1, 3, side, side)))
    stills = given.pop("pixel_values", np.zeros((0, 3, side, side)))
    pixels = np.concatenate([videos.reshape(-1, 3, side, side), stills])
    first = len(pixels) - len(stills)
    frames, stills = np.arange(first), np.arange(first, len(pixels))
    index = np.full(ids.shape, -1, np.int32)
    for token, pictures, part in (
        (spec.video_token_id, frames, np.arange(spec.frame_tokens)),
        (spec.image_token_id, stills, np.arange(spec.frame_tokens, bank)),
    ):
        at, places = ids == token, (pictures[:, None] * bank + part).reshape(-1)
        if at.sum() != len(places):
            raise ValueError(f"{at.sum()} tokens of id {token} for {len(places)} vision tokens")
        index[at] = places
    # a model without images still has one in its buffer
    pixels = pixels if len(pixels) else np.zeros((1, 3, side, side))
    images = rearrange(pixels, "v c h w -> v h w c").astype(np.float32)
    return {"images": images, "vision_index": index}
