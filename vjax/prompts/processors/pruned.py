"""Pictures of any size to patches; of videos, what does not change is left out and times are told.

Reference: transformers' VideoLlama3ImageProcessor, VideoLlama3VideoProcessor and
VideoLlama3Processor. The paper (arXiv 2501.13106) calls the first differential frame pruning.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange, reduce

from vjax.families.spec import ModelSpec
from vjax.prompts.pixels import Laid, Picture, settings
from vjax.prompts.processors import grids

THRESHOLD = 0.1  # of the mean difference of normalised pixels, times 255
VIDEO = "<|video_pad|>"


@dataclasses.dataclass(frozen=True)
class PrunedPixels(grids.GridPixels):
    """How pictures become patches, and which tokens of a video are left out.

    Attributes:
      most: of a video, pixels of all its frames together after resizing.
      prune: tokens that are much as in the frame before are left out.
    """

    prune: bool = True

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "PrunedPixels":
        """What a checkpoint folder says of images or videos; raises as `GridPixels.from_folder`."""
        given = settings(folder, video=video)
        read = grids.GridPixels.from_folder(folder, spec.vision, video=video)
        merge = spec.projector.merge if video else 1
        if (found := given.get("merge_size", merge)) != merge:
            of = "videos" if video else "images"
            raise ValueError(f"{folder}: merge_size is {found} of {of}, the model's is {merge}")
        prune = given.get("use_token_compression", True)
        fields = dataclasses.asdict(read) | {"merge": merge}
        return cls(**fields, prune=bool(prune))

    def resized(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [F, H, W, 3] -> uint8 [F, h, w, 3]; the frames share the room of a video."""
        each = dataclasses.replace(self, most=self.most // len(frames))
        return grids.GridPixels.resized(each, frames)

    def kept(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """bool [F, tokens]: those whose block of pixels differs from that of the frame before.

        All of the first frame are kept, and the first token of one where none differs.
        """
        patches, (t, h, w) = self(frames)
        blocks = rearrange(patches, "(t p m) c -> t p (m c)", t=t, m=self.merge**2)
        keep = np.ones(blocks.shape[:2], bool)
        if self.prune:
            off = reduce(np.abs(np.diff(blocks, axis=0)), "t p c -> t p", "mean")
            keep[1:] = off * 255 > THRESHOLD
            keep[:, 0] |= ~keep.any(-1)
        return keep

    def lay(self, picture: Picture, *, alone: bool = True) -> Laid:
        """See `vjax.prompts.pixels.Pixels`. A video is a run of tokens a frame, after its time."""
        if not self.video:
            return super().lay(picture, alone=alone)
        counts = self.kept(picture.frames).sum(-1).tolist()
        times = picture.times or range(len(counts))  # at one a second where nobody says, as there
        text = ",".join(f"Time {t:.1f}s:{VIDEO}" for t in times)
        return Laid(sum(counts), blocks=tuple(map(Laid, counts)), text=text)

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them."""
        found = super().arguments(pictures)
        kind = "video" if self.video else "image"
        found[f"{kind}_merge_sizes"] = np.full(len(pictures), self.merge)
        if self.video:
            kept = [self.kept(one.frames).reshape(-1) for one in pictures]
            found["video_compression_mask"] = np.concatenate(kept)
        return found


from_folder = PrunedPixels.from_folder
