"""The haystack of a run: the frames of its clips, read where needles are hidden among them."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from vjax.config import Config, cache_root
from vjax.console import UserError, progress
from vjax.data import needles
from vjax.data.haystack import Haystack
from vjax.data.needles import Needle
from vjax.data.rows import BadFile
from vjax.jobs._corpus import judge, real_files
from vjax.jobs._model import Interface
from vjax.jobs.index import index_file, open_index
from vjax.video.errors import VideoError
from vjax.video.reader import Reader
from vjax.video.store import Drop
from vjax.video.world import corpus as world


@contextlib.contextmanager
def opened(config: Config, model: Interface, split: str, longest: int) -> Iterator[Haystack]:
    """Of all clips of config.data, or, of procedural ones, of those of a split (train or eval).

    Raises:
      UserError: no clips, bad ones where the config does not let them pass, one that proves to be
        bad as it is read, or fewer than `longest` frames.
    """
    root, paths, file = _files(config, split)
    index = open_index(config, root, paths, file)
    bad = [Drop(str(root / path), error, reason) for path, error, reason in index.bad]
    judge(config, {"haystack": paths}, bad)
    options = dict(fps=config.needle.fps, seed=config.needle.seed)
    options |= dict(size=model.video.image_size, resize=model.video.resize)
    with Reader(len(index), workers=config.data.workers, deadline=config.data.deadline_s) as reader:
        haystack = Haystack(index.rows(), reader, **options)
        if len(haystack) < longest:
            raise UserError(
                f"a haystack of {longest} frames: the clips have {len(haystack)} at needle.fps="
                f"{config.needle.fps:g}, and no frame is shown twice; more clips, more frames a "
                "second or shorter haystacks will do"
            )
        try:
            yield haystack
        except VideoError as error:
            raise UserError(f"{error}\nremove it from the clips") from error


def _files(config: Config, split: str) -> tuple[Path, list[Path], Path]:
    """The folder, its videos in order, and where their index lies."""
    data = config.data
    if data.source != "procedural":
        root, paths, _ = real_files(config)
        return root, paths, index_file(config, root)
    count = data.procedural_clips if split == "train" else data.procedural_eval_clips
    root = cache_root() / "procedural"
    with progress(total=count, desc=f"procedural {split}", unit="clip") as bar:
        paths = world.make_corpus(
            root, split, range(count), workers=data.workers, on_clip=bar.update
        )
        bar.update(count - bar.n)
    name = hashlib.blake2b(f"{root.resolve()} {split} {count}".encode(), digest_size=8).hexdigest()
    return root, paths, cache_root() / "index" / f"needle-{name}.parquet"


def hidden(config: Config, model: Interface) -> list[Needle]:
    """The needles that are asked about.

    Raises:
      UserError: a bad file of needles.
    """
    options, video = config.needle, model.video
    if not options.file:
        return needles.cards(options.seed, video.image_size)
    read = functools.partial(needles.read_needles, options.file, options.folder)
    try:
        return read(cache_root() / "rows", size=video.image_size, resize=video.resize)
    except BadFile as error:
        raise UserError(f"needle.file: {error}") from error
