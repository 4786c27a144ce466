"""Reading frames for training: from the frame store beside the video files themselves.

  ./launch/local python benchmarks/store.py                 writes docs/results/store.md
  ./launch/local python benchmarks/store.py --clips=8 --rounds=2 --out=-

The same frames of the same clips at the same size, a few of those stored, drawn anew each round:
from the store by threads, from the files by `Reader` with as many children and an index made
beforehand. Passes take turns; each figure is the median over the rounds of a ratio within one.
"""

import argparse
import io
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clips
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from processes import seconds_of

from vjax.config import cache_root
from vjax.console import table
from vjax.video import clips as sample_clips
from vjax.video.index import Row, build
from vjax.video.read import read_frames
from vjax.video.reader import Reader
from vjax.video.shard_writer import finish, joined, plan, write_shard
from vjax.video.shards import FrameStore, Settings, decode, shard_file
from vjax.video.strategies import Sampling

SETS = [(size, gop) for size in ((640, 360), (1280, 720)) for gop in (30, 250)]


def written(
    options, root: Path, paths: list[Path], square: bool
) -> tuple[FrameStore, dict[str, Row], float]:
    """A store of these files, their rows of the index, and the seconds that writing took."""
    name = f"{root.name}_{options.side}{'_square' if square else ''}_{len(paths)}"
    folder = cache_root() / "benchmark" / "stores" / name
    shutil.rmtree(folder, ignore_errors=True)
    settings = Settings(
        Sampling("fps", fps=options.fps), options.side, square, options.resize, options.quality
    )
    index = build(paths, folder.with_suffix(".parquet"), root)
    start = time.perf_counter()
    shards = plan(index, folder, settings, 32)
    with Reader(len(index), workers=options.workers, deadline=60) as reader:
        for shard in shards:
            write_shard(folder, root, shard.number, reader, options.workers + 1)
    finish(folder, joined(folder, len(shards)), len(shards))
    spent = time.perf_counter() - start
    return FrameStore(folder), {row.source.video_id: row for row in index.rows()}, spent


def timed(read: Callable, calls: Iterable[tuple], threads: int, pids: Callable) -> dict:
    """Wall and CPU seconds of one pass."""
    start, cpu = time.perf_counter(), seconds_of(pids())
    with ThreadPoolExecutor(threads) as pool:
        count = sum(len(frames) for frames in pool.map(lambda call: read(*call), calls))
    return {
        "seconds": time.perf_counter() - start,
        "cpu": seconds_of(pids()) - cpu,
        "frames": count,
    }


def compare(options, size: tuple[int, int], gop: int, square: bool) -> list:
    """One row: clips a second from the store and from the files, and their ratios."""
    paths = clips.make(cache_root() / "benchmark", size, gop, options.clips, options.seconds)
    store, rows, spent = written(options, paths[0].parent, paths, square)
    shape = store.stored_size(store.video_ids[0])
    jpegs = {name: jpegs_of(store, name) for name in store.video_ids}

    with Reader(len(rows), workers=options.workers) as reader:

        def from_files(name: str, positions: np.ndarray) -> np.ndarray:
            chosen = store.table(name).index[positions]
            return reader.read(rows[name].source, chosen, size=shape, resize=options.resize)

        def bare(name: str, positions: np.ndarray) -> list:
            return [np.asarray(Image.open(io.BytesIO(jpegs[name][p]))) for p in positions]

        def no_children() -> list[int]:
            return []

        def children() -> list[int]:
            return reader._children.pids

        # as many passes over the store as take about as long as one over the files
        rounds = []
        for n in range(-1, options.rounds):
            rng, calls = np.random.default_rng(n + 1), []
            for name in store.video_ids:
                count = len(store.times(name))
                calls.append((name, np.sort(rng.permutation(count)[: options.frames])))
            name, positions = calls[0]
            check(store.read(name, positions), from_files(name, positions), options.quality, name)
            found = {
                "store": timed(
                    store.read, options.repeat * calls, options.workers, no_children
                ),
                "files": timed(from_files, calls, options.workers + 1, children),
                "bare": timed(bare, options.repeat * calls, options.workers, no_children),
            }  # fmt: skip
            for side in ("store", "bare"):
                for what in ("seconds", "cpu"):
                    found[side][what] /= options.repeat
            if n >= 0:  # the first starts children and warms files
                rounds.append(found)
                print(size, gop, {k: round(r["seconds"], 3) for k, r in found.items()}, flush=True)

    def ratio(one: str, other: str, what: str) -> float:
        return statistics.median(r[other][what] / r[one][what] for r in rounds)

    sizes = [len(jpeg) for found in jpegs.values() for jpeg in found]
    return [
        f"{size[0]}x{size[1]}, key frame every {gop}",
        f"{shape[1]}x{shape[0]}",
        f"{len(paths) / statistics.median(r['store']['seconds'] for r in rounds):.0f}",
        f"{len(paths) / statistics.median(r['files']['seconds'] for r in rounds):.1f}",
        f"{ratio('store', 'files', 'seconds'):.1f}",
        f"{ratio('store', 'files', 'cpu'):.1f}",
        f"{ratio('store', 'bare', 'seconds'):.2f}",
        f"{statistics.mean(sizes):.0f}",
        f"{len(paths) / spent:.1f}",
    ]


def jpegs_of(store: FrameStore, name: str) -> list[bytes]:
    """The JPEGs of a clip, for the floor."""
    n = store._row[name]
    shard, record = store._fact("shard", n), store._fact("record", n)
    reader = ArrayRecordReader(str(shard_file(store.directory, shard)))
    return decode(reader.read([record])[0])["jpegs"][0].as_py()


def real(options) -> list[list]:
    """A row for each sample clip: milliseconds of CPU for its frames, from the file and stored."""
    root = cache_root() / "clips"
    paths = [item.path for item in sample_clips.fetch(cache_root())]
    squares, rows, _ = written(options, root, paths, True)
    whole, _, _ = written(options, root, paths, False)
    lines = []
    for name in squares.video_ids:
        source, count = rows[name].source, len(squares.times(name))
        positions = np.sort(np.random.default_rng(0).permutation(count)[: options.frames])
        line = [f"{name}, {source.codec}", f"{source.width}x{source.height}", str(len(positions))]
        for store in (squares, whole):
            chosen, size = store.table(name).index[positions], store.stored_size(name)

            def from_file(source=source, chosen=chosen, size=size):
                return read_frames(source, chosen, size=size, resize=options.resize)

            def from_store(store=store, name=name, positions=positions):
                return store.read(name, positions)

            check(from_store(), from_file(), options.quality, name)
            slow, fast = least(from_file, 3), least(from_store, 20)
            line += [f"{slow * 1e3:.0f}", f"{fast * 1e3:.1f}", f"{slow / fast:.1f}"]
        lines.append(line)
    return sorted(lines, key=lambda line: float(line[5]))


def least(call: Callable, times: int) -> float:
    """CPU-seconds of a call, the least of some."""
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def check(stored: np.ndarray, decoded: np.ndarray, quality: int, name: str):
    """What the store gives is what the file gives, through JPEG, to the bit."""
    for one, other in zip(stored, decoded, strict=True):
        file = io.BytesIO()
        Image.fromarray(other).save(file, "JPEG", quality=quality)
        if not np.array_equal(one, np.asarray(Image.open(file))):
            raise RuntimeError(f"{name}: a stored frame is not the file's")


HEADERS = (
    "clips", "stored as", "store clips/s", "files clips/s", "x files", "x files, CPU",
    "of the floor", "bytes a frame", "written clips/s",
)  # fmt: skip
REAL = (
    "clip", "pixels", "frames", "file, ms", "store, ms", "x file", "aspect kept: file, ms",
    "store, ms", "x file",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=16, help="read of each clip")
    parser.add_argument("--fps", type=float, default=4.0, help="stored of each clip")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--resize", choices=("swscale", "reference"), default="swscale")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5, help="passes over the store a round")
    parser.add_argument("--sets", type=int, nargs="*", default=range(len(SETS)))
    parser.add_argument("--out", default="docs/results/store.md")
    options = parser.parse_args()
    rows = [
        compare(options, *SETS[n], square=square) for n in options.sets for square in (True, False)
    ]
    print(table(HEADERS, rows))
    samples = real(options)
    print(table(REAL, samples))
    if options.out != "-":
        Path(options.out).write_text(page(options, rows, samples))


def markdown(headers: tuple, rows: list[list]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def page(options, rows: list[list], samples: list[list]) -> str:
    return f"""# Reading frames: the frame store beside the files

    {" ".join(["./launch/local python benchmarks/store.py", *sys.argv[1:]])}

{options.clips} clips a row, H.264, {options.seconds} s at 30 frames a second, made by the command;
{options.fps:g} frames a second of each stored as JPEG of quality {options.quality},
{options.frames} of these read, drawn anew each round. {options.workers} threads read the store,
`Reader` with {options.workers} children the files (`{options.resize}`); medians over
{options.rounds} rounds in which the sides take turns.

- *Stored as*: pixels; 224x224 are squares (`store.shape=square`), the others keep the aspect with a
  short side of 224. Both sides give frames of that size.
- *x files*: a pass over the files to one over the store, in wall time and in CPU-seconds.
- *Of the floor*: Pillow decoding the same JPEGs out of memory with as many threads, to the store.
- *Written*: making the store, from an index made beforehand.
- Pixels: the command stops unless what the store gives is what the files give after a turn
  through JPEG, to the bit.

{markdown(HEADERS, rows)}

What is encoded here is blocks of random colour, which JPEG takes several times the bytes for that
it takes for footage. The sample clips, one at a time, in milliseconds of CPU (the least of 3 and of
20 readings), as squares and with their aspect kept:

{markdown(REAL, samples)}
"""


if __name__ == "__main__":
    main()
