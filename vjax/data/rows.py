"""Rows of a JSON, JSONL or Parquet file, by number and without holding them all.

A JSON array is written out as JSONL once, beside the other caches; of JSONL, only where each line
begins is held (8 bytes a row), of Parquet a few groups of rows.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from vjax.video.files import written_whole

_CHUNK = 1 << 22
_GROUPS = 4  # of Parquet rows held at a time
_BLANKS = re.compile(r"[ \t\r\n]*")


class Rows(Protocol):
    """A file's rows: `len(rows)`, and `rows[n]` as JSON would give it, from any thread."""

    def __len__(self) -> int: ...

    def __getitem__(self, n: int) -> Mapping: ...

    def where(self, n: int) -> str:
        """What messages call a row: `FILE:LINE` of JSONL, lines counted from 1 as editors do; of
        anything else `FILE, row N`, counted from 0."""


class BadFile(ValueError):
    """A file of rows that cannot be read; the message names it and the line."""


def open_rows(path: str | Path, cache: str | Path) -> Rows:
    """The rows of a file, by its suffix: .jsonl, .json (an array of objects) or .parquet.

    Args:
        cache: folder for the lines of JSON arrays.

    Raises:
        BadFile: no such file, another suffix, or bytes that are not what the suffix says.
    """
    path = Path(path)
    if path.is_dir():
        raise BadFile(f"{path}: a folder; name a .json, .jsonl or .parquet file of rows")
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return Lines(path)
    if suffix == ".json":
        return Lines(_as_lines(path, Path(cache)), named=path)
    if suffix == ".parquet":
        return ParquetRows(path)
    raise BadFile(f"{path}: rows are read from .json, .jsonl and .parquet, this is {suffix!r}")


class Lines:
    """JSONL; empty lines count for nothing. `named` is the file that messages speak of."""

    def __init__(self, path: Path, named: Path | None = None):
        self.path, self.named = path, named or path
        starts, blanks, at = [], [], 0
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    starts.append(at)
                else:
                    blanks.append(len(starts))
                at += len(line)
        self._starts = np.array([*starts, at], np.int64)
        self._blanks = np.array(blanks, np.int64)  # rows before each empty line
        self._file = os.open(path, os.O_RDONLY)  # one for all threads: pread has no position

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, n: int) -> Mapping:
        if not 0 <= n < len(self):
            raise IndexError(f"{self.named}: row {n} of {len(self)}")
        start, end = self._starts[n : n + 2].tolist()
        try:
            return json.loads(os.pread(self._file, end - start, start))
        except json.JSONDecodeError as error:  # its own line is 1, always
            why = f"{error.msg}, column {error.colno}"
            raise BadFile(f"{self.where(n)}: not JSON ({why})") from error
        except ValueError as error:
            raise BadFile(f"{self.where(n)}: not JSON ({error})") from error

    def where(self, n: int) -> str:
        if self.named != self.path:
            return f"{self.named}, row {n}"
        return f"{self.path}:{n + 1 + np.searchsorted(self._blanks, n, 'right')}"

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._file = os.open(self.path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "_file"):
            os.close(self._file)


class ParquetRows:
    """Parquet, a group of rows at a time."""

    def __init__(self, path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise BadFile(f"{path}: no Parquet ({error})") from error
        meta = self._file.metadata
        counts = [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
        self._ends = np.cumsum([0, *counts])
        self._group = functools.lru_cache(_GROUPS)(self._file.read_row_group)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, n: int) -> Mapping:
        if not 0 <= n < len(self):
            raise IndexError(f"{self.path}: row {n} of {len(self)}")
        group = int(np.searchsorted(self._ends, n, "right")) - 1
        row = self._group(group).slice(n - int(self._ends[group]), 1).to_pylist()[0]
        return {name: value for name, value in row.items() if value is not None}

    def where(self, n: int) -> str:
        return f"{self.path}, row {n}"

    def __reduce__(self):
        return ParquetRows, (self.path,)


def _as_lines(path: Path, cache: Path) -> Path:
    """The JSON array as JSONL in the cache, made when the file is new or was changed."""
    found = path.stat()
    key = [str(path.resolve()), found.st_size, found.st_mtime_ns]
    name = hashlib.blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()
    lines = cache / f"{path.stem}-{name}.jsonl"
    if not lines.exists():
        with written_whole(lines) as partial, open(partial, "w", encoding="utf-8") as file:
            for row in json_array(path):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


def json_array(path: Path) -> Iterator[dict]:
    """The objects of a JSON array, one after another, a few megabytes in memory at a time.

    Raises:
        BadFile: no array of objects; the message names the row.
    """
    decoder, text, at, rows = json.JSONDecoder(), "", 0, 0
    with path.open(encoding="utf-8") as file:  # a path in a bucket has this alone

        def more() -> bool:
            nonlocal text, at
            chunk = file.read(_CHUNK)
            text, at = text[at:] + chunk, 0
            return bool(chunk)

        def skip():
            nonlocal at
            at = _BLANKS.match(text, at).end()
            while at == len(text) and more():
                at = _BLANKS.match(text, at).end()

        try:
            skip()
            if text[at : at + 1] != "[":
                begins = f"begins with {text[at : at + 20]!r}" if text[at:] else "is empty"
                raise BadFile(
                    f"{path}: {begins}, no array of rows; one object a line is called .jsonl"
                )
            at += 1
            skip()
            while text[at : at + 1] not in ("]", ""):
                if text[at] != "{":
                    raise BadFile(f"{path}, row {rows}: begins with {text[at]!r}, no object")
                try:
                    row, end = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    if more():
                        continue
                    raise BadFile(f"{path}, row {rows}: not JSON ({error.msg})") from error
                at, rows = end, rows + 1
                yield row
                skip()
                if text[at : at + 1] == ",":
                    at += 1
                    skip()
                elif text[at : at + 1] != "]":
                    break
            if text[at : at + 1] != "]":
                raise BadFile(f"{path}, after {rows} rows: neither another nor the end")
        except UnicodeDecodeError as error:
            raise BadFile(f"{path}, near row {rows}: not UTF-8 ({error.reason})") from error
