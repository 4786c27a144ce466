"""Indexing a large corpus: the first pass, a second one over unchanged files, and a stopped one.

  ./launch/local python benchmarks/index.py                 writes docs/results/index.md

The corpus is one short clip under as many names (hard links), so this measures the index and not
the disk.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import clips

from vjax.console import table

LINKS = 50_000  # of one file; file systems allow some 65,000

PASS = """
import sys, time
from pathlib import Path
from vjax.video import index
from vjax.video.folder import list_videos
root, file, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
read = 0
def seen(done, total, path):
    global read
    read += 1
    if read == most:
        raise KeyboardInterrupt
start = time.perf_counter()
try:
    made = index.build(list_videos(root), file, root, workers=2, progress=seen)
except KeyboardInterrupt:
    print(read, time.perf_counter() - start, 0)
else:
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    assert len(made.rows()) == len(made)
    print(read, seconds, time.perf_counter() - start)
"""


def one_pass(root: Path, file: Path, most: int) -> list:
    """Files read, seconds, seconds to load every row, and peak megabytes of the process."""
    run = [sys.executable, "-c", PASS, str(root), str(file), str(most)]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate()
    read, seconds, load = out.split()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [int(read), float(seconds), float(load), round(peak)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--out", default="docs/results/index.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        (clip,) = clips.make(Path(made), (160, 120), 30, 1, 4)
        root = Path(made) / "corpus"
        for n in range(options.files):
            folder = root / f"{n // 1000:03}"
            if n % 1000 == 0:
                folder.mkdir(parents=True)
            if n % LINKS == 0:
                clip = shutil.copy(clip, Path(made) / f"{n}.mp4")
            os.link(clip, folder / f"{n % 1000:03}.mp4")
        file = Path(made) / "index.parquet"
        rows = [
            ["stopped after a fifth", *one_pass(root, file, options.files // 5)],
            ["the same command again", *one_pass(root, file, 0)],
            ["nothing changed", *one_pass(root, file, 0)],
        ]
        os.link(clip, root / "000" / "new.mp4")
        rows.append(["one file more", *one_pass(root, file, 0)])
        size = file.stat().st_size / 2**20
    headers = ("pass", "files read", "seconds", "seconds to load all rows", "peak MB")
    text = table(headers, rows) + f"\nindex: {size:.1f} MB"
    print(text)
    if options.out != "-":
        Path(options.out).write_text(PAGE.format(options=options, text=text))


PAGE = """# Indexing {options.files:,} files

    ./launch/local python benchmarks/index.py

One clip of 4 s at 160x120 (120 frames) under {options.files:,} names: what the index itself costs,
two child processes on two cores. Peak memory is the largest of any pass so far; equal rows make the
file smaller than a real one.

```
{text}
```
"""


if __name__ == "__main__":
    main()
