"""How pictures stand in text: what templates render for them, and how many tokens each becomes."""

import collections
import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from einops import rearrange

from vjax.families import family_of
from vjax.families.spec import ModelSpec, Placeholder, TowerSpec
from vjax.prompts.pixels import Laid, Picture, Pixels, normalised, to_model_size


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
      theirs: whether the family's own processor makes such squares too.
    """

    kinds: Mapping[str, Placeholder]
    patches: int
    side: int
    newline: bool
    vision: TowerSpec
    theirs: bool

    @classmethod
    def of(cls, spec: ModelSpec) -> "Squares":
        """Pictures of the tower's size."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {"frame": known["frame"], "image": known.get("view", known["image"])}
        side = spec.vision.image_size // spec.vision.patch_size
        theirs = spec.pictures == "squares"
        newline, tokens = spec.projector.video_newline, spec.picture_tokens
        squares = Squares(kinds, tokens, side, newline, spec.vision, theirs)
        if not spec.video_frames:
            return squares
        stills = range(spec.frame_tokens, tokens) if spec.still_vision else range(tokens)
        fields = vars(squares) | {"theirs": False}
        return Spread(
            **fields, video=spec.video_frames, frame=range(spec.frame_tokens), still=stills
        )

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        laid = Laid(self.patches + self.newline, (1, self.side, self.side), self.newline)
        return [laid] * len(pictures)

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        vision = self.vision
        if not self.theirs:
            raise ValueError("pictures of one size are no arguments of this reference class")
        squares = [to_model_size(f, vision.image_size) for one in pictures for f in one.frames]
        if not squares:
            return {}
        x = normalised(np.stack(squares), vision.mean, vision.std)
        return {"pixel_values": rearrange(x, "v h w c -> v c h w")}


@dataclasses.dataclass(frozen=True)
class Spread(Squares):
    """Neighbouring frames as one video of a fixed number of them, by rule `spread`.

    Place i of n shows frame i * m // n of m: every frame, some again, none out of order. No
    boundary is between them, and a line break after the last, as the family's template has it.

    Attributes:
      video: frames of a video.
      frame, still: those of a picture's tokens in the bank that it has as a frame, as a still.
    """

    video: int
    frame: range
    still: range

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        runs = collections.Counter(one.run for one in pictures if one.kind == "frame")
        seen: collections.Counter[int] = collections.Counter()
        laid = []
        for one in pictures:
            if one.kind != "frame":
                laid.append(Laid(len(self.still), places=tuple(self.still)))
                continue
            m, frame = runs[one.run], seen[one.run]
            if m > self.video:
                raise ValueError(
                    f"a video of {m} frames: this model is shown {self.video}; set "
                    "sampling.frames to as many"
                )
            times = sum(place * m // self.video == frame for place in range(self.video))
            seen[one.run] += 1
            text = self.kinds["frame"].part["text"] + "\n" if frame + 1 == m else ""
            places = tuple(self.frame) * times
            laid.append(Laid(len(places), places=places, text=text))
        return laid


@dataclasses.dataclass(frozen=True)
class Native:
    """Images and videos as the family's own processor takes them, of any size.

    Attributes:
      pixels: how images and videos become patches, or squares of the tower's size.
    """

    kinds: Mapping[str, Placeholder]
    pixels: Mapping[str, Pixels]

    @classmethod
    def from_folder(cls, folder, spec: ModelSpec) -> "Native":
        """What a checkpoint folder and its model spec say."""
        known = family_of(spec.family).placeholders(spec)
        kinds = {kind: known[kind] for kind in ("image", "video") if kind in known}
        pixels = {}
        if kinds:
            read = importlib.import_module(f"vjax.prompts.processors.{spec.pictures}").from_folder
            pixels = {kind: read(folder, spec, video=kind == "video") for kind in kinds}
        return cls(kinds, pixels)

    def lay(self, pictures: Sequence[Picture]) -> list[Laid]:
        kinds = [one.kind for one in pictures]
        return [self.pixels[p.kind].lay(p, alone=kinds.count(p.kind) == 1) for p in pictures]

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        for rule in self.pixels.values():
            if hasattr(rule, "together"):
                return rule.together(self.pixels, pictures)
        found: dict[str, np.ndarray] = {}
        for rule in dict.fromkeys(self.pixels.values()):  # kinds of one rule go together, in order
            mine = [one for one in pictures if self.pixels[one.kind] == rule]
            if mine:
                found |= rule.arguments(mine)
        return found
