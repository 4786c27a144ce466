"""Our side of benchmarks/video.py: the Grain pipeline over `Reader`, and raw PyAV as the floor.

Takes a JSON line on stdin, a list of files, and answers with what one pass over them took.
"""

import json
import sys
import time

import numpy as np
from absl import flags
from processes import seconds_of
from video_floor import raw_walk

from vjax.data.pipeline import batches
from vjax.video.cost import evenly
from vjax.video.probe import Source, probe
from vjax.video.reader import Reader
from vjax.video.supervise import Children


def loader(sources: list[Source], frames: int, side: int, workers: int, resize: str):
    """One pass as training reads it: batch numbers to frames, a few ahead of use."""
    reader = Reader(len(sources), workers=workers)
    rows = [evenly(len(source.pts), frames) for source in sources]

    def clip(n: int) -> np.ndarray:
        return reader.read(sources[n], rows[n], size=side, resize=resize)

    def one_pass() -> int:
        stream = batches(clip, 0, len(sources), threads=workers + 1, ahead=2 * workers)
        return sum(1 for _ in stream)

    return one_pass, lambda: seconds_of(reader._children.pids)


def floor(sources: list[Source], frames: int, side: int, workers: int):
    """One pass of raw PyAV in as many processes, each with its share of the clips: no pipeline."""
    children = Children(workers, deadline=600)
    plans = [(str(source.path), *_groups(source, frames)) for source in sources]
    shares = [(plans[n::workers], side) for n in range(workers)]

    def one_pass() -> int:
        return sum(count for _, count in children.map(raw_walk, shares))

    return one_pass, lambda: seconds_of(children.pids)


def _groups(source: Source, frames: int) -> tuple[list[int], list[list[int]]]:
    pts = source.pts[evenly(len(source.pts), frames)]
    group = np.searchsorted(source.keys, pts, "right") - 1
    kept = np.unique(group)
    return source.keys[kept].tolist(), [pts[group == g].tolist() for g in kept]


def main(kind: str, frames: str, side: str, workers: str):
    flags.FLAGS(["video_vjax"])  # Grain reads them
    sources = [probe(path) for path in json.loads(sys.stdin.readline())]
    numbers = (int(frames), int(side), int(workers))
    if kind == "floor":
        one_pass, seconds = floor(sources, *numbers)
    else:
        one_pass, seconds = loader(sources, *numbers, resize=kind)
    one_pass()  # starts the children and warms the files: not counted
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), seconds()
        count = one_pass()
        spent = time.perf_counter() - start
        print(json.dumps({"seconds": spent, "cpu": seconds() - cpu, "clips": count}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
