"""Which samples share a row, and which rows a batch: planned ahead, from their sizes alone.

A batch is a pure function of its number. Windows of samples are packed one after another; what does
not fill a batch waits for the next window, and at the end of an epoch is padded.
"""

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vjax.video.rng import philox

MEASURES = ("tokens", "pictures")
LEFT_OUT = -1  # size of a sample that is not used
FULL = 0.97  # share of a row's tokens
NEAR_FULL = 0.99  # of the fill without a limit on pictures
SHORTEST = 128  # tokens of a row


def pack(sizes: Sequence | np.ndarray, room: int | Sequence[int]) -> list[list[int]]:
    """First-fit decreasing (Johnson, 1973): which samples share a row.

    Args:
        sizes: int [n] or [n, 2], tokens and pictures of each sample; by tokens they are sorted,
            ties in the order given.
        room: what a row holds of each.

    Returns:
        The samples of each row.

    Raises:
        ValueError: a sample that no row holds.
    """
    rooms = np.atleast_2d(room)
    sizes = np.asarray(sizes, np.int64).reshape(len(sizes), rooms.shape[1])
    return [row for _, row in _first_fit(sizes, rooms, np.zeros(len(sizes), int))]


def _first_fit(sizes: np.ndarray, rooms: np.ndarray, kind: np.ndarray) -> list[tuple]:
    """(kind, samples) of each row; kind[n] is that of the row which a sample opens where none fits.

    Rows of one kind are filled up with samples of any other.
    """
    rows: list[tuple[int, list[int]]] = []
    left = np.zeros((len(sizes), rooms.shape[1]), np.int64)
    for n in np.argsort(-sizes[:, 0], kind="stable").tolist():
        fits = (left[: len(rows)] >= sizes[n]).all(axis=1)
        row = int(fits.argmax()) if fits.any() else len(rows)
        if row == len(rows):
            room = rooms[kind[n]]
            if (sizes[n] > room).any():
                size, of = (
                    " and ".join(f"{a} {what}" for a, what in zip(x, MEASURES, strict=False))
                    for x in (sizes[n], room)
                )
                raise ValueError(f"example {n}: {size} do not fit a row of {of}")
            rows.append((int(kind[n]), []))
            left[row] = room
        rows[row][1].append(n)
        left[row] -= sizes[n]
    return rows


class Bucket(NamedTuple):
    """The shape of a batch: rows of so many tokens, with room for so many pictures each."""

    rows: int
    length: int
    pictures: int


def choose_buckets(
    sizes: np.ndarray, *, rows: int, length: int, most: int, attention: float
) -> tuple[Bucket, ...]:
    """The table of shapes that the given samples cost least in, shortest first.

    Tried are rows of `length`, and beside them of a half and a quarter, each batch with as many
    tokens and pictures as any other. Short rows save attention, which grows with a row's length,
    and are harder to fill; a table that is less full than `FULL` is taken where none is fuller. A
    row has room for as few pictures as leave its tokens filled, and for one at least: a tower is
    shown something even where no sample has any.

    Args:
        sizes: int [n, 2], tokens and pictures of samples like those to come.
        rows: of a batch at full length.
        length: tokens of the longest rows.
        most: tables of that many buckets at most.
        attention: row length at which attention costs as much as the rest of the decoder.

    Raises:
        ValueError: no samples.
    """
    if not len(sizes):
        raise ValueError("no sample to choose batch shapes from")
    tables = []
    for count in range(1, most + 1):
        parts = [2**n for n in reversed(range(count))]
        if length // parts[0] < SHORTEST or length % parts[0]:
            break
        tables.append(_table(sizes, rows, length, parts))
    fills = [fill(sizes, table) for table in tables]
    enough = min(FULL, max(fills))
    full = [table for table, share in zip(tables, fills, strict=True) if share >= enough]
    return min(full, key=lambda table: _cost(sizes, table, attention))


def _table(sizes: np.ndarray, rows: int, length: int, parts: list[int]) -> tuple[Bucket, ...]:
    """Buckets of the given parts of a row, with the least room for pictures that costs no rows."""

    def table(pictures: int) -> tuple[Bucket, ...]:
        wide = pictures * parts[0]  # so that every part of it is whole
        return tuple(Bucket(rows * part, length // part, wide // part) for part in parts)

    least = max(1, -(-int(sizes[:, 1].max()) // parts[0]))
    most = max(1, int(sizes[:, 1].sum()))
    enough = NEAR_FULL * fill(sizes, table(most))
    while least < most:
        half = (least + most) // 2
        if fill(sizes, table(half)) >= enough:
            most = half
        else:
            least = half + 1
    return table(most)


def pack_buckets(sizes: np.ndarray, table: Sequence[Bucket]) -> list[list[list[int]]]:
    """As `pack`, into rows of several shapes: those of each bucket.

    A sample opens a row of the shortest bucket that holds it twice, else of the longest; where it
    fits a row that is open already it goes there.
    """
    room = np.array([bucket[1:] for bucket in table])
    twice = (2 * sizes[:, None] <= room[None]).all(axis=2)
    kind = np.where(twice.any(axis=1), twice.argmax(axis=1), len(table) - 1)
    rows = _first_fit(sizes, room, kind)
    return [[row for k, row in rows if k == n] for n in range(len(table))]


def fill(sizes: np.ndarray, table: Sequence[Bucket]) -> float:
    """Share of the rows' tokens that samples of these sizes take, packed together; 0...1."""
    room = sum(
        len(rows) * bucket.length
        for rows, bucket in zip(pack_buckets(sizes, table), table, strict=True)
    )
    return float(sizes[:, 0].sum() / room)


def _cost(sizes: np.ndarray, table: tuple[Bucket, ...], attention: float) -> float:
    """Work of all rows, in tokens of a decoder without attention."""
    return sum(
        len(rows) * bucket.length * (1 + bucket.length / attention)
        for rows, bucket in zip(pack_buckets(sizes, table), table, strict=True)
    )


class Planned(NamedTuple):
    """A batch: its epoch, the number of its bucket, and each row's samples; padding is no row."""

    epoch: int
    bucket: int
    rows: tuple[tuple[int, ...], ...]


class _Start(NamedTuple):
    """Where a window begins: its batches' first number, and the rows that wait, by bucket."""

    batch: int
    epoch: int
    window: int
    waiting: tuple[tuple[tuple[int, ...], ...], ...]


class Plan:
    """Batches of packed rows; `plan.batch(i)` for any i, counted over all epochs.

    Args:
        order: numbers of an epoch's samples in order, int64 [N].
        sizes: numbers -> int [n, 2], tokens and pictures of these samples; LEFT_OUT twice for one
            that is not used. Asked window by window, when its batches are needed.
        buckets: table of shapes, shortest first.
        window: samples that are packed together.
        seed: of the order of rows and batches in a window.
    """

    def __init__(
        self,
        order: Callable[[int], np.ndarray],
        sizes: Callable[[np.ndarray], np.ndarray],
        buckets: Sequence[Bucket],
        *,
        window: int,
        seed: int,
    ):
        self.order, self.sizes, self.buckets = order, sizes, tuple(buckets)
        self.window, self.seed = window, seed
        self._starts = [_Start(0, 0, 0, ((),) * len(self.buckets))]
        self._begin()

    def _begin(self):
        self._lock = threading.Lock()
        self._order = functools.lru_cache(2)(self.order)
        self._batches = functools.lru_cache(4)(self._plan_window)

    def __getstate__(self):
        kept = ("order", "sizes", "buckets", "window", "seed", "_starts")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()

    def batch(self, i: int) -> Planned:
        """The samples of batch i.

        Raises:
            ValueError: an epoch without any sample that can be used.
        """
        with self._lock:  # threads that ask at the same time wait for a single plan
            while self._starts[-1].batch <= i:
                batches, following = self._batches(len(self._starts) - 1)
                self._starts.append(following)
            at = bisect.bisect_right(self._starts, i, key=lambda start: start.batch) - 1
            return self._batches(at)[0][i - self._starts[at].batch]

    def steps(self, epoch: int) -> int:
        """Batches of an epoch; all its windows are planned for it."""
        with self._lock:
            while self._starts[-1].epoch <= epoch:
                self._starts.append(self._batches(len(self._starts) - 1)[1])
            return self._first_of(epoch + 1) - self._first_of(epoch)

    def _plan_window(self, at: int) -> tuple[list[Planned], _Start]:
        first, epoch, window, waiting = self._starts[at]
        order = self._order(epoch)
        numbers = order[window * self.window : (window + 1) * self.window]
        last = (window + 1) * self.window >= len(order)
        sizes = np.asarray(self.sizes(numbers), np.int64).reshape(-1, 2)
        used = sizes[:, 0] != LEFT_OUT
        numbers, sizes = numbers[used], sizes[used]
        packed = pack_buckets(sizes, self.buckets)
        rng = philox("window", self.seed, epoch, window)
        batches, left = [], []
        for n, bucket in enumerate(self.buckets):
            rows = [tuple(numbers[row].tolist()) for row in packed[n]]
            rows = [*waiting[n], *(rows[k] for k in rng.permutation(len(rows)))]
            full = len(rows) if last else len(rows) // bucket.rows * bucket.rows
            batches += [
                Planned(epoch, n, tuple(rows[k : k + bucket.rows]))
                for k in range(0, full, bucket.rows)
            ]
            left.append(tuple(rows[full:]))
        batches = [batches[k] for k in rng.permutation(len(batches))]
        following = first + len(batches)
        if last:
            if not batches and first == self._first_of(epoch):
                raise ValueError(f"epoch {epoch}: none of {len(order)} samples can be used")
            return batches, _Start(following, epoch + 1, 0, ((),) * len(self.buckets))
        return batches, _Start(following, epoch, window + 1, tuple(left))

    def _first_of(self, epoch: int) -> int:
        """Number of an epoch's first batch."""
        return next(start.batch for start in self._starts if start.epoch == epoch)
