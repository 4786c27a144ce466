"""The frame table: which frames a clip has and when they are shown, read by every later stage."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vjax.video import errors
from vjax.video.supervise import beat

Window = tuple[int, int]  # [start, end) in whole milliseconds of the file's own clock


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Frames of one video or of one window of it, in presentation order.

    Attributes:
        video_id: corpus-relative POSIX path, plus `#start_ms-end_ms` for a window.
        path: file it was read from.
        content_hash: BLAKE2b-128 of the file's bytes, hex.
        index: int32 [I], source frame index in presentation order.
        time: float64 [I], presentation time in seconds, from the file.
        width, height: upright size of the source in pixels, rotation applied.
        rotation: degrees counter-clockwise that were applied: 0, 90, 180 or 270.
    """

    video_id: str
    path: str
    content_hash: str
    index: np.ndarray
    time: np.ndarray
    width: int
    height: int
    rotation: int

    @property
    def window(self) -> Window | None:
        """[start, end) in milliseconds, read from the video id; None for a whole file."""
        match = re.search(r"#(-?\d+)-(-?\d+)$", self.video_id)
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, eq=False)
class Clip:
    """A frame table with what one decode gave.

    Attributes:
        table: the frame table, I frames.
        frames: uint8 [I, S, S, 3], RGB at the store's size S; the aspect is not kept.
        motion: int64 [I-1], motion curve (`vjax.video.motion.change`).
        group: source clip; the unit of splitting and of bootstrap clusters.
    """

    table: FrameTable
    frames: np.ndarray
    motion: np.ndarray
    group: str


def content_hash(*paths: str | Path) -> str:
    """BLAKE2b-128 of the files' bytes, one after another, as 32 hex digits.

    Raises:
        Unreadable: a file that the system does not give.
        NotAVideo: a pipe, device or folder.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in map(Path, paths):
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise errors.NotAVideo(f"{path}: no file; remove it")
        with errors.reading(path), open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
                beat()
    return digest.hexdigest()


def video_id(path: str | Path, root: str | Path | None = None, window: Window | None = None) -> str:
    """POSIX path of `path` below `root` (its name alone without one), plus `#start_ms-end_ms`.

    Raises:
        ValueError: `path` is not below `root`.
    """
    # abspath, not resolve: corpora are often folders of links.
    full = Path(os.path.abspath(path))
    name = full.relative_to(os.path.abspath(root)).as_posix() if root else full.name
    return f"{name}#{window[0]}-{window[1]}" if window else name


def milliseconds(time: np.ndarray | float) -> np.ndarray:
    """Seconds to whole milliseconds, rounded down; int64 of the same shape.

    The half microsecond keeps a time such as 0.57 s, which no float64 holds exactly, at 570 ms.
    """
    return np.floor(np.asarray(time, np.float64) * 1000 + 5e-4).astype(np.int64)


def on_screen(time: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of the frames shown at given times: the last that began by then, to a microsecond.

    Args:
        time: float64 [I], presentation times in seconds, ascending (`FrameTable.time`).
        wanted: float64 [n], seconds; before the first frame the row is -1.

    Returns:
        int64 [n].
    """
    return np.searchsorted(time, wanted + 1e-6, side="right") - 1
