"""Labelled clips of a public data set: records by number, held as columns.

`something` and `moments` read the folders that people have of those two data sets.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vjax.console import say
from vjax.data.rows import BadFile
from vjax.data.samples import Medium, Sample, Turn

QUESTION = "What happens in this video?"
NAMED = 5  # files that a message names
_CHUNK = 1 << 16
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),
        ("category", pa.dictionary(pa.int32(), pa.string())),
        ("category_index", pa.int16()),
        ("template", pa.dictionary(pa.int32(), pa.string())),
        ("placeholders", pa.list_(pa.string())),
    ]
)


class MissingVideos(FileNotFoundError):
    """Clips that have a label and no file; `files` are all of them, relative to `folder`."""

    def __init__(self, message: str, folder: epath.Path, files: list[str]):
        super().__init__(message)
        self.folder, self.files = folder, files


@dataclasses.dataclass(frozen=True)
class Record:
    """A labelled clip.

    Attributes:
        id: as its data set names it, unique in a split.
        path: its video.
        label: what happens, in words; "" where the split's answers are not there.
        split: train, validation or test.
        category: its class as the data set's files spell it, or "".
        category_index: the class's number in the data set's own file, or -1.
        template: SSv2: the class with brackets where the label names things, else "".
        placeholders: SSv2: what stands in those brackets.
    """

    id: str
    path: Path
    label: str
    split: str
    category: str = ""
    category_index: int = -1
    template: str = ""
    placeholders: tuple[str, ...] = ()

    def sample(self, question: str = QUESTION) -> Sample:
        """The clip as a conversation: the video and a question, answered by the label.

        Raises:
            ValueError: no label.
        """
        if not self.label:
            raise ValueError(f"{self.id}: this {self.split} clip has no label to answer with")
        shown = Medium("video", self.path)
        return Sample(self.id, (Turn((shown, question), self.label),))


class Records(Sequence[Record]):
    """Records of a split, in the order of its label file.

    Attributes:
        dataset: its name, as `contamination.TASKS` and TensorFlow Datasets have it.
        split: train, validation or test.
        folder: of the videos, each of which is called by its record's id and `suffix`.
        missing: files that have a label and are not there, where they were left out.
    """

    def __init__(
        self, dataset: str, split: str, folder: epath.Path, suffix: str, table: pa.Table,
        missing: Sequence[str] = (),
    ):  # fmt: skip
        self.dataset, self.split, self.folder, self.suffix = dataset, split, folder, suffix
        self.table, self.missing = table, tuple(missing)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, n: int | slice) -> Record | Records:
        if isinstance(n, slice):
            return self.take(np.arange(len(self))[n])
        at = n + len(self) if n < 0 else n
        if not 0 <= at < len(self):
            raise IndexError(f"{self.dataset}: record {n} of {len(self)}")
        return self._record(self.table.slice(at, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Record]:
        for batch in self.table.to_batches(_CHUNK):
            yield from map(self._record, batch.to_pylist())

    def _record(self, row: dict) -> Record:
        path = Path(os.fspath(self.folder), row["id"] + self.suffix)
        placeholders = tuple(row.pop("placeholders"))
        return Record(**row, path=path, split=self.split, placeholders=placeholders)

    def files(self) -> pa.ChunkedArray:
        """Path of each video below `folder`."""
        return pc.binary_join_element_wise(self.table["id"], self.suffix, "")

    def take(self, numbers: np.ndarray) -> Records:
        """The records of these numbers (int [K], or bool [N] for a mask)."""
        numbers = np.flatnonzero(numbers) if numbers.dtype == bool else numbers
        taken = copy.copy(self)
        taken.table = self.table.take(pa.array(numbers, pa.int64()))
        return taken


# A label file's row: the fields of SCHEMA.
Row = tuple[str, str, str, int, str, Sequence[str]]


def collect(
    dataset: str,
    split: str,
    rows: Iterable[Row],
    folder: epath.Path,
    suffix: str,
    *,
    file: os.PathLike,
    missing: str = "error",
) -> Records:
    """Records of the rows of a label file whose videos are below `folder`.

    Args:
        dataset: name of the data set.
        split: train, validation or test.
        rows: what `file` holds.
        folder: of the videos; each of its folders that a row names is listed once.
        suffix: of the videos' names, after the id.
        file: the label file, for messages.
        missing: of labelled clips without a file: `error`, or `drop`, which leaves them out and
            prints how many they are.

    Raises:
        BadFile: no row at all, or two of one id.
        MissingVideos: clips without a file, unless they are dropped.
        ValueError: another `missing`.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing={missing!r}: error or drop")
    columns: list[list] = [[] for _ in SCHEMA]
    batches, hashes, inside = [], [], set()

    def close():
        hashes.append(_hashes(columns[0]))
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        batches.append(pa.table(arrays, SCHEMA))
        for column in columns:
            column.clear()

    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        inside.add(row[0].rpartition("/")[0])
        if len(columns[0]) == _CHUNK:
            close()
    close()
    table = pa.concat_tables(batches).unify_dictionaries()
    if not len(table):
        raise BadFile(f"{file}: no row in it")
    ids = np.concatenate(hashes)
    if len(np.unique(ids)) < len(ids):
        counts = pc.value_counts(table["id"])
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(twice):
            raise BadFile(f"{file}: {len(twice)} ids stand in more than one row: {few(twice)}")
    there = np.concatenate([_listed(folder, name, suffix) for name in sorted(inside)])
    found = np.isin(ids, there)  # two names of one 64-bit hash: then the decoder misses the file
    records = Records(dataset, split, folder, suffix, table)
    if found.all():
        return records
    gone = records.take(~found).files()
    said = f"{len(gone)} of {len(table)} {split} clips have a label and no file: {few(gone)}"
    if missing == "error":
        raise MissingVideos(
            f"{folder}: {said}; put them there, or leave them out with missing='drop'",
            folder,
            gone.to_pylist(),
        )
    say(f"{dataset}: {said}; left out")
    records = records.take(found)
    records.missing = tuple(gone.to_pylist())
    return records


def first(root: epath.Path, names: Sequence[str], advice: str) -> epath.Path:
    """The first of these that is there.

    Raises:
        FileNotFoundError: none is; the message is what was looked for, and `advice`.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{root}: no {' and no '.join(names)} there. {advice}")


def _listed(folder: epath.Path, inside: str, suffix: str) -> np.ndarray:
    """int64: hashes of the ids of the videos in a folder below `folder`; none where it is not."""
    here = folder / inside if inside else folder
    if os.path.isdir(here):  # listing a bucket goes through epath, which is slower
        names = os.listdir(here)
    else:
        names = [path.name for path in here.iterdir()] if here.is_dir() else []
    before = f"{inside}/" if inside else ""
    return _hashes([before + n.removesuffix(suffix) for n in names if n.endswith(suffix)])


def _hashes(names: Sequence[str]) -> np.ndarray:
    """int64 [N], of this process alone."""
    return np.fromiter(map(hash, names), np.int64, len(names))


def few(names: pa.Array | pa.ChunkedArray) -> str:
    """The first of these, for a message."""
    shown = names.slice(0, NAMED).to_pylist()
    return ", ".join(shown) + (", ..." if len(names) > NAMED else "")
