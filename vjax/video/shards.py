"""Frames of a corpus as JPEG in shards: the format, and reading it by random access.

A store is a folder:

  settings.json                 what is kept of a clip, and how
  shards/00000.array_record     one record for each clip that could be read
  parts/00000.parquet           what the shard holds, written after it
  manifest.parquet              all parts, written last: it says that the store is whole

A record is an Arrow IPC stream of one row, `RECORD`. `vjax.video.shard_writer` writes all this.
"""

import dataclasses
import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from vjax.video import errors
from vjax.video.frames import FrameTable, content_hash
from vjax.video.shape import RESIZES, Shaper, Size
from vjax.video.strategies import Sampling

OPEN = 256  # shards a store keeps open at most
VERSION = 1  # of the format; a higher one leaves older stores unread

_CLIP = [
    ("video_id", pa.string()),
    ("content_hash", pa.string()),  # null where the file could not be opened
    ("rows", pa.large_list(pa.int32())),  # of the source, in presentation order, ascending
    ("times", pa.large_list(pa.float64())),  # of those frames, seconds
    ("width", pa.int32()),  # of the source, upright
    ("height", pa.int32()),
    ("rotation", pa.int16()),
    ("stored_width", pa.int32()),
    ("stored_height", pa.int32()),
    ("motion", pa.large_list(pa.int64())),  # of the whole source, [I-1]; null where not wanted
]
RECORD = pa.schema(
    [*_CLIP, ("resize", pa.string()), ("quality", pa.int16()), ("jpegs", pa.list_(pa.binary()))]
)
MANIFEST = pa.schema(
    [
        *_CLIP,
        ("shard", pa.int32()),
        ("record", pa.int32()),  # its number in the shard; null of a clip that could not be read
        ("bytes", pa.int64()),  # of the record
        ("error", pa.string()),  # name of a VideoError
        ("reason", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a store keeps of a clip.

    Attributes:
        rule: which frames; each is kept once.
        side: pixels of the short side of stored frames, or of all four with `square`. Smaller
            pictures are enlarged for squares alone.
        square: squares, aspect not kept.
        resize: as in `shape.Shaper`.
        quality: of JPEG, as Pillow counts it.
        motion: whether each clip's motion curve is kept.
    """

    rule: Sampling
    side: int = 224
    square: bool = False
    resize: str = "reference"
    quality: int = 90
    motion: bool = False

    def __post_init__(self):
        if self.resize not in RESIZES:
            raise ValueError(f"resize {self.resize!r} is unknown; use one of {', '.join(RESIZES)}")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of the stored frames of a clip of that upright size."""
        short = min(height, width)
        if self.square:
            return self.side, self.side
        if short <= self.side:
            return height, width
        return round(height * self.side / short), round(width * self.side / short)

    def to_json(self) -> str:
        return json.dumps({"version": VERSION} | dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, file: Path) -> "Settings":
        """Back from `to_json`.

        Raises:
            ValueError: no settings, or those of another version of the format.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("version")
            if version == VERSION:
                return cls(Sampling(**fields.pop("rule")), **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: no settings of a frame store ({error})") from error
        raise ValueError(
            f"{file}: a frame store of version {version}, this is {VERSION}; "
            "write it again, in another folder"
        )

    def differences(self, other: "Settings") -> list[str]:
        """A line for each field that `other` has otherwise: `side: 224 -> 336`."""
        one, two = (dataclasses.asdict(s) for s in (self, other))
        one, two = (s | s.pop("rule") for s in (one, two))
        return [f"{key}: {one[key]!r} -> {two[key]!r}" for key in one if one[key] != two[key]]


def encode(clip: dict, frames: np.ndarray, settings: Settings) -> bytes:
    """The record of a clip: of its columns, all but the last three of `RECORD`.

    Args:
        clip: values by column; I rows and times.
        frames: uint8 [I, h, w, 3].
        settings: of the store.
    """
    jpegs = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=settings.quality)
        jpegs.append(file.getvalue())
    row = clip | {"resize": settings.resize, "quality": settings.quality, "jpegs": jpegs}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, RECORD) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist([row], RECORD))
    return sink.getvalue().to_pybytes()


def decode(record: bytes) -> pa.RecordBatch:
    """One row of `RECORD`; its JPEGs are left as they are."""
    return pa.ipc.open_stream(record).read_next_batch()


def shard_file(directory: Path, number: int) -> Path:
    return directory / "shards" / f"{number:05}.array_record"


def manifest_file(directory: Path) -> Path:
    return directory / "manifest.parquet"


class FrameStore:
    """The stored frames of a corpus' clips. Any thread may read, and so may a pickled copy.

    Clips are named by their video id, frames of a clip by their position among its stored ones.

    Args:
        directory: as `--job=store` wrote it.

    Raises:
        ValueError: no store, one that was not finished, or one of another version.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        file = manifest_file(self.directory)
        if not file.exists():
            raise ValueError(
                f"{self.directory}: no finished frame store ({file.name} is missing); "
                "--job=store writes it, or what of it is missing"
            )
        try:
            metadata = pq.read_schema(file).metadata or {}
            self.settings = Settings.from_json(metadata.get(b"vjax.store", b""), file)
            columns = [name for name in MANIFEST.names if name != "motion"]  # it can be long
            self._table = pq.read_table(file, columns=columns).combine_chunks()
        except pa.ArrowException as error:
            raise ValueError(f"{file}: no manifest of a frame store ({error})") from error
        self._row = {name: n for n, name in enumerate(self._table["video_id"].to_pylist())}
        usable = self._table.filter(self._table["error"].is_null())
        self.video_ids: tuple[str, ...] = tuple(usable["video_id"].to_pylist())
        self._motion: pa.ChunkedArray | None = None
        self._shards: dict[int, ArrayRecordReader] = {}
        self._lock = threading.Lock()

    def __reduce__(self):
        return FrameStore, (self.directory,)

    def __len__(self) -> int:
        """Clips that can be read."""
        return len(self.video_ids)

    @property
    def bad(self) -> list[tuple[str, str, str]]:
        """(video id, error, reason) of every clip of the corpus that could not be stored."""
        rows = self._table.select(["video_id", "error", "reason"])
        rows = rows.filter(rows["error"].is_valid()).to_pylist()
        return [tuple(row.values()) for row in rows]

    @property
    def fingerprint(self) -> str:
        """32 hex digits (BLAKE2b) of which frames it holds."""
        return content_hash(manifest_file(self.directory))

    def table(self, video_id: str) -> FrameTable:
        """The stored frames of a clip, I of them; its path is that of the shard.

        Raises:
            KeyError: a video id that the store has not.
            VideoError: a clip that could not be stored, with the reason.
        """
        n = self._number(video_id)
        return FrameTable(
            video_id,
            str(shard_file(self.directory, self._fact("shard", n))),
            self._fact("content_hash", n),
            _array(self._table["rows"][n]),
            _array(self._table["times"][n]),
            *(self._fact(name, n) for name in ("width", "height", "rotation")),
        )

    def times(self, video_id: str) -> np.ndarray:
        """float64 [I], presentation times in seconds. Raises as `table`."""
        return _array(self._table["times"][self._number(video_id)])

    def stored_size(self, video_id: str) -> tuple[int, int]:
        """(height, width) of the stored frames in pixels. Raises as `table`."""
        n = self._number(video_id)
        return self._fact("stored_height", n), self._fact("stored_width", n)

    def motion(self, video_id: str) -> np.ndarray | None:
        """int64, motion curve of the whole source; None without. Raises as `table`."""
        n = self._number(video_id)
        with self._lock:
            if self._motion is None:
                table = pq.read_table(manifest_file(self.directory), columns=["motion"])
                self._motion = table["motion"]
        return _array(self._motion[n]) if self._motion[n].is_valid else None

    def read(self, video_id: str, positions: Sequence[int], size: Size = None) -> np.ndarray:
        """Frames of a clip; no others are decoded.

        Args:
            video_id: of the clip.
            positions: int [n] in 0..I-1, in any order; one may come twice.
            size: as in `shape.Shaper`, by whose rule they are scaled from their stored size. Where
                that is four times what is asked for or more, they are decoded at a half, a quarter
                or an eighth of it, which JPEG can (at least twice what is asked for). None: as
                stored.

        Returns:
            uint8 [n, height, width, 3], RGB, upright.

        Raises:
            KeyError, VideoError: as `table`.
            IndexError: a position that the clip has not.
            DamagedRecord: what is there is not what was written.
        """
        n = self._number(video_id)
        positions = np.asarray(positions, np.int64)
        count = len(self._table["rows"][n])
        if len(positions) and not 0 <= positions.min() <= positions.max() < count:
            raise IndexError(
                f"{video_id}: positions {positions.tolist()} asked of {count} stored frames"
            )
        shape = (size, size) if isinstance(size, int) else size
        frames = np.empty((len(positions), *(shape or self.stored_size(video_id)), 3), np.uint8)
        shard, record = self._fact("shard", n), self._fact("record", n)
        try:
            row = decode(self._shard(shard).read([record])[0])
            found = (row["video_id"][0].as_py(), row["content_hash"][0].as_py())
            if found != (video_id, self._fact("content_hash", n)):
                raise ValueError(f"it holds {found[0]}, content {found[1]}")
            jpegs, seen = row["jpegs"][0].values, {}
            for k, position in enumerate(positions.tolist()):
                if position in seen:
                    frames[k] = frames[seen[position]]
                else:
                    frames[k] = _picture(jpegs[position].as_buffer(), shape, self.settings.resize)
                    seen[position] = k
        except MemoryError:
            raise
        except Exception as error:  # whatever the damage makes Riegeli, Arrow and Pillow raise
            raise errors.DamagedRecord(
                f"{shard_file(self.directory, shard)}, record {record} ({video_id}): {error}; "
                "if the file is damaged delete it, --job=store writes it again"
            ) from error
        return frames

    def _number(self, video_id: str) -> int:
        n = self._row.get(video_id)
        if n is None:
            raise KeyError(
                f"{self.directory}: no clip {video_id!r} among {len(self._row)}; "
                "--job=store brings it up to date with its corpus"
            )
        if error := self._fact("error", n):
            raise getattr(errors, error, errors.VideoError)(self._fact("reason", n))
        return n

    def _fact(self, column: str, n: int):
        return self._table[column][n].as_py()

    def _shard(self, number: int) -> ArrayRecordReader:
        with self._lock:
            shard = self._shards.pop(number, None) or ArrayRecordReader(
                str(shard_file(self.directory, number)),
                "readahead_buffer_size:0,max_parallelism:0",
            )
            self._shards[number] = shard  # the last used stands last
            if len(self._shards) > OPEN:
                del self._shards[next(iter(self._shards))]
            return shard


def _array(values: pa.LargeListScalar) -> np.ndarray:
    return values.values.to_numpy()


def _picture(jpeg: pa.Buffer, size: tuple[int, int] | None, resize: str) -> np.ndarray:
    image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    if size is None:
        return np.asarray(image)
    height, width = size
    image.draft("RGB", (2 * width, 2 * height))
    if image.size == (width, height):
        return np.asarray(image)
    if resize == "reference":
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
    return Shaper(size, resize).rgb(frame)
