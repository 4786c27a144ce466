"""A large file of conversations: how soon training starts, and what memory it takes.

  ./launch/local python benchmarks/rows.py                  writes docs/results/rows.md
  ./launch/local python benchmarks/rows.py --rows=5000 --out=-

Rows are generated, and name a few hundred tiny clips again and again, so that this measures the
rows and not the clips. Every line is a process of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import clips
import conversations

from vjax.console import table
from vjax.interop.checkpoint import PRESETS

HERE = Path(__file__).parent
TINY = PRESETS / "vjax-tiny"
ROWS, LENGTH = 2, 2048  # of a batch
SOME, MANY = 100, 1500  # batches read
PATCHES, SIDE, PADDED = 9, 48, 16  # of vjax-tiny; rows of a padded batch


def told(script: str, cache: Path, *arguments) -> dict:
    """What a side prints last."""
    out = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(out.stdout.splitlines()[-1])


def ours(files: dict[str, Path], cache: Path) -> tuple[list, list, list, dict]:
    """Rows of three tables: starting, memory, an epoch planned; and what a size takes."""
    starts, memory, plans = [], [], []
    for name, file in files.items():
        for when in ("the first time", "again") if name == "json" else ("the first time",):
            count = MANY if when == "again" else SOME
            found = told("rows_vjax.py", cache / name, file, ROWS, LENGTH, count)
            seconds = (f"{found[key]:.1f}" for key in ("planned", "first"))
            starts.append([f"vjax, {name}, {when}", "", *seconds])
            extra = (f"{found[key] - found['before']:.0f}" for key in ("opened", "later", "last"))
            grown = f"{found['grown']:.2f}" if count == MANY else ""
            memory.append([f"vjax, {name}, {when}", *extra, found["samples"], grown])
            plans.append([f"{name}, {when}", found["steps"], f"{found['epoch']:.1f}"])
    return starts, memory, plans, found["shares"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--out", default="docs/results/rows.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = clips.make(folder, (96, 64), 15, options.clips, 3)
        names = [str(path.relative_to(folder)) for path in paths]
        files = {}
        for kind in ("json", "jsonl"):
            files[kind] = folder / f"rows.{kind}"
            conversations.write(files[kind], conversations.rows(options.rows, names))
        size = files["json"].stat().st_size / 1e6
        starts, memory, plans, shares = ours(files, folder / "cache")
        arguments = (TINY, PATCHES, SIDE, PADDED)
        torch = told("rows_torch.py", folder, files["json"], *arguments)
        shutil.rmtree(folder / "cache")
    seconds = (f"{torch[key]:.1f}" for key in ("loaded", "ready", "first"))
    starts.append(["torch, json", *seconds])
    extra = (f"{torch[key] - torch['before']:.0f}" for key in ("opened", "later"))
    memory.append(["torch, json", *extra, "", 51 * PADDED, ""])
    texts = [
        table(("side", "rows loaded, s", "planned, s", "first batch, s"), starts),
        table(
            ("MB more than before", "opened", "50 batches", "all", "samples", "by 1,000 samples"),
            memory,
        ),
        table(("file", "steps of an epoch", "all planned, s"), plans),
        table(("size of a sample", "us"), [[k, f"{v:.0f}"] for k, v in shares.items()]),
    ]
    for text in texts:
        print(text)
    if options.out != "-":
        Path(options.out).write_text(
            PAGE.format(options=options, texts=texts, size=size, rows=ROWS, length=LENGTH)
        )


PAGE = """# A file of {options.rows:,} conversations

    ./launch/local python benchmarks/rows.py

{options.rows:,} generated rows ({size:.0f} MB of LLaVA-style JSON: captions, several turns, two
videos, text alone) about {options.clips} clips of 3 s at 96x64, 8 frames of each; vjax-tiny's
tokenizer and template, batches of {rows} rows of {length} tokens and of shorter ones. A process
a line.

## How soon

Of vjax from the job's own preparation (`jobs/_rows.make`: rows opened and read once, clips indexed,
shapes chosen, the first window planned) to the first batch out of the pipeline, the model loaded
before; *again*: lines of the array, index and sizes are in the cache. Of the PyTorch side from
nothing to the first batch: json.load, then every row rendered by jinja2 and tokenised by
`tokenizers` (`encode_batch`, all cores), then a DataLoader with two workers over decord.

```
{texts[0]}
```

## Memory

Of the process and all below it, a page that they share counted once, pages of files left out; the
model and all imports are in what was there before. *By 1,000 samples*: how it grew over the last
half of so many.

```
{texts[1]}
```

## An epoch planned

What a run that goes on at the end of its first epoch waits for; the sizes of samples are computed
the first time, and kept on disk.

```
{texts[2]}
```

What the size of a sample takes, without that file (one thread):

```
{texts[3]}
```
"""


if __name__ == "__main__":
    main()
