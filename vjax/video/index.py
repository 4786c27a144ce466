"""The index of a corpus: what `probe` finds in every file, kept as Parquet and brought up to date.

Files whose size and time of change are as they were are not opened again, unless what kept them
from being read may have passed. Work in progress is kept in parts beside the file, so a stopped
pass goes on where it was; a second process waits for the first.
"""

import dataclasses
import functools
import shutil
import stat
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vjax.video import errors
from vjax.video.decode import motion_of, with_times
from vjax.video.files import alone, written_whole
from vjax.video.frames import video_id
from vjax.video.images import is_list, read_list
from vjax.video.probe import Source, probe, written
from vjax.video.supervise import DEADLINE_S, Children

VERSION = b"2"  # of the columns and of what probing makes of a file
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
        ("images", pa.large_list(pa.string())),
        *((name, pa.large_list(kind)) for name, kind in _LISTS.items()),
    ],
    metadata={"vjax.index": VERSION},
)
_FACTS = [f.name for f in SCHEMA if f.name not in _LISTS]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A usable file of an index: its `Source`, and its motion curve (int64 [I-1], or None)."""

    source: Source
    motion: np.ndarray | None


class _Mapped:
    """A column of lists: `column[n]` is an array, None where there is none."""

    def __init__(self, column: pa.ChunkedArray):
        self._parts = [
            (part, part.values.to_numpy(), part.offsets.to_numpy()) for part in column.chunks
        ]
        self._ends = np.cumsum([0, *map(len, column.chunks)])

    def __getitem__(self, n: int) -> np.ndarray | None:
        part = int(np.searchsorted(self._ends, n, "right")) - 1
        column, values, offsets = self._parts[part]
        n -= int(self._ends[part])
        return values[offsets[n] : offsets[n + 1]] if column[n].is_valid else None


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
        facts = self.facts.to_pylist()
        return [self._row(n, row) for n, row in enumerate(facts) if row["error"] is None]

    def find(self, path: str) -> Row:
        """One file, its lists mapped from disk: memory does not grow with the corpus.

        Args:
            path: as `paths` has it.

        Raises:
            KeyError: a file that is not in the index.
            VideoError: a bad file; what was wrong with it.
        """
        if path not in self._number:
            raise KeyError(f"{self.file}: no row for {path}; --job=index brings it up to date")
        n = self._number[path]
        facts = zip(self.facts.column_names, self.facts.columns, strict=True)
        row = {name: column[n].as_py() for name, column in facts}
        if row["error"] is not None:
            raise getattr(errors, row["error"])(row["reason"])
        return self._row(n, row)

    def _row(self, n: int, row: dict) -> Row:
        lists = {name: column[n] for name, column in self._lists.items()}
        fields = {f.name: row[f.name] for f in dataclasses.fields(Source) if f.name in row}
        source = Source(
            **fields
            | {name: lists[name] for name in ("pts", "keys", "packet_bytes")}
            | dict(
                path=self.root / row["path"],
                video_id=row["path"],
                time_base=Fraction(row["time_base_num"], row["time_base_den"]),
                images=tuple(row["images"]),
            )
        )
        return Row(source, lists["motion"])

    @functools.cached_property
    def _number(self) -> dict[str, int]:
        return {path: n for n, path in enumerate(self.paths)}

    @functools.cached_property
    def _lists(self) -> dict[str, "_Mapped"]:
        """The lists as an Arrow file beside the Parquet one, written anew when that has changed."""
        lists = self.file.with_name(self.file.name + ".lists")
        with alone(self.file):
            if not lists.exists() or lists.stat().st_mtime_ns < self.file.stat().st_mtime_ns:
                table = _read(self.file, list(_LISTS)).combine_chunks()
                with (
                    written_whole(lists) as partial,
                    pa.ipc.new_file(partial, table.schema) as file,
                ):
                    file.write_table(table)
        table = pa.ipc.open_file(pa.memory_map(str(lists))).read_all()
        return {name: _Mapped(table[name]) for name in _LISTS}

    def __reduce__(self):
        return Index, (self.file, self.root)

    def split(self, size: int, folder: Path) -> list["Index"]:
        """Writes indexes of `size` rows each, the last of fewer, to FOLDER/00000.parquet and on."""
        table = _read(self.file)
        files = [folder / f"{n:05}.parquet" for n in range(-(-len(table) // size))]
        for n, file in enumerate(files):
            _write(file, table.slice(n * size, size))
        return [Index(file, self.root) for file in files]


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
        ValueError: a path outside of `root`, one path twice, or a file that is no index. (One of an
            older version is made again.)
    """
    root, file = Path(root), Path(file)
    named = {video_id(path, root): Path(path) for path in paths}
    if len(named) < len(paths):
        raise ValueError(f"{len(paths) - len(named)} files are listed twice below {root}")
    with alone(file):
        stats = {name: _stat(path) for name, path in named.items()}
        parts = parts_of(file)
        if file.exists() and _version(file) not in (None, VERSION):  # older: made again
            file.unlink()
            shutil.rmtree(parts, ignore_errors=True)
        known = _known(file, parts, motion)
        todo = [name for name in named if known.get(written(name)) != stats[name]]
        fresh, number = [], len(list(parts.glob("*.parquet")))
        done = len(named) - len(todo)
        calls = [(named[name], root, motion) for name in todo]
        try:
            with Children(min(workers, len(todo)), deadline=deadline, beats=True) as children:
                for n, found in children.map(read_row, calls):
                    name = todo[n]
                    if isinstance(found, errors.VideoError):
                        found = {"error": type(found).__name__, "reason": written(str(found))}
                    size, changed = stats[name]
                    row = {"path": written(name), "bytes": size, "mtime_ns": changed}
                    fresh.append(row | found)
                    done += 1
                    if progress:
                        progress(done, len(named), str(named[name]))
                    if len(fresh) == PART:
                        _write(parts / f"{number:06}.parquet", _table(fresh))
                        fresh, number = [], number + 1
        except BaseException:  # an interrupt too: what was read stays read
            if fresh:
                _write(parts / f"{number:06}.parquet", _table(fresh))
            raise
        wanted = {written(name) for name in named}
        if fresh or parts.exists() or known.keys() != wanted or not file.exists():
            _join(file, parts, fresh, wanted)
    return Index(file, root)


def parts_of(file: Path) -> Path:
    """Where work in progress on an index lies."""
    return file.with_name(file.name + ".parts")


def _known(file: Path, parts: Path, motion: bool) -> dict[str, tuple[int, int]]:
    """Size and time of change of the files that need not be read again, by path."""
    known = {}
    columns = ["path", "bytes", "mtime_ns", "error"]
    for kept in ([file] if file.exists() else []) + sorted(parts.glob("*.parquet")):
        table = _read(kept, [*columns, "motion"] if motion else columns)
        curves = table["motion"].is_valid().to_pylist() if motion else [True] * len(table)
        lists = (table[name].to_pylist() for name in columns)
        for name, size, changed, error, curve in zip(*lists, curves, strict=True):
            settled = curve if error is None else error not in errors.TRANSIENT
            known[name] = (size, changed) if settled else None
    return known


def read_row(path: Path, root: Path, motion: bool) -> dict:
    """The columns of one file but those that `stat` gives (runs in a child)."""
    source = with_times(probe(path, root))
    curve = motion_of(source).tolist() if motion else None
    return dict(
        content_hash=source.content_hash,
        container=source.container,
        codec=source.codec,
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        frames=len(source.pts),
        duration=source.duration,
        fps=len(source.pts) / source.duration if source.duration > 0 else 0.0,
        time_base_num=source.time_base.numerator,
        time_base_den=source.time_base.denominator,
        counted=source.counted,
        images=list(source.images),
        pts=source.pts.tolist(),
        keys=source.keys.tolist(),
        packet_bytes=source.packet_bytes.tolist(),
        motion=curve,
    )


def _stat(path: Path) -> tuple[int, int]:
    """Size and time of change; of a list of images, those of all its files together."""
    try:
        found = [path.stat()]
        if is_list(path) and stat.S_ISREG(found[0].st_mode):
            names, _ = read_list(path)
            found += [(path.parent / name).stat() for name in names]
    except (OSError, errors.VideoError):
        return -1, -1  # reading it says what is wrong
    # the first alone is the file's size, which readers compare
    return found[0].st_size, max(one.st_mtime_ns for one in found) + sum(
        one.st_size for one in found[1:]
    )


def _join(file: Path, parts: Path, fresh: list[dict], wanted: set[str]):
    """Merges the index, its parts and the last rows; later ones replace earlier ones."""
    older = _read(file) if file.exists() else _table([])
    merged = pa.concat_tables([older, *map(_read, sorted(parts.glob("*.parquet"))), _table(fresh)])
    last = {name: n for n, name in enumerate(merged["path"].to_pylist()) if name in wanted}
    if last.keys() != wanted:
        raise RuntimeError(f"{file}: rows of {sorted(wanted - last.keys())[:3]} were lost")
    _write(file, merged.take(pa.array([last[name] for name in sorted(last)], pa.int64())))
    shutil.rmtree(parts, ignore_errors=True)


def _table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def _version(file: Path) -> bytes | None:
    """None of a file that is no index; reading it says what is wrong."""
    try:
        return (pq.read_schema(file).metadata or {}).get(b"vjax.index")
    except (pa.ArrowInvalid, OSError):
        return None


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        table = pq.read_table(file, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: no index ({error}); delete it, it is made again") from error
    if (table.schema.metadata or {}).get(b"vjax.index") != VERSION:
        raise ValueError(f"{file}: an index of another version; delete it, it is made again")
    return table


def _write(file: Path, table: pa.Table):
    with written_whole(file) as partial:
        pq.write_table(table.replace_schema_metadata(SCHEMA.metadata), partial, compression="zstd")
