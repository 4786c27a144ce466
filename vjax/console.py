"""What a person reads: errors, tables, progress bars, and the copy of it all in log.txt."""

import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm


class UserError(Exception):
    """Something the user can put right. Shown as one message without traceback; exit code 2.

    The message names the file, sample or key and the value that is wrong, and says what to do.
    """

    code = 2


class Interrupted(UserError):
    """A signal ended the run, in good order; the exit code is the shell's for it (143: SIGTERM).

    Whatever starts runs can tell it from an error that would come again.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.code = 128 + signal


def many(count: int, thing: str) -> str:
    """1 frame, 2 frames, 1,024 frames."""
    return f"{count:,} {thing}{'s' if count != 1 else ''}"


def table(headers: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A plain-text table: columns of numbers flush right, others flush left; floats as 0.123.

    A cell may be str, int, float or None (shown as -). Columns are numeric when every cell that is
    no str is a number and there is one.

    Raises:
        ValueError: a row with another number of cells than there are headers.
    """
    rows = [list(row) for row in rows]
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"table row {row} has {len(row)} cells, headers are {list(headers)}")
    text = [[_cell(value) for value in row] for row in rows]
    width = [max(map(len, column)) for column in zip(headers, *text, strict=True)]
    right = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(headers))]

    def line(cells):
        padded = (
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, width, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * w for w in width]), *map(line, text)])


def _cell(value) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class _Lines:
    """A file for tqdm where nobody watches: its redrawn bar becomes one line after another."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str):
        if text.strip():
            self.stream.write(text.strip() + "\n")

    def flush(self):
        self.stream.flush()


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """A tqdm bar on stderr; one line about every 10 s where stderr is no terminal.

    Args:
        iterable: what to go through, or None for a bar moved by `update(n)`.
        options: tqdm's own: total, desc, unit, initial, ...
    """
    if sys.stderr.isatty():
        return tqdm(iterable, file=sys.stderr, dynamic_ncols=True, **options)
    lines = _Lines(sys.stderr)
    return tqdm(iterable, file=lines, mininterval=10, miniters=1, ascii=True, ncols=80, **options)


def say(message: str):
    """Prints a line to stdout without breaking a bar that is on screen."""
    tqdm.write(message, file=sys.stdout)


class _Tee:
    """A text stream that writes to two places; the second gets no redrawn bars."""

    def __init__(self, stream, copy):
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        if "\r" not in text:
            self._copy.write(text)
            self._copy.flush()
        return self._stream.write(text)

    def __getattr__(self, name):  # isatty, flush, encoding, fileno ...
        return getattr(self._stream, name)


@contextlib.contextmanager
def log_to(path: str | Path, *, quiet: bool = False):
    """Appends everything Python prints inside, stdout and stderr, to the file too (log.txt).

    Args:
        quiet: to the file alone.
    """
    with (
        open(path, "a", encoding="utf-8", buffering=1) as copy,
        contextlib.redirect_stdout(copy if quiet else _Tee(sys.stdout, copy)),
        contextlib.redirect_stderr(copy if quiet else _Tee(sys.stderr, copy)),
    ):
        yield
