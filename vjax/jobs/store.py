"""Writes the frames that training needs of a folder of videos into shards, to be read at random."""

import contextlib
import hashlib
import importlib.util
import threading
import time
from pathlib import Path

import pyarrow.compute as pc

from vjax.config import Config, cache_root
from vjax.console import UserError, progress, say, table
from vjax.jobs._corpus import real_files, resize_of, skipping
from vjax.jobs.index import index_file, open_index
from vjax.video import shard_writer
from vjax.video.files import alone
from vjax.video.shards import Settings, shard_file
from vjax.video.strategies import Sampling

SHOWN = 10  # clips that could not be read
POLL_S = 0.5


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Brings the frame store up to date (`fresh`: writes it anew) and prints its summary.

    Raises:
      UserError: no videos, bad ones that the config does not allow, a folder that holds another
        store or other things, or a runner that is not there.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            "--job=store needs Apache Beam: start it with ./launch/local, which installs it, or "
            "pip install 'vjax[prep]'"
        )
    if config.data.on_bad_clip == "blank":
        raise UserError("no blank frames are stored: data.on_bad_clip=skip")
    settings, start = settings_of(config), time.monotonic()
    root, paths, _ = real_files(config)
    index = open_index(config, root, paths, index_file(config, root), motion=settings.motion)
    _check_bad(config, index.bad, len(index))
    directory = directory_of(config, root).absolute()
    with alone(directory / "store"):
        try:
            if fresh:
                shard_writer.clear(directory)
            shards = shard_writer.plan(index, directory, settings, config.store.shard_clips)
        except ValueError as error:
            raise UserError(str(error)) from error
        todo = [shard.number for shard in shards if not shard.settled]
        say(f"frame store: {directory}, {len(shards) - len(todo)} of {len(shards)} shards there")
        if todo:
            files = sum(shard.files for shard in shards)
            with _bar(directory, sum(s.files for s in shards if not s.settled), len(todo)):
                _write(config, directory, root, files, todo)
        manifest = shard_writer.joined(directory, len(shards))
        bad = manifest.filter(manifest["error"].is_valid()).select(["video_id", "error", "reason"])
        bad = [tuple(row.values()) for row in bad.to_pylist()]
        _check_bad(config, bad, len(manifest))
        shard_writer.finish(directory, manifest, len(shards))
    frames = pc.sum(pc.list_value_length(manifest["rows"])).as_py() or 0
    size = sum(shard_file(directory, shard.number).stat().st_size for shard in shards)
    headers = ("clips", "frames", "bytes", "bytes a frame", "seconds")
    row = (len(manifest) - len(bad), frames, size, round(size / max(frames, 1)),
           round(time.monotonic() - start, 1))  # fmt: skip
    say(table(headers, [row]))


def settings_of(config: Config) -> Settings:
    """What the config keeps of a clip."""
    store = config.store
    counts = {"fps": store.fps, "max_frames": store.max_frames}
    rule = Sampling(store.kind, **counts if store.kind == "fps" else {"frames": store.frames})
    return Settings(
        rule,
        side=store.side,
        square=store.shape == "square",
        resize=resize_of(config),
        quality=store.quality,
        motion=config.index.motion or store.kind == "motion",
    )


def directory_of(config: Config, root: Path) -> Path:
    """Where the store lies: config.store.directory, or in the cache under the folder's name."""
    if config.store.directory:
        return Path(config.store.directory)
    what = f"{root.resolve()}\n{settings_of(config).to_json()}"
    name = hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
    return cache_root() / "stores" / f"{root.name}-{name}"


def _check_bad(config: Config, bad: list[tuple[str, str, str]], total: int):
    for path, error, reason in bad[:SHOWN]:
        say(f"unreadable: {path}: {error}: {reason}")
    if len(bad) > SHOWN:
        say(
            f"unreadable: {len(bad) - SHOWN} more; the manifest's columns error and reason have all"
        )
    if bad and config.data.on_bad_clip == "error":
        raise UserError(
            f"{len(bad)} of {total} files are bad; remove them, or leave them out: "
            f"{skipping(config, bad, total)}"
        )
    if len(bad) > config.data.max_bad_share * total:
        raise UserError(
            f"{len(bad)} of {total} files are bad, more than "
            f"data.max_bad_share={config.data.max_bad_share:g}"
        )


def _write(config: Config, directory: Path, root: Path, files: int, numbers: list[int]):
    from vjax.jobs import _beam  # Beam takes seconds to import, and may not be there

    data = config.data
    stop = _beam.stop_file(directory)
    stop.unlink(missing_ok=True)
    work = _beam.Work(
        directory,
        root.absolute(),
        files,
        data.workers,
        data.deadline_s,
        data.on_bad_clip,
        data.max_bad_share,
    )
    try:
        _beam.write_shards(work, numbers, config.store.runner, config.store.beam)
    except Exception as error:
        if stop.exists():  # a clip's fault
            said = stop.read_text(encoding="utf-8")
            stop.unlink()
            raise UserError(
                f"{said}\n--config.data.on_bad_clip=skip leaves such files out"
            ) from error
        if isinstance(error, ValueError | ImportError):
            raise UserError(f"store.runner={config.store.runner}: {error}") from error
        raise
    missing = [n for n in numbers if not shard_file(directory, n).exists()]
    if missing:
        raise UserError(
            f"{config.store.runner} ended and shards {missing[:5]} are not in {directory}; its "
            "workers must see that folder and the videos under the same paths"
        )


@contextlib.contextmanager
def _bar(directory: Path, files: int, shards: int):
    """A bar of files, moved by the shards that are there, whoever wrote them."""
    before, over = shard_writer.written(directory), threading.Event()
    with progress(total=files, desc="store", unit="file") as bar:

        def watch():
            while not over.wait(POLL_S):
                move()

        def move():
            done = shard_writer.written(directory) - before
            bar.update(round(done / shards * files) - bar.n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            move()
