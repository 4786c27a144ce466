"""The default motion signal beside MGSampler's own, on the real sample clips: agreement and cost.

./launch/local python benchmarks/motion.py                 writes docs/results/motion.md
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from vjax.config import cache_root
from vjax.console import progress, table
from vjax.video import clips
from vjax.video.decode import timed_frames
from vjax.video.motion import change
from vjax.video.probe import probe
from vjax.video.sampling import pick
from vjax.video.shape import Shaper

PICKS = 16
HEADERS = (
    "clip", "size", "frames", "rank correlation", "picks apart", "uniform picks apart",
    "decoding with it", "with SSIM",
)  # fmt: skip


def compare(path: Path, most: int) -> list:
    """One row: how alike the two curves are, and CPU time with each to that of decoding alone."""
    source = probe(path)
    curves, seconds = {}, {}
    for signal in ("none", "luma", "ssim"):
        shaper = Shaper(None, "swscale")
        shape = {"none": lambda frame: None, "luma": shaper.luma, "ssim": shaper.grey}[signal]
        start = time.process_time()
        greys = (shape(frame) for _, _, frame in itertools.islice(timed_frames(source), most))
        pairs = itertools.pairwise(greys)
        curves[signal] = [0 if signal == "none" else change(a, b, signal) for a, b in pairs]
        seconds[signal] = time.process_time() - start
    picks = {
        name: pick(curve, PICKS, mode="test")[0]
        for name, curve in (curves | {"uniform": np.ones(len(curves["ssim"]))}).items()
        if name != "none"
    }

    def apart(name: str) -> float:
        return float(np.abs(picks[name] - picks["ssim"]).mean())

    return [
        path.name,
        f"{source.width}x{source.height}",
        len(curves["ssim"]) + 1,
        float(spearmanr(curves["luma"], curves["ssim"])[0]),
        apart("luma"),
        apart("uniform"),
        seconds["luma"] / seconds["none"],
        seconds["ssim"] / seconds["none"],
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=160, help="of each clip, at most")
    parser.add_argument("--out", default="docs/results/motion.md")
    options = parser.parse_args()
    found = clips.fetch(cache_root())
    rows = [compare(item.path, options.frames) for item in progress(found, desc="clips")]
    columns = list(zip(*rows, strict=True))
    middle = ["median", "", "", *(float(np.median(column)) for column in columns[3:])]
    text = table(HEADERS, [*rows, middle])
    print(text)
    if options.out != "-":
        Path(options.out).write_text(PAGE.format(options=options, picks=PICKS, text=text))


PAGE = """# The default motion signal beside SSIM

    ./launch/local python benchmarks/motion.py

The default takes every k-th pixel of the decoder's Y plane and sums absolute differences, in whole
numbers. `ssim` is MGSampler's image-level signal, 1 - SSIM of neighbouring grey frames of full size
(equal to scikit-image's; tests/video/test_decode.py). At most {options.frames} frames of each real
sample clip. *Rank correlation* of the two curves (Spearman); *picks apart*: mean distance in frames
of the {picks} picks that MGSampler makes by either curve, and of uniform ones, from those by SSIM;
*decoding with it*: CPU time of decoding every frame with the curve, to that without.

```
{text}
```
"""


if __name__ == "__main__":
    main()
