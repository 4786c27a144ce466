"""Decoded pictures to arrays: upright RGB at the size asked for, and small grey pictures."""

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

RESIZES = ("swscale", "reference")
LUMA_SIDE = 64  # pixels, shortest short side of the grey frames behind the motion curve
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
        self._luma_shape = None
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
        """uint8 [h, w], every k-th pixel of every k-th row of the Y plane, upright.

        k leaves a short side of `LUMA_SIDE` to twice as many. Pixels are taken, not averaged: that
        agrees with SSIM as well or better, and reads a k-th of the memory.
        """
        k = max(1, min(frame.width, frame.height) // LUMA_SIDE)
        small = self._plane(frame)[k // 2 :: k, k // 2 :: k]
        self._luma_shape = self._luma_shape or small.shape
        if small.shape != self._luma_shape:  # the picture changed its size: as the first one
            image = Image.fromarray(np.ascontiguousarray(small))
            small = np.asarray(image.resize(self._luma_shape[::-1], Image.Resampling.BOX))
        return np.ascontiguousarray(np.rot90(small, quarters(frame)))

    def _plane(self, frame: av.VideoFrame) -> np.ndarray:
        """The 8 highest bits of the Y plane, uint8 [height, width], as the file has them."""
        kind = frame.format
        bits = kind.components[0].bits
        deep = 8 < bits <= 16 and kind.name.startswith("yuv") and kind.name.endswith("le")
        if kind.is_rgb or not kind.is_planar or (bits != 8 and not deep):
            frame = self._grey.reformat(frame, format="gray", threads=1, interpolation=BICUBIC)
            deep = False
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        if deep:
            rows = (rows.view("<u2")[: frame.height, : frame.width] >> (bits - 8)).astype(np.uint8)
        return rows[: frame.height, : frame.width]


def quarters(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that make a picture upright."""
    return round(frame.rotation / 90) % 4


def upright(frame: av.VideoFrame) -> tuple[int, int, int]:
    """Width and height once it is upright, and the degrees counter-clockwise that make it so."""
    turns = quarters(frame)
    sides = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return *sides, 90 * turns
