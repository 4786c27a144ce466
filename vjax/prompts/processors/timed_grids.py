"""Pictures of any size to patches; a video is a block of them for each time, which is written.

Reference: transformers' Qwen2VLImageProcessor, Qwen3VLVideoProcessor and Qwen3VLProcessor.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, settings
from vjax.prompts.processors.grids import MOST_LONG, GridPixels

START, VIDEO, END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"
# (least, most) pixels of a video where a folder says nothing: those of the reference class
VIDEO_PIXELS = (128 * 32 * 32, 32 * 32 * 768)


@dataclasses.dataclass(frozen=True)
class TimedGridPixels(GridPixels):
    """How videos become patches.

    Attributes:
      least, most: pixels of all frames together after resizing.
    """

    def size(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:
        """Sides in pixels; see `GridPixels.size`. All frames share `least` and `most`."""
        block = self.patch * self.merge
        if min(height, width) < block:
            grow = max(block / height, block / width)
            height, width = int(height * grow), int(width * grow)
        if max(height, width) > MOST_LONG * min(height, width):
            raise ValueError(
                f"a video of {height} x {width}: one side is over {MOST_LONG} times the other"
            )
        h, w = (round(side / block) * block for side in (height, width))
        pixels = max(1, round(frames / self.temporal)) * self.temporal * h * w
        if pixels > self.most:
            shrink = math.sqrt(frames * height * width / self.most)
            h, w = (max(block, math.floor(s / shrink / block) * block) for s in (height, width))
        elif pixels < self.least:
            grow = math.sqrt(self.least / (frames * height * width))
            h, w = (math.ceil(side * grow / block) * block for side in (height, width))
        return h, w

    def lay(self, picture: Picture, *, alone: bool = True) -> Laid:
        """See `vjax.prompts.pixels.Pixels`.

        A temporal patch is a block after its time, the middle of its first and its last frame. By
        rule `qwen` (Qwen's own code, transformers up to 4) the blocks stand for all that the
        template shows of a video, by `hf5` they stand between its marks of start and end.
        """
        whole = super().lay(picture, alone=alone)
        t, h, w = whole.grid
        seconds = picture.seconds
        seconds = np.pad(seconds, (0, -len(seconds) % self.temporal), mode="edge").reshape(t, -1)
        middle = (seconds[:, 0] + seconds[:, -1]) / 2
        return dataclasses.replace(
            whole,
            blocks=(Laid(whole.tokens // t, (1, h, w)),) * t,
            text="".join(f"<{s:.1f} seconds>{START}{VIDEO}{END}" for s in middle),
            instead_of=f"{START}{VIDEO}{END}",
            by_rule="qwen",
        )


def from_folder(folder: str | Path, spec: ModelSpec, *, video: bool) -> GridPixels:
    """What a checkpoint folder says of images or videos; raises as `GridPixels.from_folder`."""
    read = GridPixels.from_folder(folder, spec.vision, video=video)
    if not video:
        return read
    given = settings(folder, video=True)
    if given.get("cap_pixels_per_frame"):
        raise ValueError(f"{folder}: cap_pixels_per_frame is on, which is not read")
    size = given.get("size") or {}
    room = dict(least=VIDEO_PIXELS[0], most=VIDEO_PIXELS[1])
    room |= {k: size[n] for k, n in (("least", "shortest_edge"), ("most", "longest_edge"))
             if n in size}  # fmt: skip
    return TimedGridPixels(**dataclasses.asdict(read) | room)
