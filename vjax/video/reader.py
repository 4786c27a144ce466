"""Frames of a corpus' clips, read by supervised children; what becomes of clips that fail."""

import contextlib
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vjax.video import errors
from vjax.video.probe import Source
from vjax.video.read import read_frames
from vjax.video.shape import Size
from vjax.video.supervise import DEADLINE_S, Children

ON_BAD = ("error", "skip", "blank")


class Reader:
    """Reads frames for any number of threads; at most `workers` clips are being decoded, and of
    `in_flight` bytes.

    A clip that cannot be read is put in quarantine: named in a file with the reason, and not tried
    again by this or a later run (by a later one it is, where only the system failed). It never
    stands for another one.

    Args:
        total: clips of the corpus, which `max_bad_share` is a share of.
        workers: child processes; 0 reads in this one, without a deadline.
        deadline: seconds for one clip.
        on_bad: `error` raises; `skip` gives None, a hole that the caller masks; `blank` gives
            black frames of the shape asked for.
        max_bad_share: more bad clips than this end the run.
        quarantine: JSONL file, one clip a line; None keeps no record.
        in_flight: bytes of frames on their way at a time; other calls wait. A clip of more than
            that goes alone.
    """

    def __init__(
        self,
        total: int,
        *,
        workers: int = 2,
        deadline: float = DEADLINE_S,
        on_bad: str = "error",
        max_bad_share: float = 0.1,
        quarantine: str | Path | None = None,
        in_flight: int = 1 << 30,
    ):
        if on_bad not in ON_BAD:
            raise ValueError(f"on_bad {on_bad!r} is unknown; use one of {', '.join(ON_BAD)}")
        self.total, self.on_bad, self.max_bad_share = total, on_bad, max_bad_share
        self.quarantine = Path(quarantine) if quarantine else None
        self.counts: Counter[str] = Counter()  # "read", and bad answers by the name of their error
        self._children = Children(workers, deadline=deadline)
        self._lock = threading.Lock()
        self._room, self._taken, self.in_flight = threading.Condition(), 0, in_flight
        self._bad: dict[tuple[str, str], errors.VideoError] = {}  # by video id and content
        self._met: set[tuple[str, str]] = set()  # those of them that this run asked for
        if self.quarantine:
            self._bad = read_quarantine(self.quarantine)

    def read(
        self,
        source: Source,
        rows: Sequence[int],
        *,
        size: Size = None,
        resize: str = "reference",
    ) -> np.ndarray | None:
        """Frames as `read.read_frames` gives them, or what `on_bad` says.

        Raises:
            VideoError: with `on_bad="error"`, what is wrong with the clip.
            TooManyBad: more bad clips than `max_bad_share` of all.
        """
        key = (source.video_id, source.content_hash)
        error = self._bad.get(key)
        height, width = (
            (size, size) if isinstance(size, int) else size or (source.height, source.width)
        )
        shape = (len(rows), height, width, 3)
        if error is None:
            try:
                with self._passing(math.prod(shape)):
                    frames = self._children.call(
                        read_frames, source, rows, size=size, resize=resize
                    )
            except errors.VideoError as found:
                error = found
                self._put_away(key, error)
            else:
                with self._lock:
                    self.counts["read"] += 1
                return frames
        with self._lock:
            self.counts[type(error).__name__] += 1
            self._met.add(key)
            bad = len(self._met)
        if self.on_bad != "error" and bad > self.max_bad_share * self.total:
            raise errors.TooManyBad(
                f"{bad} of {self.total} clips cannot be read, more than "
                f"data.max_bad_share={self.max_bad_share:g}; the last: {error}"
            ) from error
        if self.on_bad == "error":
            raise error
        if self.on_bad == "skip":
            return None
        return np.zeros(shape, np.uint8)

    @property
    def spent(self) -> tuple[int, float, float, float]:
        """As `Children.spent`."""
        return self._children.spent

    @property
    def bad(self) -> list[tuple[str, str]]:
        """(video id, reason) of every clip in quarantine that was asked for."""
        return [(key[0], str(self._bad[key])) for key in sorted(self._met)]

    @contextlib.contextmanager
    def _passing(self, count: int) -> Iterator[None]:
        with self._room:
            self._room.wait_for(lambda: not self._taken or self._taken + count <= self.in_flight)
            self._taken += count
        try:
            yield
        finally:
            with self._room:
                self._taken -= count
                self._room.notify_all()

    def why(self, source: Source) -> errors.VideoError | None:
        """What is wrong with a clip; None of one that is not known to be bad."""
        return self._bad.get((source.video_id, source.content_hash))

    def _put_away(self, key: tuple[str, str], error: errors.VideoError):
        with self._lock:
            if key in self._bad:  # another thread met it too
                return
            self._bad[key] = error
            if self.quarantine and not isinstance(error, errors.Unreadable | errors.Changed):
                line = dict(zip(("video_id", "content_hash"), key, strict=True))
                line |= {"error": type(error).__name__, "reason": str(error)}
                self.quarantine.parent.mkdir(parents=True, exist_ok=True)
                with open(self.quarantine, "a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps(line) + "\n")  # a line cut off stays alone

    def close(self):
        self._children.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_quarantine(file: Path) -> dict[tuple[str, str], errors.VideoError]:
    """What is wrong with each clip of a quarantine, by video id and content; {} of no file.

    Raises:
        ValueError: a line that names none.
    """
    found = {}
    if not file.exists():
        return found
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.endswith("}"):  # empty, or cut off while it was written
            continue
        try:
            fields = json.loads(line)
            kind = getattr(errors, fields["error"])
            found[fields["video_id"], fields["content_hash"]] = kind(fields["reason"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file}, line {number}: no clip in quarantine ({error}); delete the line"
            ) from error
    return found
