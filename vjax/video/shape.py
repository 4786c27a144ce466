"""Decoded pictures to arrays: upright RGB at the size asked for, and small grey pictures."""

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

RESIZES = ("swscale", "reference")
LUMA_SIDE = 64  # pixels, short side of the grey frames behind the motion curve
# Bit-exact: the SIMD paths of swscale differ from machine to machine.
BICUBIC = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

Size = int | tuple[int, int] | None


class Shaper:
    """Shapes the pictures of one video; keeps its filter tables from picture to picture.

    Args:
        size: side of a square (the aspect is not kept, as SigLIP's processor does), or (height,
            width); None keeps the upright picture's own.
        resize: `swscale` (bicubic, straight from YUV, fast) or `reference` (full-size RGB, then
            Pillow bicubic: equal to the Hugging Face processors).
    """

    def __init__(self, size: Size, resize: str):
        if resize not in RESIZES:
            raise ValueError(f"resize {resize!r} is unknown; use one of {', '.join(RESIZES)}")
        self.size = (size, size) if isinstance(size, int) else size
        self.resize = resize
        self.luma_size = None  # the first picture's for all, should they change their size
        self._rgb, self._grey = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [height, width, 3]. Transparency is dropped, as Pillow's `convert("RGB")` does."""
        turns = quarters(frame)
        if self.resize == "swscale" and self.size is not None:
            height, width = self.size if turns % 2 == 0 else self.size[::-1]
            return np.rot90(self._converted(frame, width=width, height=height), turns)
        full = np.rot90(self._converted(frame), turns)
        if self.size is None or full.shape[:2] == self.size:
            return full
        image = Image.fromarray(np.ascontiguousarray(full))
        return np.asarray(image.resize(self.size[::-1], Image.Resampling.BICUBIC))

    def _converted(self, frame: av.VideoFrame, **size) -> np.ndarray:
        rgb = self._rgb.reformat(frame, format="rgb24", threads=1, interpolation=BICUBIC, **size)
        return rgb.to_ndarray()

    def grey(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [height, width] at full size, of the RGB picture (ITU-R 601, as OpenCV's grey)."""
        rgb = np.ascontiguousarray(np.rot90(self._converted(frame), quarters(frame)))
        return np.asarray(Image.fromarray(rgb).convert("L"))

    def luma(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [h, w], the Y plane, box-averaged by Pillow: whole numbers, equal everywhere."""
        turns, kind = quarters(frame), frame.format
        if kind.is_rgb or not kind.is_planar or kind.components[0].bits != 8:
            frame = self._grey.reformat(frame, format="gray", threads=1, interpolation=BICUBIC)
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        sides = np.array([frame.width, frame.height])
        if self.luma_size is None:
            self.luma_size = tuple(2 * np.rint(sides * LUMA_SIDE / sides.min() / 2).astype(int))
        image = Image.fromarray(np.ascontiguousarray(rows[: frame.height, : frame.width]))
        small = image.resize(self.luma_size, Image.Resampling.BOX, reducing_gap=2.0)
        return np.rot90(np.asarray(small), turns)


def quarters(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that make a picture upright."""
    return round(frame.rotation / 90) % 4
