"""Pictures of any size to the patches that a native-resolution tower takes; numpy and Pillow.

Reference: transformers' Qwen2VLImageProcessor and Qwen2VLVideoProcessor.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

MOST_LONG = 200  # sides to one, beyond which a picture is refused
IMAGE_FILE, VIDEO_FILE = "preprocessor_config.json", "video_preprocessor_config.json"
# (least, most) pixels where a folder says nothing: those of the reference classes
IMAGE_PIXELS = (56 * 56, 28 * 28 * 1280)
VIDEO_PIXELS = (128 * 28 * 28, 28 * 28 * 768)


@dataclasses.dataclass(frozen=True)
class GridPixels:
    """How pictures become patches.

    Attributes:
      patch: side of a patch in pixels; temporal: frames it spans.
      merge: side of the blocks of patches that follow each other.
      least, most: pixels of a frame after resizing.
      mean, std: of RGB in 0 ... 1.
    """

    patch: int
    temporal: int
    merge: int
    least: int
    most: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_folder(cls, folder: str | Path, spec, *, video: bool) -> "GridPixels":
        """What a checkpoint folder says of images or videos; `spec` is its TowerSpec.

        A folder without a file for videos uses the one for images, as older ones do.

        Raises:
          ValueError: settings that are not read.
        """
        files = (VIDEO_FILE, IMAGE_FILE) if video else (IMAGE_FILE,)
        found = next((path for f in files if (path := Path(folder) / f).exists()), None)
        given: Mapping = json.loads(found.read_text()) if found else {}
        if given.get("resample", Image.Resampling.BICUBIC) != Image.Resampling.BICUBIC:
            raise ValueError(f"{found}: resample is {given['resample']}, not 3 (bicubic)")
        for name in ("do_resize", "do_rescale", "do_normalize"):
            if not given.get(name, True):
                raise ValueError(f"{found}: {name} is off, which is not read")
        size = given.get("size") or {}
        least, most = VIDEO_PIXELS if video else IMAGE_PIXELS
        return cls(
            patch=given.get("patch_size", spec.patch_size),
            temporal=given.get("temporal_patch_size", spec.temporal_patch),
            merge=given.get("merge_size", spec.merge),
            least=given.get("min_pixels", size.get("shortest_edge", least)),
            most=given.get("max_pixels", size.get("longest_edge", most)),
            mean=tuple(given.get("image_mean", spec.mean)),
            std=tuple(given.get("image_std", spec.std)),
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides in pixels: whole blocks, as near the picture's shape as `least` and `most` allow.

        Raises:
          ValueError: a picture too long for its width.
        """
        if max(height, width) > MOST_LONG * min(height, width):
            raise ValueError(
                f"a picture of {height} x {width}: one side is over 200 times the other"
            )
        block = self.patch * self.merge
        h, w = (round(side / block) * block for side in (height, width))
        if h * w > self.most:
            shrink = math.sqrt(height * width / self.most)
            h, w = (max(block, math.floor(s / shrink / block) * block) for s in (height, width))
        elif h * w < self.least:
            grow = math.sqrt(self.least / (height * width))
            h, w = (math.ceil(side * grow / block) * block for side in (height, width))
        return h, w

    def resized(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [F, H, W, 3] -> uint8 [F, h, w, 3] of `size` (Pillow bicubic)."""
        H, W, _ = frames[0].shape
        h, w = self.size(H, W)
        bicubic = Image.Resampling.BICUBIC
        # rows first, as torchvision has it; Pillow alone takes the cheaper order, rounding between
        rows = [Image.fromarray(frame).resize((w, H), bicubic) for frame in frames]
        return np.stack([np.asarray(frame.resize((w, h), bicubic)) for frame in rows])

    def __call__(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[int, int, int]]:
        """A video, or an image as its one frame.

        Args:
          frames: uint8 [H, W, 3] each; the last is repeated up to whole patches.

        Returns:
          Normalised patches, float32 [t * h * w, C], each (frame, row, column, channel); and the
          grid (t, h, w) in patches.
        """
        x = self.resized(frames)
        x = np.concatenate([x, np.repeat(x[-1:], -len(x) % self.temporal, axis=0)])
        x = (x.astype(np.float32) / 255 - np.float32(self.mean)) / np.float32(self.std)
        grid = (len(x) // self.temporal, x.shape[1] // self.patch, x.shape[2] // self.patch)
        patches = rearrange(
            x, "(t f) (h a y) (w b x) c -> (t h w a b) (f y x c)",
            f=self.temporal, a=self.merge, b=self.merge, y=self.patch, x=self.patch,
        )  # fmt: skip
        return patches, grid
