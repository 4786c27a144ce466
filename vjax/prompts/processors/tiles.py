"""Videos as squares of the tower's size, stills as tiles of it beside the whole.

Reference: transformers' LlavaOnevisionImageProcessor and LlavaOnevisionVideoProcessor,
LlavaNextImageProcessor and LlavaNextVideoVideoProcessor.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec, TilesSpec
from vjax.prompts.pixels import (
    Laid,
    Picture,
    bicubic,
    colours,
    middle,
    normalised,
    padded,
    settings,
)
from vjax.prompts.tiles import best_size, tile_tokens


@dataclasses.dataclass(frozen=True)
class TilePixels:
    """How pictures become squares of a tower's size, stills also cut into tiles of it.

    Attributes:
      side: of a square in pixels.
      tiles: sizes that a still is fitted to; see `vjax.prompts.tiles`.
      mean, std: of RGB in 0 ... 1.
      video: whether it is videos, whose frames are not cut.
      still_side, frame_side: vision tokens along a side of a square, and of a frame.
      crop: frames are cut from the middle, not squeezed.
      newline: a video ends with the model's newline.
    """

    side: int
    tiles: TilesSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    video: bool = False
    still_side: int = 0
    frame_side: int = 0
    crop: bool = False
    newline: bool = True

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "TilePixels":
        """What a checkpoint folder says of images or videos.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        given, side = settings(folder, video=video), spec.vision.image_size
        size = given.get("size") or {"height": side, "width": side}
        crop = bool(given.get("do_center_crop", spec.tiles.crop))
        sizes = {*size.values(), *((given.get("crop_size") or {}).values() if crop else ())}
        if sizes != {side}:
            raise ValueError(f"{folder}: size is {dict(size)}, the tower takes {side} x {side}")
        fitted = given.get("image_grid_pinpoints") or spec.tiles.sizes
        if tuple(map(tuple, fitted)) != spec.tiles.sizes:
            raise ValueError(f"{folder}: image_grid_pinpoints are not those of config.json")
        return cls(
            side=side,
            tiles=spec.tiles,
            **colours(given, spec.vision),
            video=video,
            still_side=side // spec.vision.patch_size,
            frame_side=spec.frame_side,
            crop=crop,
            newline=spec.projector.video_newline,
        )

    def frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [F, side, side, 3], normalised."""
        if self.crop:
            x = np.stack([middle(frame, self.side) for frame in frames])
        else:
            x = np.stack([bicubic(frame, self.side, self.side) for frame in frames])
        return normalised(x, self.mean, self.std)

    def still(self, image: np.ndarray, *, alone: bool = True) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [1 + tiles, side, side, 3], normalised: all of it, its tiles.

        Args:
          alone: a still among others of its conversation is not cut, but padded to a square, where
            `tiles.alone` says so.
        """
        S, (H, W, _) = self.side, image.shape
        if self.tiles.alone and not alone:
            colour = [int(255 * c) for c in self.mean]
            return self.frames([padded(image, max(H, W), max(H, W), colour)])
        h, w = best_size(H, W, self.tiles)
        by = min(w / W, h / H)
        fitted = (h, min(math.ceil(W * by), w)) if h / H <= w / W else (math.ceil(H * by), w)
        x = padded(bicubic(image, min(fitted[0], h), fitted[1]), h, w, (0, 0, 0))
        tiles = rearrange(x, "(a y) (b x) c -> (a b) y x c", y=S, x=S)
        return normalised(np.stack([bicubic(image, S, S), *tiles]), self.mean, self.std)

    def lay(self, picture: Picture, *, alone: bool) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        if self.video:
            tokens = len(picture.frames) * self.frame_side**2
            return Laid(tokens + self.newline, newline=self.newline)
        if self.tiles.alone and not alone:  # an image among others is not cut into tiles
            return Laid(self.still_side**2 + 1, newline=True)
        height, width, _ = picture.frames[0].shape
        index, _ = tile_tokens(height, width, self.tiles, self.side, self.still_side)
        return Laid(len(index))

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them; tiles padded to the most.

        Raises:
          ValueError: videos of different lengths, which that class does not take together.
        """
        if self.video:
            lengths = [len(one.frames) for one in pictures]
            if len(set(lengths)) > 1:
                raise ValueError(f"videos of {lengths} frames together: as many of each are taken")
            x = np.stack([self.frames(one.frames) for one in pictures])
            return {"pixel_values_videos": rearrange(x, "v f h w c -> v f c h w")}
        images = [one.frames[0] for one in pictures]
        stills = [self.still(image, alone=len(images) == 1) for image in images]
        x = np.zeros((len(stills), max(map(len, stills)), self.side, self.side, 3), np.float32)
        for row, still in zip(x, stills, strict=True):
            row[: len(still)] = still
        given = {
            "pixel_values": rearrange(x, "v t h w c -> v t c h w"),
            "image_sizes": np.array([image.shape[:2] for image in images]),
        }
        return given | {"batch_num_images": np.array([len(images)])} if self.tiles.alone else given


from_folder = TilePixels.from_folder
