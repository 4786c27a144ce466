"""Frames of one size and stills in tiles, as LlavaOnevisionForConditionalGeneration takes them.

pixel_values [V, tiles, 3, H, W] or [V, 3, H, W], image_sizes [V, 2], batch_num_images [B];
pixel_values_videos [V, frames, 3, H, W]. LlavaNextVideoForConditionalGeneration too, which cuts
stills wherever they are.
"""

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.prompts.tiles import NEWLINE, plain, tile_count, tile_tokens

NAMES = (
    "pixel_values", "pixel_values_videos", "image_sizes", "image_sizes_videos", "batch_num_images",
)  # fmt: skip


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Positions are 0, 1, 2, ... over the whole row, padding counted."""
    side, tile = spec.vision.image_size // spec.vision.patch_size, spec.vision.image_size
    none = np.zeros((0, 1, 3, tile, tile))
    videos, pixels = given.pop("pixel_values_videos", none), given.pop("pixel_values", none)
    sizes = given.pop("image_sizes", np.zeros((0, 2), np.int64)).tolist()
    together = given.pop("batch_num_images", np.ones(len(sizes), np.int64))
    # a still among others of its row is not cut
    alone = np.repeat((together == 1) | (not spec.tiles.alone), together)
    pixels = pixels[:, None] if pixels.ndim == 4 else pixels
    V, F = videos.shape[:2]
    frame, first = spec.frame_side**2, V * F * spec.frame_side**2
    counts = [
        tile_count(h, w, spec.tiles, tile) if cut else 1
        for (h, w), cut in zip(sizes, alone, strict=True)
    ]
    newline = first + sum(counts) * side * side
    still_index, still_weight = [], []
    for (h, w), cut, count in zip(sizes, alone, counts, strict=True):
        if cut:
            index, weight = tile_tokens(h, w, spec.tiles, tile, side)
        else:
            index, weight = plain(np.r_[np.arange(side * side), NEWLINE])
        still_index.append(np.where(index == NEWLINE, newline, first + index))
        still_weight.append(weight)
        first += count * side * side
    ends = np.full((V, int(spec.projector.video_newline)), newline)
    video_index = np.concatenate([np.arange(V * F * frame).reshape(V, F * frame), ends], 1)
    tokens = {spec.video_token_id: plain(video_index.reshape(-1))}
    if still_index:
        tokens[spec.image_token_id] = np.concatenate(still_index), np.concatenate(still_weight)
    index = np.full((*ids.shape, 4), -1, np.int32)
    weight = np.zeros((*ids.shape, 4), np.float32)
    for token, (of, by) in tokens.items():
        at = ids == token
        if at.sum() != len(of):
            raise ValueError(f"{at.sum()} tokens of id {token} for {len(of)} vision tokens")
        index[at], weight[at] = of, by
    batch = {"vision_index": index, "vision_weight": weight}
    pictures = [row[:count] for row, count in zip(pixels, counts, strict=True)]
    for name, values in (("images", videos.reshape(-1, *videos.shape[2:])), ("stills", pictures)):
        if len(values):
            values = values if name == "images" else np.concatenate(values)
            batch[name] = rearrange(values, "v c h w -> v h w c").astype(np.float32)
    return batch
