"""Videos of one size and length that the projector sees whole (VideoLLaMA2).

pixel_values_videos [V, frames, 3, H, W], in the order of their tokens; an image is a video of equal
frames. VideoLLaMA2's own forward takes them as a list, `images`.
"""

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.interop.arguments.slots import slots

NAMES = ("pixel_values_videos",)


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Positions are 0, 1, 2, ... over the whole row, padding counted."""
    side, frames = spec.vision.image_size, spec.projector.stride[0]
    # a model without videos still has one in its buffer
    videos = given.pop("pixel_values_videos", np.zeros((0, frames, 3, side, side)))
    index = slots(ids, {spec.video_token_id: len(videos) * spec.clip_tokens(videos.shape[1])})
    videos = videos if len(videos) else np.zeros((1, frames, 3, side, side))
    clips = rearrange(videos, "v f c h w -> v f h w c").astype(np.float32)
    return {"clips": clips, "vision_index": index}
