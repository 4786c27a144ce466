"""Features of a frozen tower on disk, found by the pixels that the tower was shown.

A folder:

  settings.json   what computed them; a run of another tower, or in another way, is refused
  NAME.npy        uint8 [n, bytes of one picture's features], mapped into memory
  NAME.keys       n times a key, 16 bytes, and a row's checksum, 8 bytes; written after it

Several processes may write, each its own parts; equal pictures in two parts do no harm.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (numpy then knows bfloat16)
import numpy as np

from vjax.video.files import written_whole

VERSION = 2  # of the format
KEY, SUM = 16, 8  # bytes of a picture's key, of a row's checksum
RECORD = KEY + SUM
PART = 64 << 20  # bytes after which a part is written
AGAIN = "delete both, and what they held is computed again"  # of a part's two files

Layout = Mapping[str, tuple[tuple[int, ...], str]]  # shape and dtype of a picture's features


class Unusable(ValueError):
    """A folder that cannot serve; the message names the file, and says what to do."""


class Stale(Unusable):
    """A folder whose features something else computed; the message names what differs."""


def keys_of(images: np.ndarray) -> list[bytes]:
    """BLAKE2b-128 of each picture's pixels, uint8 [V, H, W, 3]."""
    return [hashlib.blake2b(image.tobytes(), digest_size=KEY).digest() for image in images]


def sum_of(key: bytes, row: np.ndarray) -> bytes:
    """BLAKE2b-64 of a picture's features, uint8 [bytes], as those of the picture of this key."""
    return hashlib.blake2b(np.ascontiguousarray(row), digest_size=SUM, key=key).digest()


@dataclasses.dataclass
class _Part:
    """Rows of one file, uint8 [n, bytes]; their keys and checksums; which were found sound."""

    file: Path
    rows: np.ndarray
    records: bytes
    sound: np.ndarray

    def row(self, n: int) -> np.ndarray:
        """Row n; when first read it is checked, not later, for that takes longer than reading."""
        if not self.sound[n]:
            record = self.records[n * RECORD : (n + 1) * RECORD]
            if sum_of(record[:KEY], self.rows[n]) != record[KEY:]:
                raise Unusable(
                    f"{self.file}: row {n} is not what its checksum in "
                    f"{self.file.with_suffix('.keys').name} says: {AGAIN}"
                )
            self.sound[n] = True
        return self.rows[n]


class FeatureStore:
    """The features in a folder, which is made where it is missing. Any thread may read.

    A pickled copy reads what is on disk. All methods raise Unusable where a file cannot be read or
    written, or does not hold what it should.

    Args:
        directory: of the store.
        settings: what computes the features, plain values by name.
        layout: of one picture's features, by name.
        most: bytes in all, beyond which nothing is added.

    Raises:
        Stale: the folder's settings are others.
        Unusable: no folder, or features without settings.
    """

    def __init__(self, directory: str | Path, settings: Mapping, layout: Layout, most: float):
        self.directory, self.layout, self.most = Path(directory), dict(layout), most
        self.settings = {"version": VERSION} | dict(settings)
        self.sizes = [math.prod(s) * np.dtype(d).itemsize for s, d in self.layout.values()]
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}
        self._where: dict[bytes, tuple[_Part, int]] = {}
        self._fresh: dict[bytes, np.ndarray] = {}
        self._agree()
        self.refresh()

    def __reduce__(self):
        settings = {name: value for name, value in self.settings.items() if name != "version"}
        return FeatureStore, (self.directory, settings, self.layout, self.most)

    def _agree(self):
        file = self.directory / "settings.json"
        # before settings are looked for: another process writes its parts after these
        parts = sorted(part for end in ("keys", "npy") for part in self.directory.glob(f"*.{end}"))
        with _reaching(self.directory):
            if not file.exists():
                if parts:
                    raise Unusable(
                        f"{self.directory} holds features ({parts[0].name}) and no {file.name}, "
                        "which says what computed them: name another folder, or delete this one"
                    )
                with written_whole(file) as partial:
                    partial.write_text(json.dumps(self.settings, indent=2) + "\n")
        mine = json.loads(json.dumps(self.settings))
        try:
            theirs = dict(json.loads(file.read_text()))
        except (ValueError, TypeError, OSError) as error:
            raise Unusable(
                f"{file}: not the settings of features ({error}): name another folder, or delete "
                "this one"
            ) from error
        names = dict.fromkeys([*mine, *theirs])
        other = [name for name in names if theirs.get(name) != mine.get(name)]
        if other:
            lines = [f"  {name}: {theirs.get(name)!r} -> {mine.get(name)!r}" for name in other]
            raise Stale(
                f"{self.directory} holds features that this run would compute otherwise:\n"
                + "\n".join(lines)
                + "\nname another folder, or delete this one"
            )

    def refresh(self):
        """Sees parts that others have written.

        Raises:
            Unusable: a part that is not what its keys say.
        """
        for file in sorted(self.directory.glob("*.keys")):
            if file.stem in self._parts:
                continue
            rows = file.with_suffix(".npy")
            try:
                records, found = file.read_bytes(), np.lib.format.open_memmap(rows, "r")
            except Exception as error:  # reading a broken header raises all kinds
                why = f"{rows}: not a whole file of features ({error}): {AGAIN}"
                raise Unusable(why) from error
            n = len(records) // RECORD
            if len(records) % RECORD or found.shape != (n, sum(self.sizes)) or found.dtype != "u1":
                raise Unusable(f"{rows}: not the {n} rows of {file.name}: {AGAIN}")
            part = _Part(rows, found, records, np.zeros(n, bool))
            with self._lock:
                self._parts[file.stem] = part
                for at in range(n):
                    self._where.setdefault(records[at * RECORD : at * RECORD + KEY], (part, at))

    def __len__(self) -> int:
        """Pictures whose features are known."""
        return len(self._where) + len(self._fresh)

    @property
    def bytes(self) -> int:
        return len(self) * sum(self.sizes)

    def read(self, keys: list[bytes]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Features of pictures: which are known, bool [V], and arrays by name, 0 where not."""
        rows = np.zeros((len(keys), sum(self.sizes)), np.uint8)
        known = np.zeros(len(keys), bool)
        for n, key in enumerate(keys):
            with self._lock:
                row, at = self._fresh.get(key), self._where.get(key)
            if row is None and at is not None:
                row = at[0].row(at[1])
            if row is not None:
                rows[n], known[n] = row, True
        return known, self._fields(rows)

    def add(self, keys: list[bytes], fields: Mapping[str, np.ndarray]):
        """Keeps features of pictures; on disk at the latest after `flush`."""
        V = len(keys)
        parts = [np.ascontiguousarray(fields[name]).reshape(V, -1) for name in self.layout]
        rows = np.concatenate([part.view(np.uint8) for part in parts], axis=1)
        for key, row in zip(keys, rows, strict=True):
            if key not in self._where and self.bytes + len(row) <= self.most:
                with self._lock:
                    self._fresh[key] = row
        if len(self._fresh) * sum(self.sizes) >= PART:
            self.flush()

    def flush(self):
        """Writes what was added as a part of its own."""
        if not self._fresh:
            return
        keys, name = list(self._fresh), uuid.uuid4().hex
        rows = np.stack([self._fresh[key] for key in keys])
        sums = [sum_of(key, row) for key, row in zip(keys, rows, strict=True)]
        with _reaching(self.directory):
            with (
                written_whole(self.directory / f"{name}.npy") as partial,
                open(partial, "wb") as file,
            ):
                np.save(file, rows)
            with written_whole(self.directory / f"{name}.keys") as partial:
                partial.write_bytes(b"".join(k + s for k, s in zip(keys, sums, strict=True)))
        self.refresh()
        with self._lock:
            self._fresh.clear()

    def _fields(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum(self.sizes)[:-1]
        return {
            name: np.ascontiguousarray(part).view(np.dtype(dtype)).reshape(-1, *shape)
            for part, (name, (shape, dtype)) in zip(
                np.split(rows, ends, axis=1), self.layout.items(), strict=True
            )
        }


@contextlib.contextmanager
def _reaching(directory: Path) -> Iterator[None]:
    """What keeps a folder from being made or written is told with its name."""
    try:
        yield
    except OSError as error:
        raise Unusable(
            f"{directory}: no features can be kept there ({error.strerror or error}): name a "
            "folder that can be made and written to"
        ) from error


class Looked:
    """Batches with the features of pictures that the store knows: read by the data's threads.

    Beside its fields a batch has those of the store's layout, [..., V, *shape], and `known`, bool
    [..., V].
    """

    def __init__(self, make_batch: Callable[[int], dict[str, np.ndarray]], store: FeatureStore):
        self.make_batch, self.store = make_batch, store

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        return looked(self.make_batch(i), self.store)


def looked(batch: dict[str, np.ndarray], store: FeatureStore) -> dict[str, np.ndarray]:
    """A batch as `Looked` gives it."""
    *lead, _, _, _ = batch["images"].shape
    known, fields = store.read(keys_of(batch["images"].reshape(-1, *batch["images"].shape[-3:])))
    shaped = {name: x.reshape(*lead, *x.shape[1:]) for name, x in fields.items()}
    return batch | shaped | {"known": known.reshape(lead)}
