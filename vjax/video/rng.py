"""The random numbers of the project: Philox streams keyed by what they are for.

A stream is a pure function of its key, so a draw never depends on how many workers there are, on
the order in which items are made or on the machine.
"""

import hashlib
import json
import operator
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def philox(*key: str | int) -> np.random.Generator:
    """A generator keyed by `key`: the same parts give the same numbers everywhere.

    Args:
        *key: str and int parts (numpy integers too). Their order and types count: `1` is not `"1"`.

    Returns:
        `np.random.Generator` over Philox4x64 (Salmon et al., SC 2011), its 128-bit key the BLAKE2b
        hash of the parts as ASCII JSON.

    Raises:
        TypeError: no parts, or a part that is neither str nor int (floats have no one spelling).
    """
    if not key:
        raise TypeError("philox() needs at least one key part")
    parts = [part if isinstance(part, str) else _integer(part) for part in key]
    digest = hashlib.blake2b(json.dumps(parts).encode("ascii"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, "<u8")))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, uniform."""
    return options[int(rng.integers(len(options)))]


def _integer(part: int) -> int:
    if isinstance(part, (bool, np.bool_)) or not hasattr(part, "__index__"):
        raise TypeError(f"philox() key part {part!r} is a {type(part).__name__}; use str or int")
    return operator.index(part)
