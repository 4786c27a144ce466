"""The videos and images that samples show: which frames there are, and their pixels."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vjax.data.samples import Medium
from vjax.video.errors import DamagedRecord, TooFewFrames
from vjax.video.frames import video_id
from vjax.video.index import Index
from vjax.video.probe import Source
from vjax.video.reader import Reader
from vjax.video.shards import FrameStore


class Frames(NamedTuple):
    """The frames of a medium, of a cut one those inside.

    Attributes:
        source: the file, or the video id of a clip in a frame store.
        first: its row of the first of them.
        times: float64 [T], presentation times in seconds.
        motion: int64 [T-1], motion curve; None where the index has none.
    """

    source: Source | str
    first: int
    times: np.ndarray
    motion: np.ndarray | None


class Footage:
    """Frames by an index made beforehand, decoded by supervised children.

    Args:
        index: of every file that samples name, its root above them all.
        open_reader: makes the `Reader`, in every process that reads.
        size: side in pixels of the squares that frames are brought to.
        resize: `swscale` or `reference`, see `vjax.video.shape`.
    """

    def __init__(self, index: Index, open_reader: Callable[[], Reader], *, size: int, resize: str):
        self.index, self.open_reader, self.size, self.resize = index, open_reader, size, resize
        self._begin()

    def _begin(self):
        self._root = os.path.join(os.path.abspath(self.index.root), "")
        self._reader: Reader | None = None
        self._lock = threading.Lock()

    @property
    def reader(self) -> Reader:
        """This process' own."""
        with self._lock:
            self._reader = self._reader or self.open_reader()
            return self._reader

    @property
    def facts(self) -> list:
        """What choices of frames depend on, as JSON: another corpus has others."""
        names = ("path", "content_hash", "frames", "duration")
        return [self.index.facts[name].to_pylist() for name in names]

    def frames(self, medium: Medium) -> Frames:
        """What there is to choose from.

        Raises:
            KeyError: a file that is not in the index.
            VideoError: a bad file, or a cut that holds no frame.
        """
        path = os.path.abspath(medium.path)
        row = self.index.find(path.removeprefix(self._root))
        return _inside(medium, row.source, row.source.times, row.motion)

    def read(self, frames: Frames, rows: Sequence[int]) -> np.ndarray | None:
        """uint8 [n, size, size, 3] of the given rows of `frames`; None for a hole in the batch.

        Raises:
            VideoError: as the reader's policy says.
        """
        rows = frames.first + np.asarray(rows, np.int64)
        return self.reader.read(frames.source, rows, size=self.size, resize=self.resize)

    @property
    def spent(self) -> tuple[int, float, float, float]:
        """This thread's reads, and their seconds: see `Children.spent`."""
        return self.reader.spent

    def close(self):
        """Ends the children, where this process started any."""
        if self._reader is not None:
            self._reader.close()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()


class StoredFootage(Footage):
    """Frames of videos from a frame store, of everything else as `Footage` has them.

    Rules choose among the stored frames, whose motion is the sum of that between them.

    Args:
        store: of the videos below `root`.
    """

    def __init__(self, store: FrameStore, root: str | Path, *args, **options):
        super().__init__(*args, **options)
        self.store, self.root = store, root

    def _begin(self):
        super()._begin()
        self._reads = threading.local()

    @property
    def facts(self) -> list:
        return [*super().facts, self.store.fingerprint]

    def frames(self, medium: Medium) -> Frames:
        if not is_stored(medium, self.root):
            return super().frames(medium)
        name = video_id(medium.path, self.root)
        table, motion = self.store.table(name), self.store.motion(name)
        if motion is not None:
            motion = np.diff(np.concatenate([[0], np.cumsum(motion)])[table.index])
        return _inside(medium, name, table.time, motion)

    def read(self, frames: Frames, rows: Sequence[int]) -> np.ndarray | None:
        if not isinstance(frames.source, str):
            return super().read(frames, rows)
        self._reads.count = getattr(self._reads, "count", 0) + 1
        positions = frames.first + np.asarray(rows, np.int64)
        try:
            return self.store.read(frames.source, positions, size=self.size)
        except DamagedRecord:
            if self.reader.on_bad == "error":
                raise
            if self.reader.on_bad == "skip":
                return None
            return np.zeros((len(positions), self.size, self.size, 3), np.uint8)

    @property
    def spent(self) -> tuple[int, float, float, float]:
        calls, *seconds = super().spent
        return calls + getattr(self._reads, "count", 0), *seconds


def is_stored(medium: Medium, root: str | Path) -> bool:
    """Whether a frame store of the videos below `root` is asked for a medium."""
    return medium.kind == "video" and Path(os.path.abspath(medium.path)).is_relative_to(
        os.path.abspath(root)
    )


def _inside(medium: Medium, source: Source | str, times: np.ndarray, motion) -> Frames:
    """The frames of a cut."""
    # as on_screen does: a time that seconds cannot hold exactly is inside
    start = -np.inf if medium.start is None else medium.start - 1e-6
    end = np.inf if medium.end is None else medium.end - 1e-6
    first, stop = np.searchsorted(times, [start, end]).tolist()
    if first >= stop:
        raise TooFewFrames(
            f"{medium.path}: no frame from {medium.start} to {medium.end} s; it has "
            f"{len(times)} from {times[0]:g} to {times[-1]:g} s"
        )
    return Frames(
        source, first, times[first:stop], None if motion is None else motion[first : stop - 1]
    )
