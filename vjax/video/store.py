"""The frame store: every file decoded once, its clips kept on disk and mapped into memory.

A clip is two files named by its key: `KEY.npy` (frames) and `KEY.json` (everything else, so that
planning needs no pixels). What a source file gave is listed in `sources/`. Files are written under
another name and renamed, so a reader never sees half a file.
"""

import hashlib
import json
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vjax.video.decode import MIN_FRAMES, STORE_SIZE, decode_cut
from vjax.video.errors import VideoError
from vjax.video.files import written_whole
from vjax.video.frames import Clip, FrameTable, video_id
from vjax.video.probe import hash_of, written
from vjax.video.supervise import DEADLINE_S, Children

VERSION = 3  # of what decoding makes of a file; a higher one leaves older stores unread


@dataclass(frozen=True, eq=False)
class Entry:
    """A clip without its pixels: `key` in the store, the rest as in `frames.Clip`."""

    key: str
    table: FrameTable
    motion: np.ndarray
    group: str


class Drop(NamedTuple):
    """A file left out: its path, the name of the error and what it said."""

    path: str
    error: str
    reason: str


class Built(NamedTuple):
    """Keys of all clips, in the order of the files and of time; and the files left out."""

    keys: list[str]
    dropped: list[Drop]


class ClipStore:
    """Clips on disk.

    Args:
        directory: made when the first clip is put.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    def put(self, clip: Clip, *, resize: str = "swscale", signal: str = "luma") -> str:
        """Write a clip; returns its key, a hash of all that its content depends on."""
        table = clip.table
        size = clip.frames.shape[1]
        key = _digest(table.content_hash, table.video_id, size, resize, signal)
        fields = dict(
            video_id=table.video_id,
            path=table.path,
            content_hash=table.content_hash,
            index=table.index.tolist(),
            time=table.time.tolist(),
            width=table.width,
            height=table.height,
            rotation=table.rotation,
            motion=clip.motion.tolist(),
            group=clip.group,
        )
        with written_whole(self._file(key, ".npy")) as partial, open(partial, "wb") as file:
            np.save(file, clip.frames)  # to a file: given a path it would add a suffix
        _write_json(self._file(key, ".json"), fields)  # last: it says that the pixels are there
        return key

    def entry(self, key: str) -> Entry:
        """What is known of a clip, pixels apart.

        Raises:
            KeyError: no such clip.
        """
        try:
            fields = json.loads(self._file(key, ".json").read_text())
        except FileNotFoundError:
            raise KeyError(f"{self.directory}: no clip {key}; build the store again") from None
        motion = np.array(fields.pop("motion"), np.int64)
        group = fields.pop("group")
        fields["index"] = np.array(fields["index"], np.int32)
        fields["time"] = np.array(fields["time"], np.float64)
        return Entry(key, FrameTable(**fields), motion, group)

    def get(self, key: str) -> Clip:
        """The clip; its frames are mapped read-only and read where they are touched.

        Every clip held keeps a file open: take the frames you need and let it go.

        Raises:
            KeyError: no such clip.
        """
        entry = self.entry(key)
        frames = np.load(self._file(key, ".npy"), mmap_mode="r")
        return Clip(entry.table, frames, entry.motion, entry.group)

    def build(
        self,
        paths: Sequence[str | Path],
        *,
        root: str | Path | None = None,
        workers: int = 2,
        deadline: float = DEADLINE_S,
        on_bad: str = "error",
        progress: Callable[[int, int, str], None] | None = None,
        seed: int = 0,
        whole_s: float = 6.0,
        min_s: float = 2.0,
        max_s: float = 4.0,
        store_size: int = STORE_SIZE,
        resize: str = "swscale",
        signal: str = "luma",
        min_frames: int = MIN_FRAMES,
    ) -> Built:
        """Decode files that are not in the store yet, cut long ones into windows, and list all.

        Args:
            paths: video files; their order is that of the result.
            root: corpus folder that video ids are relative to.
            workers: child processes that decode; 0 decodes in this one. They import no jax.
            deadline: seconds without a frame after which a child is ended and its file is bad.
            on_bad: `error` raises at the first unusable file, `skip` lists it in `dropped`.
            progress: called with (files done, files in all, path) after every file.
            seed, whole_s, min_s, max_s, store_size, resize, signal, min_frames: as in
                `decode.decode_cut`.

        Raises:
            VideoError: an unusable file, with `on_bad="error"`.
            ValueError: two files of one video id.
        """
        if on_bad not in ("error", "skip"):
            raise ValueError(f"on_bad {on_bad!r} is unknown; use error or skip")
        paths = [Path(path) for path in paths]
        owners: dict[str, Path] = {}
        for path in paths:
            name = video_id(path, root)
            if name in owners:
                raise ValueError(
                    f"{owners[name]} and {path} share the video id {name!r}; "
                    "list each file once and name a root above all of them"
                )
            owners[name] = path
        options = dict(
            seed=seed,
            whole_s=whole_s,
            min_s=min_s,
            max_s=max_s,
            store_size=store_size,
            resize=resize,
            signal=signal,
            min_frames=min_frames,
        )
        keys: dict[Path, list[str]] = {}
        drops: dict[Path, Drop] = {}
        todo = [path for path in paths if not self._known(path, root, options, keys)]
        done = len(paths) - len(todo)
        calls = [(path, self.directory, root, options) for path in todo]
        with Children(min(workers, len(todo)), deadline=deadline, beats=True) as children:
            for n, result in children.map(decode_into, calls):
                path, done = todo[n], done + 1
                if isinstance(result, VideoError):
                    if on_bad == "error":
                        result.add_note("on_bad 'skip' lists such files and goes on without them")
                        raise result
                    drops[path] = Drop(written(str(path)), type(result).__name__, str(result))
                else:
                    keys[path] = result
                if progress:
                    progress(done, len(paths), str(path))
        return Built(
            [key for path in paths for key in keys.get(path, [])],
            [drops[path] for path in paths if path in drops],
        )

    def _known(self, path: Path, root, options: dict, keys: dict[Path, list[str]]) -> bool:
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return False  # reading it, in a child, says what it is
            keys[path] = json.loads(self._source(path, root, options).read_text())
        except (OSError, VideoError):
            return False
        return True

    def _source(self, path: Path, root, options: dict) -> Path:
        name = _digest(hash_of(path), video_id(path, root), *sorted(options.items()))
        return self.directory / "sources" / f"{name}.json"

    def _file(self, key: str, suffix: str) -> Path:
        return self.directory / key[:2] / f"{key}{suffix}"


def decode_into(path: Path, directory: Path, root: Path | None, options: dict) -> list[str]:
    """Decode one file into the store at `directory`; the keys of its clips (runs in a child)."""
    store = ClipStore(directory)
    made = dict(resize=options["resize"], signal=options["signal"])
    keys = [store.put(clip, **made) for clip in decode_cut(path, root=root, **options)]
    _write_json(store._source(path, root, options), keys)
    return keys


def _digest(*parts) -> str:
    return hashlib.blake2b(json.dumps([VERSION, *parts]).encode(), digest_size=16).hexdigest()


def _write_json(path: Path, value) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(value))
