"""Stills cut into as many squares as suit their shape, and the whole; frames numbered in text.

Reference: transformers' InternVLProcessor, GotOcr2ImageProcessor and InternVLVideoProcessor.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, bicubic, colours, normalised, settings

IMAGE, VIDEO = "<IMG_CONTEXT>", "<video>"
SQUARE = f"<img>{IMAGE}</img>"
LEAST, MOST = 1, 12  # squares of a still, where a folder does not say


@dataclasses.dataclass(frozen=True)
class CropPixels:
    """How pictures become squares.

    Attributes:
      side: of a square in pixels; tokens: that it becomes.
      least, most: squares that a still is cut into; the whole of it follows where they are several.
      mean, std: of RGB in 0 ... 1.
      video: whether it is videos, whose frames are not cut.
    """

    side: int
    tokens: int
    least: int
    most: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    video: bool

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "CropPixels":
        """What a checkpoint folder says of images or videos.

        InternVLProcessor cuts stills whatever the folder says of `crop_to_patches`.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        given, side = settings(folder, video=video), spec.vision.image_size
        size = given.get("size") or {"height": side, "width": side}
        if set(size.values()) != {side}:
            raise ValueError(f"{folder}: size is {dict(size)}, the tower takes {side} x {side}")
        least, most = given.get("min_patches", LEAST), given.get("max_patches", MOST)
        if not 1 <= least <= most:
            raise ValueError(f"{folder}: min_patches {least} to max_patches {most}: no such number")
        return cls(
            side=side,
            tokens=spec.frame_side**2,
            least=least,
            most=most,
            **colours(given, spec.vision),
            video=video,
        )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the grid of squares whose shape is nearest to the still's.

        Of grids that are equally near the largest is taken that the still fills by half.
        """
        sizes = range(1, self.most + 1)
        grids = [(w, h) for w in sizes for h in sizes if self.least <= w * h <= self.most]
        best, least = (1, 1), float("inf")
        for w, h in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            off = abs(width / height - w / h)
            filled = width * height > 0.5 * self.side**2 * w * h
            if off < least or (off == least and filled):
                best, least = (w, h), off
        return best[::-1]

    def squares(self, picture: Picture) -> np.ndarray:
        """float32 [N, side, side, 3], normalised: frames, or a still's squares and the whole."""
        S, made = self.side, []
        for image in picture.frames:
            rows, columns = (1, 1) if self.video else self.grid(*image.shape[:2])
            if rows * columns > 1:
                x = bicubic(image, rows * S, columns * S)
                made += [*rearrange(x, "(a y) (b x) c -> (a b) y x c", y=S, x=S)]
            made.append(bicubic(image, S, S))
        return normalised(np.stack(made), self.mean, self.std)

    def lay(self, picture: Picture, *, alone: bool = True) -> Laid:
        """See `vjax.prompts.pixels.Pixels`."""
        if self.video:
            frames = len(picture.frames)
            text = "\n".join(f"Frame{n + 1}: {SQUARE}" for n in range(frames))
            blocks = (Laid(self.tokens),) * frames
            return Laid(frames * self.tokens, blocks=blocks, text=text, instead_of=VIDEO)
        rows, columns = self.grid(*picture.frames[0].shape[:2])
        squares = rows * columns + (rows * columns > 1)
        return Laid(squares * self.tokens, text=SQUARE)

    def together(
        self, pixels: Mapping[str, "CropPixels"], pictures: Sequence[Picture]
    ) -> dict[str, np.ndarray]:
        """All squares of a conversation, in order."""
        if not pictures:
            return {}
        x = np.concatenate([pixels[one.kind].squares(one) for one in pictures])
        return {"pixel_values": rearrange(x, "n h w c -> n c h w")}


from_folder = CropPixels.from_folder
