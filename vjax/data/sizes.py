"""Sizes of samples kept on disk: a run that goes on late in an epoch plans it again in seconds."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vjax.data.examples import Examples
from vjax.data.packing import LEFT_OUT

VERSION = 2  # of the rules by which `Examples` finds sizes
UNKNOWN = 0  # tokens of a sample that was not asked for yet: what a new file is full of


class KeptSizes:
    """`sizes(numbers)`; what was computed before is read from a file of 8 bytes a sample.

    Processes may share the file: a size is written in one piece, and is the same whoever computes
    it. Samples that are left out are computed each time, so that every run tells why.

    Args:
        file: int32 [N, 2] of all samples, mapped; made where it is missing. Its name is `name_of`
            what computes.
        total: N.
        compute: numbers -> int64 [n, 2], tokens and pictures.
    """

    def __init__(
        self, file: str | Path, total: int, compute: Callable[[Sequence[int]], np.ndarray]
    ):
        self.file, self.total, self.compute = Path(file), total, compute
        self._begin()

    def _begin(self):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and no SIGBUS later
                os.posix_fallocate(file.fileno(), 0, 8 * self.total)
            else:
                file.truncate(8 * self.total)
        # tokens and pictures of a sample as one word: no process sees half of it
        self._words = np.memmap(self.file, np.int64, "r+", shape=(self.total,))

    def __call__(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """int64 [n, 2]; LEFT_OUT where a sample is not used. Raises as `compute`."""
        numbers = np.asarray(numbers, np.int64)
        sizes = self._words[numbers].view(np.int32).reshape(-1, 2).astype(np.int64)
        todo = np.flatnonzero(sizes[:, 0] == UNKNOWN)
        if len(todo):
            sizes[todo] = self.compute(numbers[todo])
            kept = todo[sizes[todo, 0] != LEFT_OUT]
            self._words[numbers[kept]] = sizes[kept].astype(np.int32).view(np.int64).ravel()
        return sizes

    def __getstate__(self):
        return {"file": self.file, "total": self.total, "compute": self.compute}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()


def name_of(examples: Examples, samples: str) -> str:
    """32 hex digits (blake2b) of everything that the sizes of `examples` depend on.

    Args:
        samples: a hash of what all its samples say.
    """
    parts = [
        VERSION,
        samples,
        [part.size for part in examples.mixture.parts],
        examples.footage.facts,
        examples.chat.fingerprint,
        dataclasses.asdict(examples.rule),
        list(examples.budgets),
        examples.length,
        examples.pictures,
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
