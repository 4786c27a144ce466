"""Images and frames as squares of the tower's size, cut from the middle.

Reference: transformers' VideoLlavaImageProcessor and VideoLlavaVideoProcessor.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, colours, middle, normalised, settings


@dataclasses.dataclass(frozen=True)
class MiddlePixels:
    """How pictures become squares.

    Attributes:
      side: of a square in pixels.
      tokens: of an image, or of a frame.
      mean, std: of RGB in 0 ... 1.
      video: whether it is videos.
    """

    side: int
    tokens: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    video: bool

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "MiddlePixels":
        """What a checkpoint folder says of images or videos.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        given, side = settings(folder, video=video), spec.vision.image_size
        sizes = {*(given.get("size") or {}).values(), *(given.get("crop_size") or {}).values()}
        if sizes - {side} or not given.get("do_center_crop", True):
            raise ValueError(
                f"{folder}: pictures are brought to {dict(given.get('size') or {})} and cut to "
                f"{given.get('crop_size')}, the tower takes {side} x {side} from the middle"
            )
        tokens = spec.frame_tokens if video else spec.still_vision.features
        return cls(side, tokens, **colours(given, spec.vision), video=video)

    def frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [F, side, side, 3], normalised."""
        return normalised(np.stack([middle(f, self.side) for f in frames]), self.mean, self.std)

    def lay(self, picture: Picture, *, alone: bool) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        return Laid(len(picture.frames) * self.tokens)

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them.

        Raises:
          ValueError: videos of different lengths, which that class does not take together.
        """
        if not self.video:
            x = self.frames([one.frames[0] for one in pictures])
            return {"pixel_values": rearrange(x, "v h w c -> v c h w")}
        lengths = [len(one.frames) for one in pictures]
        if len(set(lengths)) > 1:
            raise ValueError(f"videos of {lengths} frames together: as many of each are taken")
        x = np.stack([self.frames(one.frames) for one in pictures])
        return {"pixel_values_videos": rearrange(x, "v f h w c -> v f c h w")}


from_folder = MiddlePixels.from_folder
