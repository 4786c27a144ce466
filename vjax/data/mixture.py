"""Which samples an epoch takes, in which order: a pure function of (seed, epoch)."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from vjax.video.rng import philox


@dataclasses.dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Attributes:
        size: its rows.
        weight: how often an epoch takes each of them. At 0.5 the next epoch takes the other half.
        cap: most rows of an epoch, taken in turn; 0 for no such limit.
        fraction: share of the rows that is ever taken. The same rows whatever the seed, and those
            of a smaller fraction are among those of a larger one.
        heldout: rows that are never taken, the same ones for every fraction.
    """

    size: int
    weight: float = 1.0
    cap: int = 0
    fraction: float = 1.0
    heldout: int = 0


class Mixture:
    """Samples of several sources, numbered through: the n-th row of a source is its offset + n."""

    def __init__(self, parts: Sequence[Part], seed: int):
        self.parts, self.seed = tuple(parts), seed
        self.offsets = np.cumsum([0, *(part.size for part in parts)])

    def __len__(self) -> int:
        """Numbers there are, taken or not."""
        return int(self.offsets[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """(source, row) of a number."""
        source = int(np.searchsorted(self.offsets, number, "right")) - 1
        return source, number - int(self.offsets[source])

    @property
    def counts(self) -> list[int]:
        """Samples that an epoch takes of each source."""
        return [_count(part) for part in self.parts]

    @property
    def heldout(self) -> np.ndarray:
        """Numbers of the samples that are held out, int64 [n]."""
        held = [
            offset + _rows(part)[part.size - part.heldout :]
            for offset, part in zip(self.offsets, self.parts, strict=False)
        ]
        return np.concatenate(held) if held else np.zeros(0, np.int64)

    def epoch(self, epoch: int) -> np.ndarray:
        """Numbers of an epoch's samples in the order they are taken, int64 [N]."""
        drawn = []
        for n, (part, count) in enumerate(zip(self.parts, self.counts, strict=True)):
            kept = _rows(part)[: _kept(part)]
            if count:
                # an endless repeat of one order, cut into epochs: every row comes equally often
                order = philox("source", self.seed, n).permutation(kept)
                at = (epoch * count + np.arange(count)) % len(order)
                drawn.append(self.offsets[n] + order[at])
        numbers = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
        return numbers[philox("mixture", self.seed, epoch).permutation(len(numbers))]


def _rows(part: Part) -> np.ndarray:
    """All rows of a source; a fraction takes from the beginning, what is held out is the end."""
    return philox("fraction").permutation(part.size)


def _kept(part: Part) -> int:
    return math.ceil(part.fraction * (part.size - part.heldout) - 1e-9)


def _count(part: Part) -> int:
    count = round(part.weight * _kept(part))
    return min(count, part.cap) if part.cap else count
