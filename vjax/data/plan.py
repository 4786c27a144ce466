"""Which items make batch i: a pure function of (seed, epoch, i) and of the clips."""

import dataclasses
import functools
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from vjax.data.collate import Shape
from vjax.data.items import FragmentItem
from vjax.data.packing import pack
from vjax.fragments import TASKS, Drop, FragmentConfig, make_records
from vjax.video.frames import Clip
from vjax.video.rng import philox

SOURCES = ("real", "procedural")
SPARE = 1.1  # clips asked for sets against those that are needed when none is dropped
PASSES = 8  # over the clips of a suite, at most


@dataclasses.dataclass(frozen=True)
class Epoch:
    """All items of one epoch, dealt into batches."""

    batches: tuple[tuple[FragmentItem | None, ...], ...]
    drops: tuple[Drop, ...]


class TrainPlan:
    """Fragment items of many clips, mixed and dealt into batches.

    Every epoch draws fresh sets from the same clips. An epoch has the same number of batches as the
    first, so that batch i belongs to epoch i // len(first epoch) without building those between.

    Args:
      keys: store keys of the clips of each source ("real", "procedural"); empty ones are left out.
      clip_of: key -> Clip (pixels decide what is decidable).
      cfg: how fragments are drawn; its seed is the plan's.
      weights: share of each task among items, relative.
      procedural_share: share of items from procedural clips, where both sources are there.
      batch_size: items of a batch.
      length_of: tokens of an item, known without its pixels.
    """

    def __init__(
        self,
        keys: Mapping[str, Sequence[str]],
        clip_of: Callable[[str], Clip],
        cfg: FragmentConfig,
        *,
        weights: Mapping[str, float],
        procedural_share: float,
        batch_size: int,
        length_of: Callable[[FragmentItem], int],
    ):
        self.length_of = length_of
        self.keys = {source: tuple(keys.get(source, ())) for source in SOURCES if keys.get(source)}
        if not self.keys:
            raise ValueError("no clip to train on: both the real and the procedural list are empty")
        self.clip_of = clip_of
        self.cfg = cfg
        self.batch_size = batch_size
        share = {"real": 1 - procedural_share, "procedural": procedural_share}
        share = {source: share[source] if len(self.keys) > 1 else 1.0 for source in self.keys}
        total = sum(weights[task] for task in TASKS)
        self.share = {
            (source, task): share[source] * weights[task] / total
            for source in self.keys
            for task in TASKS
            if share[source] * weights[task] > 0
        }
        self._kept: dict[int, Epoch] = {}  # the last two that were asked for
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return vars(self) | {"_kept": {}, "_lock": None}  # of a worker process, its own

    def __setstate__(self, state: dict):
        vars(self).update(state, _lock=threading.Lock())

    def epoch(self, epoch: int) -> Epoch:
        """All items of an epoch; readers that ask at the same time wait for a single draw."""
        with self._lock:
            if epoch not in self._kept:
                made = self._epoch(epoch)
                self._kept = dict([*self._kept.items()][-1:]) | {epoch: made}
            return self._kept[epoch]

    def _records(self, epoch: int) -> tuple[dict[tuple[str, str], list[FragmentItem]], list[Drop]]:
        cells: dict[tuple[str, str], list[FragmentItem]] = defaultdict(list)
        drops = []
        for source, keys in self.keys.items():
            for key in self._drawn(source, keys, epoch):
                records, drop = make_records(self.clip_of(key), self.cfg, epoch)
                if drop is not None:
                    drops.append(drop)
                for record in records:
                    cells[source, record.task].append(FragmentItem(record, key))
        return cells, drops

    def _drawn(self, source: str, keys: Sequence[str], epoch: int) -> Sequence[str]:
        """The clips that an epoch draws sets of: all of them, or a random part that gives enough.

        The first epoch asks all of them, and so finds what cannot be used.
        """
        if epoch == 0:
            return keys
        asked = max(count for (of, _), count in self.counts.items() if of == source)
        found = max(len(items) for (of, _), items in self._first[0].items() if of == source)
        enough = math.ceil(SPARE * len(keys) * asked / found)
        if enough >= len(keys):
            return keys
        order = philox("clips", self.cfg.seed, epoch, source).permutation(len(keys))
        return [keys[n] for n in order[:enough]]

    @functools.cached_property
    def counts(self) -> dict[tuple[str, str], int]:
        """Items an epoch takes from each (source, task): all that the shares allow, none twice."""
        cells, drops = self._first
        empty = [cell for cell in self.share if not cells[cell]]
        if empty:
            dropped = "; ".join(str(drop) for drop in drops[:3])
            raise ValueError(
                f"no {empty[0][1]} item could be drawn from {empty[0][0]} clips: {dropped}"
            )
        total = min(len(cells[cell]) / share for cell, share in self.share.items())
        return {cell: max(1, math.floor(total * share)) for cell, share in self.share.items()}

    @functools.cached_property
    def _first(self):
        return self._records(0)

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        return math.ceil(sum(self.counts.values()) / self.batch_size)

    def _epoch(self, epoch: int) -> Epoch:
        cells, drops = self._first if epoch == 0 else self._records(epoch)
        rng = philox("plan", self.cfg.seed, epoch)
        items: list[FragmentItem] = []
        for cell, count in self.counts.items():
            # a cell that later drops made smaller starts again at its beginning
            order = rng.permutation(len(cells[cell])) if cells[cell] else []
            items += [cells[cell][order[n % len(order)]] for n in range(count if len(order) else 0)]
        items = [items[n] for n in rng.permutation(len(items))]
        # dealt like cards from a sorted deck: batches then differ by at most 4 pictures and little
        # in length, so that one static shape fits all, and their tasks are even
        items.sort(key=lambda item: (item.images, self.length_of(item), item.record.task))
        n = self.steps_per_epoch
        dealt: list[list[FragmentItem | None]] = [items[b::n] for b in range(n)]
        batches = []
        for b in rng.permutation(n):
            order = rng.permutation(len(dealt[b]))
            rows = [dealt[b][k] for k in order][: self.batch_size]
            batches.append(tuple(rows + [None] * (self.batch_size - len(rows))))
        return Epoch(tuple(batches), tuple(drops))

    def batch(self, i: int) -> tuple[FragmentItem | None, ...]:
        """The items of batch i (counted over all epochs).

        None is a hole: where an epoch's items do not fill its batches, some have one fewer.
        """
        epoch, step = divmod(i, self.steps_per_epoch)
        return self.epoch(epoch).batches[step]

    def shape(self, length: int, *, image_size: int, patches: int, of: int = 1) -> Shape:
        """The static shape that every batch fits, cut into `of` blocks: rows of `length` tokens."""
        first = [
            [item for _, item in block]
            for batch in self.epoch(0).batches
            for block in deal(batch, of)
        ]
        images = [[item.images for item in block] for block in first]
        tokens = [[self.length_of(item) for item in block] for block in first]
        most = max(map(sum, images)) + math.ceil(self._spare(images, of)) + 2
        rows = max(len(pack(block, length)) for block in tokens)
        rows += math.ceil(self._spare(tokens, of) / length) + 1
        return Shape(rows, length, most, image_size, patches)

    def _spare(self, values: list[list[int]], of: int) -> float:
        """Room for later epochs, which draw other variants and wordings.

        Three standard errors of a block's sum, an epoch's items being drawn anew and dealt evenly.
        """
        flat = [value for block in values for value in block]
        return 3 * float(np.std(flat)) * self.batch_size / of / math.sqrt(len(flat))

    def histogram(self) -> list[tuple[str, str, int]]:
        """(source, task, items of an epoch)."""
        return [(source, task, count) for (source, task), count in self.counts.items()]


def deal(batch: Sequence[FragmentItem | None], of: int) -> list[list[tuple[int, FragmentItem]]]:
    """A batch's items with their numbers in it, dealt into blocks that show about as much."""
    items = [(n, item) for n, item in enumerate(batch) if item is not None]
    if of > 1:
        items.sort(key=lambda numbered: (-numbered[1].images, numbered[1].id))
    return [items[block::of] for block in range(of)]


def eval_records(
    keys: Sequence[str],
    clip_of: Callable[[str], Clip],
    cfg: FragmentConfig,
    per_task: int,
    tasks: Collection[str] = tuple(TASKS),
) -> tuple[list[FragmentItem], list[Drop]]:
    """`per_task` items of each of `tasks` where the clips give them, and the clips that gave none.

    Spread over clips: one set of every clip, in the order given, before the second of any. When one
    pass is not enough, further passes draw fresh sets of the same clips (their epoch in the id).
    """
    items: dict[str, list[FragmentItem]] = {task: [] for task in tasks}
    drops: dict[str, Drop] = {}
    gave: set[str] = set()
    for epoch in range(PASSES):
        if min(len(found) for found in items.values()) >= per_task:
            break
        drawn: list[FragmentItem] = []
        for key in keys:
            records, drop = make_records(clip_of(key), cfg, epoch)
            if drop is not None:
                drops.setdefault(drop.video_id, drop)
            drawn += [FragmentItem(record, key) for record in records]
        gave |= {item.record.video_id for item in drawn}
        for item in sorted(drawn, key=lambda item: item.record.set):
            if item.record.task in items:
                items[item.record.task].append(item)
    lost = [drop for video_id, drop in drops.items() if video_id not in gave]
    return [item for found in items.values() for item in found[:per_task]], lost
