"""The index of a corpus: what `probe` finds in every file, kept as Parquet and brought up to date.

Files whose size and time of change are as they were are not opened again. Work in progress is kept
in parts beside the file, so a stopped pass goes on where it was.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vjax.video import errors
from vjax.video.decode import motion_of, with_times
from vjax.video.frames import video_id
from vjax.video.images import is_list
from vjax.video.probe import Source, probe
from vjax.video.supervise import DEADLINE_S, Children

VERSION = b"1"  # of the columns and of what probing makes of a file
PART = 1000  # files between two parts

_LISTS = {"pts": pa.int64(), "keys": pa.int64(), "packet_bytes": pa.int32(), "motion": pa.int64()}
SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # below the root, POSIX; also the video id
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("error", pa.string()),  # name of a VideoError, null where the file is usable
        ("reason", pa.string()),
        ("content_hash", pa.string()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int16()),
        ("frames", pa.int32()),
        ("duration", pa.float64()),  # seconds, the last frame's own time on screen included
        ("fps", pa.float64()),  # frames by duration
        ("time_base_num", pa.int64()),
        ("time_base_den", pa.int64()),
        ("counted", pa.bool_()),
        ("images", pa.list_(pa.string())),
        *((name, pa.list_(kind)) for name, kind in _LISTS.items()),
    ],
    metadata={"vjax.index": VERSION},
)
_FACTS = [f.name for f in SCHEMA if f.name not in _LISTS]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A usable file of an index: its `Source`, seconds, and motion curve (int64 [I-1] or None)."""

    source: Source
    duration: float
    motion: np.ndarray | None


class Index:
    """Rows in the order of their paths.

    Args:
        file: Parquet, as `build` wrote it.
        root: the corpus folder that its paths are below.
    """

    def __init__(self, file: str | Path, root: str | Path):
        self.file, self.root = Path(file), Path(root)
        self.facts = _read(self.file, _FACTS)  # without the lists: 100,000 rows in a second

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def paths(self) -> list[str]:
        return self.facts["path"].to_pylist()

    @property
    def bad(self) -> list[tuple[str, str, str]]:
        """(path, error, reason) of every file that cannot be used."""
        rows = self.facts.select(["path", "error", "reason"]).to_pylist()
        return [tuple(row.values()) for row in rows if row["error"] is not None]

    def rows(self) -> list[Row]:
        """Every usable file, lists included."""
        table = _read(self.file)
        table = table.filter(table["error"].is_null())
        lists = {name: _arrays(table[name], kind) for name, kind in _LISTS.items()}
        facts = table.select(_FACTS).to_pylist()
        return [
            _row(row | {name: values[n] for name, values in lists.items()}, self.root)
            for n, row in enumerate(facts)
        ]


def build(
    paths: Sequence[str | Path],
    file: str | Path,
    root: str | Path,
    *,
    motion: bool = False,
    workers: int = 2,
    deadline: float = DEADLINE_S,
    progress: Callable[[int, int, str], None] | None = None,
) -> Index:
    """Bring an index up to date with the files there are; vanished ones leave it.

    Args:
        paths: files below `root`.
        file: Parquet file of the index, made where it is missing.
        root: corpus folder.
        motion: decode every file once for its motion curve. Rows that lack it are made again.
        workers: child processes; 0 reads in this one.
        deadline: seconds without a sign of life after which a file is given up as bad.
        progress: called with (files known, files in all, path) after every file that is read.

    Raises:
        ValueError: a path outside of `root`, one path twice, or a file of another version.
    """
    root, file = Path(root), Path(file)
    named = {video_id(path, root): Path(path) for path in paths}
    if len(named) < len(paths):
        raise ValueError(f"{len(paths) - len(named)} files are listed twice below {root}")
    stats = {name: _stat(path) for name, path in named.items()}
    parts = file.with_name(file.name + ".parts")
    known: dict[str, tuple] = {}
    for kept in ([file] if file.exists() else []) + sorted(parts.glob("*.parquet")):
        columns = ["path", "bytes", "mtime_ns", "error", "duration"]
        table = _read(kept, [*columns, "motion"] if motion else columns)
        curves = table["motion"].is_valid().to_pylist() if motion else [True] * len(table)
        for *row, curve in zip(*(table[name].to_pylist() for name in columns), curves, strict=True):
            known[row[0]] = (*row[1:3], curve or row[3] is not None)
    todo = [name for name in named if known.get(name) != (*stats[name], True)]
    fresh, number, done = [], len(list(parts.glob("*.parquet"))), len(named) - len(todo)
    calls = [(named[name], root, motion) for name in todo]
    with Children(min(workers, len(todo)), deadline=deadline, beats=True) as children:
        for n, found in children.map(read_row, calls):
            name = todo[n]
            if isinstance(found, errors.VideoError):
                found = {"error": type(found).__name__, "reason": str(found)}
            size, changed = stats[name]
            fresh.append({"path": name, "bytes": size, "mtime_ns": changed, **found})
            done += 1
            if progress:
                progress(done, len(named), str(named[name]))
            if len(fresh) == PART:
                _write(parts / f"{number:06}.parquet", _table(fresh))
                fresh, number = [], number + 1
    _join(file, parts, fresh, set(named))
    return Index(file, root)


def read_row(path: Path, root: Path, motion: bool) -> dict:
    """The columns of one file but those that `stat` gives (runs in a child)."""
    source = with_times(probe(path, root))
    curve = motion_of(source).tolist() if motion else None
    times = source.times
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    duration = float(times[-1] - times[0]) + gap
    return dict(
        content_hash=source.content_hash,
        container=source.container,
        codec=source.codec,
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        frames=len(times),
        duration=duration,
        fps=len(times) / duration if duration > 0 else 0.0,
        time_base_num=source.time_base.numerator,
        time_base_den=source.time_base.denominator,
        counted=source.counted,
        images=list(source.images),
        pts=source.pts.tolist(),
        keys=source.keys.tolist(),
        packet_bytes=source.packet_bytes.tolist(),
        motion=curve,
    )


def _arrays(column: pa.ChunkedArray, kind: pa.DataType) -> list[np.ndarray | None]:
    """One array a row, None where it is null: views of one buffer, not lists of Python numbers."""
    column = column.combine_chunks()
    values = column.values.to_numpy().astype(kind.to_pandas_dtype(), copy=False)
    ends, valid = column.offsets.to_numpy(), column.is_valid().to_pylist()
    return [
        values[start:end] if there else None
        for start, end, there in zip(ends[:-1], ends[1:], valid, strict=True)
    ]


def _row(row: dict, root: Path) -> Row:
    fields = {f.name: row[f.name] for f in dataclasses.fields(Source) if f.name in row}
    source = Source(
        **fields
        | dict(
            path=root / row["path"],
            video_id=row["path"],
            time_base=Fraction(row["time_base_num"], row["time_base_den"]),
            images=tuple(row["images"]),
        )
    )
    return Row(source, row["duration"], row["motion"])


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1  # gone since it was listed: reading it says so
    if is_list(path):  # an image that came or went changes its folder
        return found.st_size, max(found.st_mtime_ns, path.parent.stat().st_mtime_ns)
    return found.st_size, found.st_mtime_ns


def _join(file: Path, parts: Path, fresh: list[dict], wanted: set[str]):
    """Merges the index, its parts and the last rows; later ones replace earlier ones."""
    older = _read(file) if file.exists() else _table([])
    tables = [older, *map(_read, sorted(parts.glob("*.parquet"))), _table(fresh)]
    if len(tables) > 2 or fresh or set(older["path"].to_pylist()) != wanted or not file.exists():
        merged = pa.concat_tables(tables)
        last = {name: n for n, name in enumerate(merged["path"].to_pylist()) if name in wanted}
        _write(file, merged.take([last[name] for name in sorted(last)]))
    shutil.rmtree(parts, ignore_errors=True)


def _table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        table = pq.read_table(file, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: no index ({error}); delete it, it is made again") from error
    if (table.schema.metadata or {}).get(b"vjax.index") != VERSION:
        raise ValueError(f"{file}: an index of another version; delete it, it is made again")
    return table


def _write(file: Path, table: pa.Table):
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table.replace_schema_metadata(SCHEMA.metadata), partial, compression="zstd")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
