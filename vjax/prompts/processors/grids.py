"""Pictures of any size to patches, as many as their size asks for.

Reference: transformers' Qwen2VLImageProcessor and Qwen2VLVideoProcessor, and, of times,
Qwen2_5_VLProcessor.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec, TowerSpec
from vjax.prompts.pixels import UNTIMED_FPS, Laid, Picture, bicubic, colours, normalised, settings

MOST_LONG = 200  # sides to one, beyond which a picture is refused
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
      video: whether it is videos that they are cut from.
      time_rate: of the tower's spec.
    """

    patch: int
    temporal: int
    merge: int
    least: int
    most: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    video: bool = False
    time_rate: float = 0.0

    @classmethod
    def from_folder(cls, folder: str | Path, spec: TowerSpec, *, video: bool) -> "GridPixels":
        """What a checkpoint folder says of images or videos.

        Raises:
          ValueError: settings that are not read.
        """
        given = settings(folder, video=video)
        size = given.get("size") or {}
        least, most = VIDEO_PIXELS if video else IMAGE_PIXELS
        return cls(
            patch=given.get("patch_size", spec.patch_size),
            temporal=given.get("temporal_patch_size", spec.temporal_patch),
            merge=given.get("merge_size", spec.merge),
            least=given.get("min_pixels", size.get("shortest_edge", least)),
            most=given.get("max_pixels", size.get("longest_edge", most)),
            **colours(given, spec),
            video=video,
            time_rate=spec.time_rate,
        )

    def size(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:
        """Sides in pixels: whole blocks, as near the picture's shape as `least` and `most` allow.

        It is the same for any number of frames.

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
        h, w = self.size(*frames[0].shape[:2], len(frames))
        return np.stack([bicubic(frame, h, w) for frame in frames])

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
        x = normalised(x, self.mean, self.std)
        grid = (len(x) // self.temporal, x.shape[1] // self.patch, x.shape[2] // self.patch)
        patches = rearrange(
            x, "(t f) (h a y) (w b x) c -> (t h w a b) (f y x c)",
            f=self.temporal, a=self.merge, b=self.merge, y=self.patch, x=self.patch,
        )  # fmt: skip
        return patches, grid

    def lay(self, picture: Picture, *, alone: bool = True) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        frames = picture.frames
        h, w = (n // self.patch for n in self.size(*frames[0].shape[:2], len(frames)))
        t = math.ceil(len(frames) / self.temporal)
        step = 1.0
        if self.video and self.time_rate:
            step = self.time_rate * self.patch_seconds(picture)
        return Laid(t * h * w // self.merge**2, (t, h, w), step=step)

    def patch_seconds(self, picture: Picture) -> float:
        """Seconds from a temporal patch to the next, on average."""
        seconds = picture.seconds
        if len(seconds) < 2:
            return self.temporal / UNTIMED_FPS
        return self.temporal * float(seconds[-1] - seconds[0]) / (len(seconds) - 1)

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them: patches and grids."""
        patches, grids = zip(*(self(one.frames) for one in pictures), strict=True)
        x = rearrange(
            np.concatenate(patches), "s (t y x c) -> s (c t y x)",
            t=self.temporal, y=self.patch, x=self.patch,
        )  # fmt: skip
        if self.video:
            videos = {"pixel_values_videos": x, "video_grid_thw": np.array(grids)}
            if self.time_rate:
                videos["second_per_grid_ts"] = np.array([self.patch_seconds(p) for p in pictures])
            return videos
        return {"pixel_values": x, "image_grid_thw": np.array(grids)}


def from_folder(folder: str | Path, spec: ModelSpec, *, video: bool) -> GridPixels:
    """See `GridPixels.from_folder`."""
    return GridPixels.from_folder(folder, spec.vision, video=video)
