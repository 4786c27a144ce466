"""How pictures stand in text: what templates render for them, and how many tokens each becomes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from einops import rearrange

from vjax.families import family_of
from vjax.families.spec import ModelSpec, Placeholder, TowerSpec
from vjax.prompts.pixels import GridPixels, TilePixels, normalised, to_model_size
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

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Their pixels, as the reference class's forward takes them (float32, normalised)."""


@dataclasses.dataclass(frozen=True)
class Squares:
    """Pictures brought to one size, as jobs show them: a `frame` after a boundary, an `image` bare.

    Attributes:
      patches: tokens of a picture in the model's bank of vision tokens.
      side: of its grid of patches.
      newline: the model's newline token follows each.
      vision: the tower, for its picture size, mean and deviation.
    """

    kinds: Mapping[str, Placeholder]
    patches: int
    side: int
    newline: bool
    vision: TowerSpec

    @classmethod
    def of(cls, spec: ModelSpec) -> "Squares":
        """Pictures of the tower's size."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {"frame": known["frame"], "image": known.get("view", known["image"])}
        side = spec.vision.image_size // spec.vision.patch_size
        return cls(kinds, spec.frame_side**2, side, spec.projector.newline, spec.vision)

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        laid = Laid(self.patches + self.newline, (1, self.side, self.side), self.newline)
        return [laid] * len(pictures)

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        vision = self.vision
        if vision.position != "table" or self.newline:
            raise ValueError("pictures of one size are no arguments of this reference class")
        squares = [to_model_size(f, vision.image_size) for _, frames in pictures for f in frames]
        if not squares:
            return {}
        x = normalised(np.stack(squares), vision.mean, vision.std)
        return {"pixel_values": rearrange(x, "v h w c -> v c h w")}


@dataclasses.dataclass(frozen=True)
class Native:
    """Images and videos as the family's own processor takes them, of any size.

    Attributes:
      pixels: how images and videos become patches, or squares of the tower's size.
    """

    kinds: Mapping[str, Placeholder]
    spec: ModelSpec
    pixels: Mapping[str, GridPixels | TilePixels]

    @classmethod
    def from_folder(cls, folder, spec: ModelSpec) -> "Native":
        """What a checkpoint folder and its model spec say."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {kind: known[kind] for kind in ("image", "video") if kind in known}
        pixels = {}
        for kind in kinds:
            if spec.vision.position == "rope2d":
                rule = GridPixels.from_folder(folder, spec.vision, video=kind == "video")
            else:
                rule = TilePixels.from_folder(folder, spec, video=kind == "video")
            pixels[kind] = rule
        return cls(kinds, spec, pixels)

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        images = sum(kind == "image" for kind, _ in pictures)
        return [self._lay(kind, frames, alone=images == 1) for kind, frames in pictures]

    def _lay(self, kind: str, frames: tuple[np.ndarray, ...], *, alone: bool) -> Laid:
        height, width, _ = frames[0].shape
        rule = self.pixels[kind]
        if isinstance(rule, GridPixels):
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

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for kind, rule in self.pixels.items():
            mine = [frames for of, frames in pictures if of == kind]
            if mine:
                found |= rule.arguments(mine, video=kind == "video")
        return found
