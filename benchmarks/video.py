"""Reading frames for training: vjax beside a torch DataLoader over decord, on the same clips.

  ./launch/local python benchmarks/video.py                 writes docs/results/video.md
  ./launch/local python benchmarks/video.py --clips=8 --rounds=2 --out=-

Every side has its own process with as many workers, started and warmed before anything is counted;
passes take turns, side after side, and each figure is the median over the rounds of a ratio within
one round. vjax reads by an index made beforehand, as it does in training; decord indexes a file
each time it opens it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import clips
import numpy as np

from vjax.config import cache_root
from vjax.console import table
from vjax.video.cost import evenly
from vjax.video.decode import motion_of, timed_frames
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.shape import Shaper

HERE = Path(__file__).parent
SETS = [(size, gop) for size in ((1280, 720), (640, 360)) for gop in (30, 250)]


class Side:
    """A process that is given something as JSON, and makes one pass whenever it is told to."""

    def __init__(self, name: str, script: str, arguments: list, given: list):
        self.name = name
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(json.dumps(given))
        if self._hear() != "ready":
            raise RuntimeError(f"{name} did not start: {' '.join(command)}")

    def run(self) -> dict:
        self._say("go")
        return json.loads(self._hear())

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _say(self, line: str):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        return self.process.stdout.readline().strip()


def compare(options, size: tuple[int, int], gop: int) -> list:
    """One row: clips a second and CPU-seconds a clip, ours against torch's and the floor's."""
    paths = clips.make(cache_root() / "benchmark", size, gop, options.clips, options.seconds)
    for path in paths[: options.rounds]:
        check_pixels(path, options.frames)
    numbers, names = [options.frames, options.side, options.workers], [str(path) for path in paths]
    sides = [
        Side("torch", "video_torch.py", numbers, names),
        Side("vjax", "video_vjax.py", ["swscale", *numbers], names),
        Side("vjax reference", "video_vjax.py", ["reference", *numbers], names),
        Side("floor", "video_vjax.py", ["floor", *numbers], names),
    ]
    rounds = []
    for _ in range(options.rounds):
        rounds.append({side.name: side.run() for side in sides})
        print(size, gop, {name: round(r["seconds"], 2) for name, r in rounds[-1].items()})
    for side in sides:
        side.close()

    def ratio(one: str, other: str, what: str) -> float:
        return statistics.median(r[other][what] / r[one][what] for r in rounds)

    best = min(r["vjax"]["seconds"] for r in rounds)
    return [
        f"{size[0]}x{size[1]}, key frame every {gop}",
        f"{len(paths) / best:.1f}",
        f"{ratio('vjax', 'torch', 'seconds'):.2f}",
        f"{ratio('vjax', 'torch', 'cpu'):.2f}",
        f"{ratio('vjax reference', 'torch', 'seconds'):.2f}",
        f"{ratio('vjax', 'floor', 'seconds'):.2f}",
        f"{motion(paths[: options.rounds]):.3f}",
    ]


def motion(paths: list[Path]) -> float:
    """CPU time of decoding every frame with the motion curve, to that without: median."""
    ratios = []
    for path in paths:
        source = probe(path)
        start = time.process_time()
        sum(1 for _ in timed_frames(source))
        plain = time.process_time() - start
        start = time.process_time()
        motion_of(source)
        ratios.append((time.process_time() - start) / plain)
    return statistics.median(ratios)


def check_pixels(path: Path, frames: int):
    """Frames asked for are a whole decode's and, before any scaling, decord's, all to the bit."""
    import decord

    source, shaper = probe(path), Shaper(None, "reference")
    rows = evenly(len(source.pts), frames)
    walked = {row: frame for row, _, frame in timed_frames(source) if row in rows}
    whole = np.stack([shaper.rgb(walked[row]) for row in rows])
    if not np.array_equal(read_frames(source, rows), whole):
        raise RuntimeError(f"{path}: frames asked for differ from those of a whole decode")
    # swscale as decord calls it; ours interpolates colours and is the same on every machine
    plain = np.stack([walked[row].to_ndarray(format="rgb24") for row in rows])
    theirs = decord.VideoReader(str(path), num_threads=1).get_batch(rows).asnumpy()
    if not np.array_equal(plain, theirs):
        raise RuntimeError(f"{path}: frames {rows} differ from decord's")


HEADERS = (
    "clips", "vjax clips/s", "x torch", "x torch, CPU", "x torch, `reference`", "of the floor",
    "motion",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="docs/results/video.md")
    options = parser.parse_args()
    rows = [compare(options, *kind) for kind in SETS]
    print(table(HEADERS, rows))
    if options.out != "-":
        Path(options.out).write_text(page(options, rows))


def page(options, rows: list[list]) -> str:
    lines = ["| " + " | ".join(HEADERS) + " |", "|" + "---|" * len(HEADERS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines)
    return f"""# Reading frames: vjax beside torch and decord

    ./launch/local python benchmarks/video.py

{options.clips} clips a row, H.264, {options.seconds} s at 30 frames a second, made by the command;
{options.frames} frames of each at {options.side} pixels, {options.workers} workers a side, medians
over {options.rounds} rounds in which the sides take turns.

- *x torch*: a pass of a torch DataLoader over decord (frames scaled by OpenCV, bicubic) to one of
  vjax (scaled from YUV by swscale), in wall time and in CPU-seconds. vjax has an index of files,
  made beforehand; decord makes its own each time it opens one.
- *`reference`*: vjax scaling as Hugging Face processors do, by Pillow from full-size RGB.
- *Of the floor*: two processes of raw PyAV with the same seeking and skipping and no pipeline, to
  vjax. Most of what is missing goes into handing pictures over: 16 of 224 pixels are 2.4 MB through
  a pipe, 3 to 6 ms of CPU time a clip, of 75 at 360p. Asked for were 0.85: what is below is a miss.
- *Motion*: CPU time of decoding all frames with the motion curve, to without.
- Pixels: the command stops unless the frames asked for are those of a whole decode, and the decoded
  pictures those of decord, to the bit.

{text}
"""


if __name__ == "__main__":
    main()
