"""Writing a frame store, shard by shard, from the index of a corpus.

What a shard holds is a function of the index, the settings and its number; `write_shard` may run
anywhere that sees the store's folder and the corpus, any number of times. Nothing here knows Beam.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter

from vjax.video import errors
from vjax.video.files import written_whole
from vjax.video.index import Index, Row
from vjax.video.reader import Reader, read_quarantine
from vjax.video.shards import MANIFEST, Settings, encode, manifest_file, shard_file
from vjax.video.strategies import choose


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be: its number, how many files it stands for, and whether it is there."""

    number: int
    files: int
    settled: bool


def plan(index: Index, directory: Path, settings: Settings, clips: int) -> list[Shard]:
    """Deals the files of an index out to shards and says which of these are there.

    Each shard's share of the index is left in the folder, for `write_shard`. Unless all are there
    the manifest is removed: the store is not whole.

    Args:
        index: of the corpus, with motion curves if the settings want them.
        directory: of the store, made where it is missing.
        settings: of the store.
        clips: a shard.

    Raises:
        ValueError: a store with other settings, or a folder that holds other things.
    """
    _claim(directory, settings)
    shutil.rmtree(directory / "plan", ignore_errors=True)
    shares = index.split(clips, directory / "plan")
    tried = read_quarantine(quarantine_file(directory))
    shards = []
    for n, share in enumerate(shares):
        there = _settled(directory, n, _fingerprint(share, settings), tried)
        shards.append(Shard(n, len(share), there))
        if not there:
            _part_file(directory, n).unlink(missing_ok=True)
    known = len(list((directory / "parts").glob("*.parquet")))
    if not all(shard.settled for shard in shards) or known != len(shards):
        manifest_file(directory).unlink(missing_ok=True)
    return shards


def write_shard(directory: Path, root: Path, number: int, reader: Reader, threads: int):
    """Writes one shard and then the part of the manifest that tells of it, unless they are there.

    Args:
        directory: of the store, as `plan` left it.
        root: corpus folder.
        number: of the shard.
        reader: says what becomes of clips that cannot be read. `skip` makes them rows with an error
            and a reason.
        threads: that wait for the reader and compress.

    Raises:
        VideoError: a clip that cannot be read, where the reader raises.
    """
    settings = read_settings(directory)
    share = Index(_plan_file(directory, number), root)
    fingerprint = _fingerprint(share, settings)
    if _settled(directory, number, fingerprint, read_quarantine(quarantine_file(directory))):
        return
    told: list[dict] = []
    file = shard_file(directory, number)
    with written_whole(file) as partial, ThreadPoolExecutor(threads) as pool:
        writer, record = ArrayRecordWriter(str(partial), "group_size:1,uncompressed"), 0
        jobs = deque(pool.submit(_stored, row, settings, reader) for row in share.rows())
        try:
            while jobs:
                fields, data = jobs.popleft().result()  # kept no longer than until it is written
                if data is not None:
                    writer.write(data)
                    fields |= {"record": record, "bytes": len(data)}
                    record += 1
                told.append(fields)
        finally:
            for job in jobs:
                job.cancel()
            writer.close()
        size = partial.stat().st_size
    for path, error, reason in share.bad:
        told.append({"video_id": path, "error": error, "reason": reason})
    told.sort(key=lambda fields: fields["video_id"])
    table = pa.Table.from_pylist([fields | {"shard": number} for fields in told], MANIFEST)
    stamp = {"fingerprint": fingerprint, "bytes": str(size)}
    with written_whole(_part_file(directory, number)) as partial:
        pq.write_table(table.replace_schema_metadata(stamp), partial, compression="zstd")


def joined(directory: Path, count: int) -> pa.Table:
    """The manifest of a store whose `count` shards are all written."""
    parts = [pq.read_table(_part_file(directory, n)) for n in range(count)]
    table = pa.concat_tables([part.replace_schema_metadata() for part in parts])
    return table.replace_schema_metadata({"vjax.store": read_settings(directory).to_json()})


def finish(directory: Path, manifest: pa.Table, count: int):
    """Writes the manifest, unless it is there, and clears away what is left over."""
    file = manifest_file(directory)
    if not file.exists():
        with written_whole(file) as partial:
            pq.write_table(manifest, partial, compression="zstd")
    shutil.rmtree(directory / "plan", ignore_errors=True)
    for n in range(count, len(list(directory.glob("shards/*.array_record")))):  # the corpus shrank
        shard_file(directory, n).unlink(missing_ok=True)
        _part_file(directory, n).unlink(missing_ok=True)
    for partial in directory.glob("*/*.partial"):  # of processes that were killed
        partial.unlink()


def written(directory: Path) -> int:
    """Shards whose part is there."""
    return len(list((directory / "parts").glob("*.parquet")))


def clear(directory: Path):
    """Removes what a store is made of, and nothing else.

    Raises:
        ValueError: the folder is no store.
    """
    _is_store(directory)
    for name in ("plan", "parts", "shards"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for file in (manifest_file(directory), quarantine_file(directory), _settings_file(directory)):
        file.unlink(missing_ok=True)


def quarantine_file(directory: Path) -> Path:
    """Clips that could not be read; they are not tried again."""
    return directory / "quarantine.jsonl"


def read_settings(directory: Path) -> Settings:
    """What a store keeps. Raises ValueError as `Settings.from_json`."""
    file = _settings_file(directory)
    return Settings.from_json(file.read_bytes(), file)


def _stored(row: Row, settings: Settings, reader: Reader) -> tuple[dict, bytes | None]:
    """The columns of a clip, and its record, or None with error and reason among the columns."""
    source = row.source
    size = settings.size(source.height, source.width)
    chosen = choose(settings.rule, source.times, motion=row.motion)
    chosen = sorted(set(chosen.ravel().tolist()))
    frames = reader.read(source, chosen, size=size, resize=settings.resize)
    clip = {"video_id": source.video_id, "content_hash": source.content_hash}
    if frames is None:
        error = reader.why(source)
        return clip | {"error": type(error).__name__, "reason": str(error)}, None
    clip |= dict(
        rows=chosen,
        times=source.times[chosen],
        width=source.width,
        height=source.height,
        rotation=source.rotation,
        stored_height=size[0],
        stored_width=size[1],
        motion=row.motion if settings.motion else None,
    )
    return clip, encode(clip, frames, settings)


def _fingerprint(share: Index, settings: Settings) -> str:
    """Of all that a shard's content depends on."""
    facts = share.facts.select(["path", "content_hash", "error"]).to_pydict()
    text = settings.to_json() + json.dumps(facts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _settled(directory: Path, number: int, fingerprint: str, tried: dict) -> bool:
    """Whether a shard is there as it should be, and none of its clips is worth another try."""
    try:
        part = _part_file(directory, number)
        stamp = pq.read_schema(part).metadata or {}
        size = shard_file(directory, number).stat().st_size
        if stamp[b"fingerprint"].decode() != fingerprint or int(stamp[b"bytes"]) != size:
            return False
        rows = pq.read_table(part, columns=["video_id", "content_hash", "error"]).to_pylist()
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return False
    return not any(
        row["error"] in errors.TRANSIENT
        and row["content_hash"]  # without one it is the index that could not read it
        and (row["video_id"], row["content_hash"]) not in tried
        for row in rows
    )


def _claim(directory: Path, settings: Settings):
    """Sees that the folder is a store of these settings, or makes it one."""
    file = _settings_file(directory)
    _is_store(directory)
    if not file.exists():
        with written_whole(file) as partial:
            partial.write_text(settings.to_json())
    if lines := read_settings(directory).differences(settings):
        raise ValueError(
            f"{directory} holds a frame store with other settings:\n  "
            + "\n  ".join(lines)
            + "\nchoose another store.directory, or start over with --fresh"
        )


def _is_store(directory: Path):
    """Raises ValueError if the folder holds other things than a store."""
    others = []
    with contextlib.suppress(FileNotFoundError):
        others = [p.name for p in directory.iterdir() if not p.name.endswith((".lock", ".partial"))]
    if others and not _settings_file(directory).exists():
        raise ValueError(
            f"{directory} holds {sorted(others)[0]} and no frame store; name a folder for it alone"
        )


def _settings_file(directory: Path) -> Path:
    return directory / "settings.json"


def _plan_file(directory: Path, number: int) -> Path:
    return directory / "plan" / f"{number:05}.parquet"


def _part_file(directory: Path, number: int) -> Path:
    return directory / "parts" / f"{number:05}.parquet"
