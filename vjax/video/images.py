"""Frames that lie in image files: a list of them with times is a video like any other.

One image is a video of one frame. A list is a JSON file named `frames.json` or `NAME.frames.json`:

  {"fps": 12}                                     every image beside it, in natural order
  {"fps": 12, "frames": ["a.jpg", "b.jpg"]}       these, paths relative to the list
  {"times": [0.0, 0.4], "frames": ["a.jpg", "b.jpg"]}    with a time in seconds each
"""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vjax.video import errors

LIST = "frames.json"
IMAGES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())
TIME_BASE = Fraction(1, 1_000_000)
MOST = 1e9  # seconds, and frames a second


def is_list(path: Path) -> bool:
    """Whether a file is by its name a list of images."""
    return path.name == LIST or path.name.endswith("." + LIST)


def is_image(path: Path) -> bool:
    """Whether a file is by its name an image."""
    return path.suffix.lower() in IMAGES


def read_list(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Image paths relative to the list's folder, and their times, int64 in microseconds.

    Raises:
        NotAVideo: no such JSON; the message says what is wrong with it.
        NoTimes: times that do not ascend, or not one for each frame.
    """
    with errors.reading(path):
        text = path.read_bytes()
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.NotAVideo(f"{path}: not JSON ({error}); see vjax.video.images") from error
    if not isinstance(fields, dict) or not fields.keys() <= {"fps", "times", "frames"}:
        raise errors.NotAVideo(f"{path}: holds other things than fps, times and frames")
    names = fields.get("frames")
    if names is None:
        found = [p.name for p in path.parent.iterdir() if p.suffix.lower() in IMAGES]
        names = sorted(found, key=_natural)
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise errors.NotAVideo(f"{path}: frames are no list of file names")
    times, fps = fields.get("times"), fields.get("fps")
    if (times is None) == (fps is None):
        raise errors.NoTimes(f"{path}: needs either fps or times")
    if times is None:
        if not _is_number(fps) or not 0 < fps <= MOST:
            raise errors.NoTimes(f"{path}: fps is {fps!r}, a number above 0 is needed")
        times = [n / fps for n in range(len(names))]
    if not isinstance(times, list) or not all(_is_number(t) and abs(t) <= MOST for t in times):
        raise errors.NoTimes(f"{path}: times are no list of seconds")
    ticks = np.rint(np.array(times, np.float64) / float(TIME_BASE)).astype(np.int64)
    if len(ticks) != len(names) or not (np.diff(ticks) > 0).all():
        raise errors.NoTimes(
            f"{path}: {len(ticks)} times for {len(names)} frames, one each and ascending is needed"
        )
    return tuple(names), ticks


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_name(value) -> bool:
    return isinstance(value, str) and value.isprintable()


def load(path: Path) -> np.ndarray:
    """An image as uint8 [height, width, 3] RGB, turned as its EXIF says; of 16 bits, the upper 8.

    Raises:
        TruncatedVideo: it is missing, damaged, or of whole numbers or fractions without a range.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise ValueError("no file")
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode}")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them
        raise errors.TruncatedVideo(f"{path}: no image that can be read ({error})") from error


def _natural(name: str) -> list:
    """frame2 before frame10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]
