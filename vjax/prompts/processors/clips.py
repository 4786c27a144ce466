"""Images and videos as clips of squares of the tower's size.

Reference: `process_image`, `process_video` and `encode_images_or_videos` of VideoLLaMA2's code,
with its towers' processors (transformers' CLIPImageProcessor and SiglipImageProcessor).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, bicubic, colours, middle, normalised, settings

MOST = 32  # frames, of which their code takes the first where there are more


@dataclasses.dataclass(frozen=True)
class ClipPixels:
    """How pictures become clips.

    Attributes:
      spec: the model's, for the size and length of clips and their tokens.
      crop: pictures keep their shape and are cut square from the middle; else they are squeezed.
      mean, std: of RGB in 0 ... 1.
    """

    spec: ModelSpec
    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "ClipPixels":
        """What a checkpoint folder says, or, as released ones say nothing, the tower's processor.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        given, vision = settings(folder, video=video), spec.vision
        sizes = {*(given.get("size") or {}).values(), *(given.get("crop_size") or {}).values()}
        if sizes - {vision.image_size}:
            raise ValueError(
                f"{folder}: pictures are brought to {sorted(sizes)} pixels, the tower takes "
                f"{vision.image_size}"
            )
        crop = given.get("do_center_crop", vision.class_token)  # as CLIP's does
        return cls(spec, bool(crop), **colours(given, vision))

    def length(self, picture: Picture) -> int:
        """Frames of its clip.

        Raises:
          ValueError: more than the reference takes.
        """
        if len(picture.frames) > MOST:
            raise ValueError(f"a video of {len(picture.frames)} frames: at most {MOST} are shown")
        return max(self.spec.projector.clip, len(picture.frames))

    def clip(self, picture: Picture) -> np.ndarray:
        """float32 [frames, side, side, 3], normalised: an image again and again; a video, and black
        frames after it where it is short."""
        side = self.spec.vision.image_size
        cut = middle if self.crop else lambda frame, size: bicubic(frame, size, size)
        x = np.stack([cut(frame, side) for frame in picture.frames])
        more = self.length(picture) - len(x)
        rest = x[:1] if picture.kind == "image" else np.zeros_like(x[:1])
        return normalised(np.concatenate([x, *[rest] * more]), self.mean, self.std)

    def lay(self, picture: Picture, *, alone: bool) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        return Laid(self.spec.clip_tokens(self.length(picture)))

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images and videos as the reference's forward takes them, in their order.

        Raises:
          ValueError: clips of different lengths, which it does not take together.
        """
        lengths = [self.length(one) for one in pictures]
        if len(set(lengths)) > 1:
            raise ValueError(f"clips of {lengths} frames together: as many of each are taken")
        x = np.stack([self.clip(one) for one in pictures])
        return {"pixel_values_videos": rearrange(x, "v f h w c -> v f c h w")}


from_folder = ClipPixels.from_folder
