"""Frames that lie in image files: a list of them with times is a video like any other.

The list is a JSON file named `frames.json` or `NAME.frames.json`:

  {"fps": 12}                                     every image beside it, in natural order
  {"fps": 12, "frames": ["a.jpg", "b.jpg"]}       these, paths relative to the list
  {"times": [0.0, 0.4], "frames": ["a.jpg", "b.jpg"]}    with a time in seconds each
"""

import hashlib
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vjax.video import errors

LIST = "frames.json"
IMAGES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())
TIME_BASE = Fraction(1, 1_000_000)


def is_list(path: Path) -> bool:
    """Whether a file is by its name a list of images."""
    return path.name == LIST or path.name.endswith("." + LIST)


def read_list(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Image paths relative to the list's folder, and their times, int64 in microseconds.

    Raises:
        NotAVideo: no such JSON; the message says what is wrong with it.
        NoTimes: times that do not ascend, or not one for each frame.
    """
    try:
        fields = json.loads(path.read_text())
    except ValueError as error:
        raise errors.NotAVideo(f"{path}: not JSON ({error}); see vjax.video.images") from error
    if not isinstance(fields, dict) or not fields.keys() <= {"fps", "times", "frames"}:
        raise errors.NotAVideo(f"{path}: holds other things than fps, times and frames")
    names = fields.get("frames")
    if names is None:
        found = [p.name for p in path.parent.iterdir() if p.suffix.lower() in IMAGES]
        names = sorted(found, key=_natural)
    if not names or not all(isinstance(name, str) for name in names):
        raise errors.NotAVideo(f"{path}: names no image")
    times, fps = fields.get("times"), fields.get("fps")
    if (times is None) == (fps is None):
        raise errors.NoTimes(f"{path}: needs either fps or times")
    if times is None:
        if not isinstance(fps, int | float) or fps <= 0:
            raise errors.NoTimes(f"{path}: fps is {fps!r}, a number above 0 is needed")
        times = np.arange(len(names)) / fps
    ticks = np.rint(np.asarray(times, np.float64) / float(TIME_BASE))
    if len(ticks) != len(names) or not (np.diff(ticks) > 0).all():
        raise errors.NoTimes(
            f"{path}: {len(ticks)} times for {len(names)} frames, one each and ascending is needed"
        )
    return tuple(names), ticks.astype(np.int64)


def load(path: Path) -> np.ndarray:
    """An image as uint8 [height, width, 3] RGB, turned as its EXIF says.

    Raises:
        TruncatedVideo: it is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise errors.TruncatedVideo(f"{path}: no image that can be read ({error})") from error


def hash_of(paths: list[Path]) -> str:
    """BLAKE2b-128 of all the files' bytes, one after the other, hex."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise errors.TruncatedVideo(f"{path}: {error.strerror}") from error
    return digest.hexdigest()


def _natural(name: str) -> list:
    """frame2 before frame10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", name)]
