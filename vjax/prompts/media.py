"""How pictures stand in text: what templates render for them, and how many tokens each becomes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from vjax.families import family_of
from vjax.families.spec import ModelSpec, Placeholder
from vjax.prompts.pixels import GridPixels
from vjax.prompts.tiles import tile_tokens

Picture = tuple[str, tuple[np.ndarray, ...]]  # kind of a prompt's part, and its frames


@dataclasses.dataclass(frozen=True)
class Laid:
    """What one picture or video becomes.

    Attributes:
      tokens: how many, a newline included.
      grid: (t, h, w) in patches, where positions follow it.
      newline: the last of them is the model's newline, and no part of the picture.
    """

    tokens: int
    grid: tuple[int, int, int] = (1, 1, 1)
    newline: bool = False


class Media(Protocol):
    """Attributes:
    kinds: what stands for each kind of a prompt's parts.
    """

    kinds: Mapping[str, Placeholder]

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        """What each of a conversation's pictures becomes."""


@dataclasses.dataclass(frozen=True)
class Squares:
    """Pictures brought to one size, as jobs show them: a `frame` after a boundary, an `image` bare.

    Attributes:
      patches: tokens of a picture in the model's bank of vision tokens.
      side: of its grid of patches.
      newline: the model's newline token follows each.
    """

    kinds: Mapping[str, Placeholder]
    patches: int
    side: int
    newline: bool

    @classmethod
    def of(cls, spec: ModelSpec) -> "Squares":
        """Pictures of the tower's size."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {"frame": known["frame"], "image": known.get("view", known["image"])}
        side = spec.vision.image_size // spec.vision.patch_size
        return cls(kinds, spec.frame_side**2, side, spec.projector.newline)

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        laid = Laid(self.patches + self.newline, (1, self.side, self.side), self.newline)
        return [laid] * len(pictures)


@dataclasses.dataclass(frozen=True)
class Native:
    """Images and videos as the family's own processor takes them, of any size.

    Attributes:
      pixels: of images and videos, where the tower takes grids of any size; else None.
    """

    kinds: Mapping[str, Placeholder]
    spec: ModelSpec
    pixels: Mapping[str, GridPixels] | None

    @classmethod
    def from_folder(cls, folder, spec: ModelSpec) -> "Native":
        """What a checkpoint folder and its model spec say."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {kind: known[kind] for kind in ("image", "video") if kind in known}
        pixels = None
        if spec.vision and spec.vision.position == "rope2d":
            pixels = {
                kind: GridPixels.from_folder(folder, spec.vision, video=kind == "video")
                for kind in kinds
            }
        return cls(kinds, spec, pixels)

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        images = sum(kind == "image" for kind, _ in pictures)
        return [self._lay(kind, frames, alone=images == 1) for kind, frames in pictures]

    def _lay(self, kind: str, frames: tuple[np.ndarray, ...], *, alone: bool) -> Laid:
        height, width, _ = frames[0].shape
        if self.pixels is not None:
            rule = self.pixels[kind]
            h, w = (side // rule.patch for side in rule.size(height, width))
            t = math.ceil(len(frames) / rule.temporal)
            return Laid(t * h * w // rule.merge**2, (t, h, w))
        spec = self.spec
        side = spec.vision.image_size // spec.vision.patch_size
        if kind == "video":
            return Laid(len(frames) * spec.frame_side**2 + 1, newline=True)
        if not alone:  # an image among others is not cut into tiles
            return Laid(side**2 + 1, newline=True)
        index, _ = tile_tokens(height, width, spec.tiles, spec.vision.image_size, side)
        return Laid(len(index))
