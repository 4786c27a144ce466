"""Labelled clips of a TensorFlow Dataset, as files.

The decoder's index, seeks and supervised children work on files, so a clip's bytes are written to a
cache when its record is first asked for. Any data set with the features of `tfds_builders` will do.
"""

import copy
import os
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from vjax.data.labelled import Record
from vjax.video.files import written_whole

PREFIX = "tfds:"
NEEDED = ("file", "label", "video")
_WRITING = threading.Lock()  # processes keep out of each other's way, threads of one do not


class TfdsRecords(Sequence[Record]):
    """Records of a split by number, from any process.

    Args:
        source: `tfds:NAME/SPLIT`; NAME may have a version (`NAME:1.0.0`), SPLIT may be a slice
            (`train[:10%]`).
        data_dir: where the data set was built, as ArrayRecord.
        cache: folder for the videos, below which they keep the names that the data set gives them.

    Raises:
        ValueError: another form of `source`, a data set that was not built there, or one with other
            features.
        ModuleNotFoundError: tensorflow-datasets is not installed.
    """

    def __init__(self, source: str, data_dir: str | os.PathLike, cache: str | os.PathLike):
        self._args = source, os.fspath(data_dir), os.fspath(cache)
        name, slash, split = source.removeprefix(PREFIX).partition("/")
        if not (source.startswith(PREFIX) and name and split):
            raise ValueError(f"{source!r}: tfds:NAME/SPLIT is needed")
        try:
            import tensorflow_datasets as tfds
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{source}: pip install 'vjax[prep]' ({error})") from error
        try:
            builder = tfds.builder(name, data_dir=data_dir)
            self._data = builder.as_data_source(split)
        except (tfds.core.DatasetNotFoundError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{source}: not to be had from {data_dir}: {error}") from error
        lacking = [key for key in NEEDED if key not in builder.info.features]
        if lacking:
            raise ValueError(f"{source}: has no feature {', '.join(lacking)}, see docs/datasets.md")
        self.dataset, self.split = builder.info.name, split.partition("[")[0]
        self.folder = Path(cache, builder.info.full_name, self.split)
        self._numbers = np.arange(len(self._data))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, n: int) -> Record:
        """Record n; its video is a file from then on.

        Raises:
            ValueError: a file name that leads out of the cache.
        """
        if not 0 <= n < len(self):
            raise IndexError(f"{self._args[0]}: record {n} of {len(self)}")
        row = self._data[int(self._numbers[n])]
        name = PurePosixPath(_text(row["file"]))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"{self._args[0]}: record {n} has the file {name}, outside of the cache"
            )
        path = self.folder / name
        with _WRITING:
            if not path.exists():
                with written_whole(path) as partial:
                    partial.write_bytes(row["video"])
        return Record(
            id=_text(row["id"]) if "id" in row else str(name),
            path=path,
            label=_text(row["label"]),
            split=self.split,
            category=_text(row.get("category", b"")),
            category_index=int(row.get("category_index", -1)),
            template=_text(row.get("template", b"")),
            placeholders=tuple(map(_text, row.get("placeholders", ()))),
        )

    def files(self) -> pa.Array:
        """Name of each video, below the folder of its split; reads the whole data set."""
        rows = (self._data[n] for n in self._numbers.tolist())
        return pa.array([_text(row["file"]) for row in rows], pa.string())

    def take(self, numbers: np.ndarray) -> "TfdsRecords":
        """The records of these numbers (int [K], or bool [N] for a mask)."""
        taken = copy.copy(self)
        taken._numbers = self._numbers[numbers]
        return taken

    def __reduce__(self):
        return _again, (self._args, self._numbers)


def _again(args: tuple[str, str, str], numbers: np.ndarray) -> TfdsRecords:
    records = TfdsRecords(*args)
    records._numbers = numbers
    return records


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
