"""Pictures in squares that the text names: stills split beside the whole, frames with their times.

Reference: transformers' SmolVLMProcessor, SmolVLMImageProcessor and SmolVLMVideoProcessor.
"""

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, colours, lanczos, normalised, settings

IMAGE, AROUND, WHOLE, VIDEO = "<image>", "<fake_token_around_image>", "<global-img>", "<video>"
SQUARE = f"{AROUND}{WHOLE}{IMAGE}{AROUND}"
MOST = 4096  # pixels along a side, in the reference
TIMES = 4  # a still's longer side, where a folder does not say it, in squares
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclasses.dataclass(frozen=True)
class SplitPixels:
    """How pictures become squares.

    Attributes:
      side: of a square in pixels; tokens: that it becomes.
      longest: a picture's longer side before it is cut.
      split: stills are cut into squares, beside the whole of it.
      mean, std: of RGB in 0 ... 1.
      video: whether it is videos, whose frames are not cut.
    """

    side: int
    tokens: int
    longest: int
    split: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    video: bool

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "SplitPixels":
        """What a checkpoint folder says of images or videos.

        Raises:
          ValueError: settings that are not read, or squares that are no whole blocks of patches.
        """
        given = settings(folder, video=video, resample=Image.Resampling.LANCZOS)
        side = given.get("max_image_size", {}).get("longest_edge", spec.vision.image_size)
        sampling = given.get("video_sampling") or {}
        size = given.get("size") or sampling.get("video_size") or {"longest_edge": TIMES * side}
        if not 0 < size.get("longest_edge", 0) <= MOST:
            raise ValueError(f"{folder}: size is {dict(size)}, not a longest_edge up to {MOST}")
        patches = side // spec.vision.patch_size
        if patches % spec.projector.merge:
            raise ValueError(
                f"{folder}: max_image_size {side} is {patches} patches, which are no whole blocks "
                f"of {spec.projector.merge}"
            )
        return cls(
            side=side,
            tokens=(patches // spec.projector.merge) ** 2,
            longest=size["longest_edge"],
            split=not video and given.get("do_image_splitting", True),
            **colours(given, spec.vision),
            video=video,
        )

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Sides in pixels with `longest` the longer, the other even."""
        if width >= height:
            other = int(self.longest / (width / height))
            return max(other + other % 2, 1), self.longest
        other = int(self.longest * (width / height))
        return self.longest, max(other + other % 2, 1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of squares of a still; (0, 0) where it is one square.

        Raises:
          ValueError: a picture too long for its width.
        """
        if not self.split:
            return 0, 0
        height, width = self.fitted(height, width)
        longer, wide = math.ceil(self.longest / self.side), width >= height
        by = width / height
        other = int(longer * self.side / by if wide else longer * self.side * by)
        shorter = math.ceil(other / self.side)
        if not shorter:
            raise ValueError(f"a picture of {height} x {width} is too long to be split")
        if longer == shorter == 1:
            return 0, 0
        return (shorter, longer) if wide else (longer, shorter)

    def squares(self, picture: Picture) -> np.ndarray:
        """float32 [N, side, side, 3], normalised: frames, or a still's squares and the whole."""
        S, made = self.side, []
        for image in picture.frames:
            H, W, _ = image.shape
            x = lanczos(image, *self.fitted(H, W))
            rows, columns = self.grid(H, W)
            if rows:
                x = lanczos(x, rows * S, columns * S)
                made += [*rearrange(x, "(a y) (b x) c -> (a b) y x c", y=S, x=S)]
            elif self.split:
                x = lanczos(x, S, S)
            made.append(lanczos(x, S, S))
        return normalised(np.stack(made), self.mean, self.std)

    def lay(self, picture: Picture, *, alone: bool = True) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        if self.video:
            return self._laid(len(picture.frames), video_text(picture), VIDEO)
        rows, columns = self.grid(*picture.frames[0].shape[:2])
        named = "".join(
            "".join(f"{AROUND}<row_{a + 1}_col_{b + 1}>{IMAGE}" for b in range(columns)) + "\n"
            for a in range(rows)
        )
        return self._laid(rows * columns + 1, (named and f"{named}\n") + SQUARE, IMAGE)

    def _laid(self, squares: int, text: str, instead_of: str) -> Laid:
        blocks = (Laid(self.tokens),) * squares
        return Laid(squares * self.tokens, blocks=blocks, text=text, instead_of=instead_of)

    def together(
        self, pixels: Mapping[str, "SplitPixels"], pictures: Sequence[Picture]
    ) -> dict[str, np.ndarray]:
        """All squares of a conversation in order; several videos alone are rows of their own, the
        shorter ones padded with zeros."""
        made = [pixels[one.kind].squares(one) for one in pictures]
        if not made:
            return {}
        if {one.kind for one in pictures} != {"video"}:
            made = [np.concatenate(made)]
        x = np.zeros((len(made), max(map(len, made)), *made[0].shape[1:]), np.float32)
        for row, squares in zip(x, made, strict=True):
            row[: len(squares)] = squares
        return {
            "pixel_values": rearrange(x, "v n h w c -> v n c h w"),
            "pixel_attention_mask": np.ones(x.shape[:-1], np.int64),
        }


def video_text(picture: Picture) -> str:
    """What is written of a video: how many frames, how long, and the time before each.

    Of videos of different lengths together the reference gives each the number of the longest.
    """
    seconds = picture.seconds
    whole = seconds[-1] if picture.duration is None else picture.duration
    lasts = datetime.timedelta(seconds=int(whole))
    shown = "".join(f"\nFrame from {int(s // 60):02d}:{int(s % 60):02d}:{SQUARE}" for s in seconds)
    return (
        f"You are provided the following series of {number(len(seconds))} frames from a {lasts} "
        f"[H:MM:SS] video.\n{shown}\n\n"
    )


def number(n: int) -> str:
    """A numeral below a million in English words, as num2words writes it."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")
    size, name, joint = (100, "hundred", " and ") if n < 1000 else (1000, "thousand", ", ")
    rest = n % size
    joint = " and " if rest < 100 else joint
    return f"{number(n // size)} {name}" + (joint + number(rest) if rest else "")


from_folder = SplitPixels.from_folder
