"""Squares of images and frames in one list, as SmolVLMForConditionalGeneration takes them.

pixel_values [B, N, 3, H, W], of which those that are zero all over are padding and left out;
pixel_attention_mask [B, N, H, W], 1 where a square is not its own padding, all where absent.
"""

import numpy as np
from einops import rearrange, reduce

from vjax.families.spec import ModelSpec
from vjax.interop.arguments.slots import slots
from vjax.models.vit import fractional_cells, patch_grid

NAMES = ("pixel_values", "pixel_attention_mask")


def take(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Squares that are padded inside are packed into one row of patches."""
    patch, merge = spec.vision.patch_size, spec.vision.merge
    side = spec.vision.image_size
    pixels = given.get("pixel_values", np.zeros((1, 0, 3, side, side), np.float32))
    real = given.get("pixel_attention_mask", np.ones((*pixels.shape[:2], *pixels.shape[3:])))
    pixels, real = (rearrange(x, "b n ... -> (b n) ...") for x in (pixels, real > 0))
    there = pixels.any((1, 2, 3))
    if len(there) and not there.any():
        there[0] = True  # the class keeps one
    pixels, real = pixels[there].astype(np.float32), real[there]
    H, W = (n // patch for n in pixels.shape[2:])
    if H != W or H % merge:
        raise ValueError(
            f"squares of {pixels.shape[2]} x {pixels.shape[3]} pixels are no square grid of blocks "
            f"of {patch * merge}"
        )
    index = slots(ids, {spec.image_token_id: len(pixels) * (H // merge) ** 2})
    images = rearrange(pixels, "v c h w -> v h w c")[:, : H * patch, : W * patch]
    if not len(images):  # a model without images still has one in its buffer
        images = np.zeros((1, side, side, 3), np.float32)
    real = real[:, : H * patch, : W * patch]
    if real.all():
        return {"images": images, "vision_index": index}
    hw, V = patch_grid(H, W, merge), len(pixels)
    real = reduce(real, "v (h y) (w x) -> v h w", "max", y=patch, x=patch)
    seen = real[:, hw[:, 0], hw[:, 1]]
    sizes = np.stack([real[:, :, 0].sum(1), real[:, 0].sum(1)], 1).tolist()
    cells = [
        np.where(of[:, None], fractional_cells(hw, (h, w), spec.vision.table_side), 0)
        for of, (h, w) in zip(seen, sizes, strict=True)
    ]
    patches = rearrange(
        images, "v (h a y) (w b x) c -> (v h w a b) (y x c)", a=merge, b=merge, y=patch, x=patch
    )
    segments = np.repeat(np.arange(1, V + 1, dtype=np.int32), len(hw))
    return {
        "patches": patches,
        "patch_hw": np.concatenate(cells),
        "patch_segments": segments,
        "patch_seen": np.where(seen.reshape(-1), segments, 0),
        "vision_index": index,
    }
