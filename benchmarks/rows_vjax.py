"""Our side of benchmarks/rows.py: the job's own preparation, then batches. Prints a JSON line."""

import json
import sys
import tempfile
import time
from pathlib import Path

from processes import memory_mb

from vjax.config import freeze
from vjax.data.pipeline import batches
from vjax.jobs import _model, _rows

EARLY, SHARED = 50, 2000  # batches; samples


def timed(owner, name: str, spent: dict, label: str):
    """Books the time that a method takes under a label."""
    method = getattr(owner, name)

    def call(*args, **options):
        start = time.perf_counter()
        try:
            return method(*args, **options)
        finally:
            spent[label] = spent.get(label, 0.0) + time.perf_counter() - start

    setattr(owner, name, call)


def shares(examples, numbers) -> dict:
    """Microseconds that the size of a sample takes, in all and by what they go to."""
    spent: dict[str, float] = {}
    timed(examples, "sample", spent, "row")
    timed(examples.footage, "frames", spent, "index")
    timed(examples, "_rows", spent, "frames chosen")
    timed(examples.chat, "_render", spent, "template")
    timed(examples.chat, "_tokenised", spent, "tokenizer")
    start = time.perf_counter()
    examples.sizes(numbers)
    total = time.perf_counter() - start
    spent["all the rest"] = total - sum(spent.values())
    return {name: value / len(numbers) * 1e6 for name, value in (spent | {"all": total}).items()}


def main(file: str, rows: str, length: str, batches_read: str):
    late = int(batches_read)
    config = freeze(
        {
            "data": {"mixture": [{"path": file}], "row_tokens": int(length), "on_long": "skip"},
            "train": {"questions": "rows", "batch_size": int(rows)},
        }
    )
    loaded = _model.load(config)
    before, start = memory_mb(), time.perf_counter()
    made = _rows.make(config, Path(tempfile.mkdtemp()), loaded)
    planned, opened = time.perf_counter() - start, memory_mb()
    stream = batches(made, 0, late + EARLY, threads=config.data.read_threads)
    samples = int(next(stream)["work"][0])
    first = time.perf_counter() - start
    at = {}
    for n in range(1, late):
        samples += int(next(stream)["work"][0])
        at[n + 1] = (samples, memory_mb())
    half = at[late // 2]
    grown = (at[late][1] - half[1]) / (samples - half[0]) * 1000
    told = dict(planned=planned, first=first, before=before, opened=opened, later=at[EARLY][1])
    told |= {"last": at[late][1], "samples": samples, "grown": grown}
    start = time.perf_counter()
    told["steps"] = made.plan.steps(0)
    told["epoch"] = time.perf_counter() - start
    numbers = made.examples.mixture.epoch(0)[-SHARED:]
    told["shares"] = shares(made.examples, numbers)
    made.examples.footage.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
