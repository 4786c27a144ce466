"""Images and videos of any size, as Qwen3VLForConditionalGeneration takes them.

As `grids`; each temporal patch of a video is a picture of its own.
"""

import numpy as np

from vjax.families.spec import ModelSpec
from vjax.interop.arguments import grids

NAMES = tuple(name for name in grids.NAMES if name != "second_per_grid_ts")


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """All are packed into one row of patches, frame by frame."""
    if "video_grid_thw" in given:
        each = np.repeat(given["video_grid_thw"], given["video_grid_thw"][:, 0], axis=0)
        each[:, 0] = 1
        given["video_grid_thw"] = each
    return grids.take(spec, ids, mask, given)
