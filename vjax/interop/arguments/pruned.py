"""Images and pruned videos of any size, as VideoLlama3ForConditionalGeneration takes them.

pixel_values and pixel_values_videos [patches, C h w], image_grid_thw and video_grid_thw [V, 3],
image_merge_sizes and video_merge_sizes [V], video_compression_mask [tokens of all videos], true
where one is kept; all are where it is absent.
"""

import numpy as np

from vjax.families.spec import ModelSpec
from vjax.interop.arguments.grids import packed

NAMES = (
    "pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw",
    "image_merge_sizes", "video_merge_sizes", "video_compression_mask",
)  # fmt: skip


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Videos lie in one row of patches, frame by frame, and images in another.

    Raises:
      ValueError: pixels that do not fit their grids, merge sizes that are not the model's, or
        tokens that do not fit the pictures.
    """
    vision, fields, index = spec.vision, {}, np.full(ids.shape, -1, np.int32)
    width, first = 3 * vision.patch_size**2, 0
    for kind, suffix, prefix, merge, token in (
        ("video", "_videos", "", spec.projector.merge, spec.video_token_id),
        ("image", "", "still_", 1, spec.image_token_id),
    ):
        pixels = given.get(f"pixel_values{suffix}", np.zeros((0, width)))
        grids = given.get(f"{kind}_grid_thw", np.zeros((0, 3), np.int64))
        if len(pixels) != grids.prod(-1).sum():
            raise ValueError(f"{len(pixels)} patches of pixels for {kind} grids {grids.tolist()}")
        merges = np.asarray(given.get(f"{kind}_merge_sizes", np.full(len(grids), merge)))
        if (merges != merge).any():
            raise ValueError(f"{kind}_merge_sizes are {merges.tolist()}, of this model {merge}")
        tokens = len(pixels) // merge**2
        kept = np.arange(tokens)
        if kind == "video" and "video_compression_mask" in given:
            kept = np.flatnonzero(given["video_compression_mask"])
        at = ids == token
        if at.sum() != len(kept):
            raise ValueError(f"{at.sum()} tokens of id {token} for {len(kept)} vision tokens")
        index[at] = first + kept
        if len(grids) or kind == "video":  # a model without pictures still has some in its buffer
            packs = packed(vision, pixels, grids, merge)
            fields |= {prefix + name: value for name, value in packs.items()}
            first += len(packs["patches"]) // merge**2
    return fields | {"vision_index": index}
