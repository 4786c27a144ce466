"""Images and videos of any size, as Qwen2VLForConditionalGeneration takes them.

pixel_values and pixel_values_videos [patches, C t h w], image_grid_thw and video_grid_thw [V, 3];
mm_token_type_ids [B, T], which the ids give where absent; position_ids [3, B, T], by rule `hf5`
where absent, as there. Qwen2_5_VL...: second_per_grid_ts [V] too, 1 where absent.
"""

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec, TowerSpec
from vjax.interop.arguments.slots import slots
from vjax.models.vit import patch_grid
from vjax.prompts.positions import mrope_positions

NAMES = (
    "pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw", "mm_token_type_ids",
    "position_ids", "second_per_grid_ts",
)  # fmt: skip


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """All are packed into one row of patches, frame by frame."""
    vision, no_grid = spec.vision, np.zeros((0, 3), np.int64)
    width = 3 * vision.temporal_patch * vision.patch_size**2
    pixels = [given.pop(k, np.zeros((0, width))) for k in ("pixel_values", "pixel_values_videos")]
    grids = [given.pop(k, no_grid) for k in ("image_grid_thw", "video_grid_thw")]
    for name, values, of in zip(("image", "video"), pixels, grids, strict=True):
        if len(values) != of.prod(-1).sum():
            raise ValueError(f"{len(values)} patches of pixels for {name} grids {of.tolist()}")
    block = vision.merge**2
    tokens = {spec.image_token_id: len(pixels[0]), spec.video_token_id: len(pixels[1])}
    index = slots(ids, {token: n // block for token, n in tokens.items()})
    kinds = np.where(ids == spec.image_token_id, 1, np.where(ids == spec.video_token_id, 2, 0))
    types = given.pop("mm_token_type_ids", kinds)
    rope = given.pop("position_ids", None)
    seconds = given.pop("second_per_grid_ts", None)
    if seconds is not None and not vision.time_rate:
        raise ValueError(f"{spec.family}: second_per_grid_ts is not taken: its time is no seconds")
    steps = np.ones(len(grids[1]))
    if vision.time_rate:
        steps = vision.time_rate * (steps if seconds is None else seconds)
    batch = {"vision_index": index}
    if rope is None and (len(grids[0]) or len(grids[1])):
        rope = _rope(vision.merge, types, mask, grids, steps)
    if rope is not None:
        batch["rope_positions"] = rearrange(rope, "three b t -> b t three").astype(np.int32)
    return batch | packed(vision, np.concatenate(pixels), np.concatenate(grids), vision.merge)


def packed(vision: TowerSpec, pixels: np.ndarray, grids: np.ndarray, merge: int) -> dict:
    """The batch's `patches` and what goes with them, frame by frame, in blocks of side `merge`.

    Args:
      pixels: [patches, C t h w]; grids: [V, 3].
    """
    frames = [(h, w) for t, h, w in grids.tolist() for _ in range(t)]
    if not frames:  # a model without images still has a block of patches in its buffer
        frames, pixels = [(merge, merge)], np.zeros((merge**2, *pixels.shape[1:]))
    patches = rearrange(
        pixels, "s (c t y x) -> s (t y x c)", c=3, t=vision.temporal_patch, y=vision.patch_size
    )
    sizes = [h * w for h, w in frames]
    return {
        "patches": patches.astype(np.float32),
        "patch_hw": np.concatenate([patch_grid(h, w, merge) for h, w in frames]),
        "patch_segments": np.repeat(np.arange(1, len(frames) + 1, dtype=np.int32), sizes),
    }


def _rope(
    merge: int, types: np.ndarray, mask: np.ndarray, grids: list[np.ndarray], steps: np.ndarray
) -> np.ndarray:
    """[3, B, T] as transformers 5 numbers it: padding is skipped and stands at 0.

    Args:
      steps: of time, of each video.
    """
    images = ((grid, 1.0) for grid in grids[0].tolist())
    left = {1: images, 2: zip(grids[1].tolist(), steps.tolist(), strict=True)}
    rope = np.zeros((3, *types.shape), np.int32)
    for row, (of, real) in enumerate(zip(types, mask > 0, strict=True)):
        of = of[real]
        runs = of[np.flatnonzero(np.diff(of, prepend=0) != 0)]
        mine = [next(left[kind]) for kind in runs.tolist() if kind]
        of_row, by = zip(*mine, strict=True) if mine else ((), ())
        rope[:, row, real] = mrope_positions(of, of_row, merge=merge, rule="hf5", steps=by).T
    return rope
