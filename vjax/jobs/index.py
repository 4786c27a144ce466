"""Indexes a folder of videos, and tells what is in it and what decoding it costs."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from vjax.config import Config, cache_root
from vjax.console import UserError, progress, say, table
from vjax.jobs._corpus import real_files, resize_of
from vjax.video import cost
from vjax.video.errors import VideoError
from vjax.video.folder import told
from vjax.video.index import Index, Row, build, parts_of
from vjax.video.supervise import Children

TRIED = 6  # files decoded for the estimate
LONGEST = 300  # frames, of one of them
SHOWN = 10  # unreadable files, sizes


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Brings the index up to date (`fresh`: makes it anew) and prints its summary.

    Raises:
      UserError: no videos, or an index that cannot be read.
    """
    root, paths, others = real_files(config)
    file = index_file(config, root)
    if fresh:
        file.unlink(missing_ok=True)
        shutil.rmtree(parts_of(file), ignore_errors=True)
    index = open_index(config, root, paths, file)
    say(f"index: {file}, {len(index)} files below {root}")
    if others:
        say(f"passed over, no videos by name: {others.total()} files ({told(others)})")
    rows = index.rows()
    if rows:
        say(_lengths(rows))
        say(_sizes(rows))
        say(_groups(rows))
        say(_cost(config, rows))
    for path, error, reason in index.bad[:SHOWN]:
        say(f"unreadable: {path}: {error}: {reason}")
    if len(index.bad) > SHOWN:
        say(f"unreadable: {len(index.bad) - SHOWN} more; the columns error and reason have all")


def index_file(config: Config, root: Path) -> Path:
    """Where the index of a folder lies: config.index.file, or in the cache under the folder's."""
    if config.index.file:
        return Path(config.index.file)
    name = hashlib.blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return cache_root() / "index" / f"{root.name}-{name}.parquet"


def open_index(
    config: Config, root: Path, paths: list[Path], file: Path, *, motion: bool = False
) -> Index:
    """The index of these files, brought up to date behind a bar; `motion` asks for the curves."""
    with progress(total=len(paths), desc="index", unit="file") as bar:

        def seen(done: int, total: int, path: str):
            bar.update(done - bar.n)

        try:
            index = build(
                paths,
                file,
                root,
                motion=motion or config.index.motion,
                workers=config.data.workers,
                deadline=config.data.deadline_s,
                progress=seen,
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        bar.update(len(paths) - bar.n)
    return index


def _lengths(rows: list[Row]) -> str:
    bounds = [0, 1, 2, 4, 8, 15, 30, 60, 180, 600, 3600, np.inf]
    counts, _ = np.histogram([row.source.duration for row in rows], bounds)
    found = [
        (f"{low:g} to {high:g} s" if high < np.inf else f"{low:g} s and more", int(n))
        for low, high, n in zip(bounds[:-1], bounds[1:], counts, strict=True)
        if n
    ]
    total = sum(row.source.duration for row in rows)
    return table(("length", "files"), found) + f"\n{total / 3600:.2f} hours in all"


def _sizes(rows: list[Row]) -> str:
    count = Counter((row.source.width, row.source.height) for row in rows)
    found = [(f"{w} x {h}", n) for (w, h), n in count.most_common(SHOWN)]
    if len(count) > SHOWN:
        found.append(("others", sum(count.values()) - sum(n for _, n in found)))
    return table(("pixels, upright", "files"), found)


def _groups(rows: list[Row]) -> str:
    """Frames from one key frame to the next: what a single wanted frame may cost."""
    found = []
    for codec in sorted({row.source.codec for row in rows}):
        sources = [row.source for row in rows if row.source.codec == codec]
        longest = [_longest_group(source) for source in sources]
        sought = sum(not source.counted for source in sources)
        found.append((codec, len(sources), int(np.median(longest)), max(longest), sought))
    headers = ("codec", "files", "key frame gap, median", "largest", "files that can be sought")
    return table(headers, found)


def _longest_group(source) -> int:
    starts = np.searchsorted(source.pts, source.keys)
    return int(np.diff([0, *starts, len(source.pts)]).max())


def _cost(config: Config, rows: list[Row]) -> str:
    """CPU-seconds of an epoch, from a few files decoded here and the index of all."""
    options, size, resize = config.index, config.data.store_size, resize_of(config)
    by_work = sorted(rows, key=lambda row: _pixels(row, len(row.source.pts)))
    tried = [by_work[n] for n in cost.evenly(len(rows), TRIED)]
    picks = {
        f"{options.frames} frames of every file": lambda n: cost.evenly(n, options.frames),
        "every frame of every file": range,
    }
    lines = [f"decode, estimated from {len(tried)} files tried here:"]
    with Children(1, deadline=60.0) as child:
        for what, pick in picks.items():
            spent = worked = 0.0
            for row in tried:
                chosen = list(pick(len(row.source.pts)))[:LONGEST]
                try:
                    spent += child.call(cost.seconds_of, row.source, chosen, size, resize)
                except VideoError:
                    continue  # training will say so; here it tells nothing about the others
                worked += _pixels(row, cost.decoded_frames(row.source, chosen))
            if not worked:
                return "decode: none of the files tried could be read; see --job=check"
            frames = (cost.decoded_frames(row.source, pick(len(row.source.pts))) for row in rows)
            total = spent / worked * sum(map(_pixels, rows, frames))
            lines.append(
                f"  {what}: {total:.3g} CPU-seconds an epoch, {total / len(rows):.3g} a clip"
            )
            if len(lines) == 2:
                lines.append(
                    f"    an accelerator that takes {options.clips_per_s:g} clips a second "
                    f"needs {total / len(rows) * options.clips_per_s:.1f} cores to feed it "
                    "(index.clips_per_s)"
                )
    return "\n".join(lines)


def _pixels(row: Row, frames: int) -> int:
    return frames * row.source.width * row.source.height
