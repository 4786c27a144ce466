"""Batches of conversations: how full they are, what that is worth, what making them costs.

  ./launch/local python benchmarks/data.py                  writes docs/results/data.md
  ./launch/local python benchmarks/data.py --rounds=1 --out=-

Rows and clips are generated. Sides take turns within a round; each figure is the median over the
rounds of a ratio within one.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import jax
import mixed
import numpy as np
from video import Side

from vjax.config import cache_root, freeze
from vjax.console import table
from vjax.data import device
from vjax.data.batches import WORK, PackedBatches
from vjax.data.collate import Shape, collate
from vjax.data.gauge import Gauge
from vjax.data.packing import fill
from vjax.data.pipeline import batches
from vjax.jobs import _model
from vjax.jobs._fit import make_tools
from vjax.sharding import replicate
from vjax.train.step import TrainState, make_step
from vjax.video.strategies import Sampling

SECONDS = (1, 2, 4, 8, 16)  # of clips, as many of each
RULE = Sampling("fps", fps=1.0, min_frames=1, max_frames=16)
ROWS, LENGTH, BUCKETS = 4, 1024, 3
LENGTHS = (128, 256, 512, 768, 1024)  # that padded batches are padded to
READERS = [(threads, workers) for workers in (0, 1, 2) for threads in (1, 2, 4)]
DECODED = Sampling("uniform", frames=8)


# ---- how full ------------------------------------------------------------------------------------


def fills(made: PackedBatches, windows: int) -> tuple[float, float]:
    """Share of tokens that are none of padding: packed, and padded to the longest of each batch."""
    order = made.examples.mixture.epoch(0)[: windows * mixed.WINDOW]
    sizes = made.examples.sizes(order)
    parts = np.split(sizes, range(mixed.WINDOW, len(sizes), mixed.WINDOW))
    packed = statistics.mean(fill(part[part[:, 0] > 0], made.plan.buckets) for part in parts)
    tokens = sizes[sizes[:, 0] > 0, 0]
    tokens = tokens[: len(tokens) // ROWS * ROWS].reshape(-1, ROWS)
    return packed, float(tokens.sum() / (ROWS * tokens.max(axis=1)).sum())


# ---- steps ---------------------------------------------------------------------------------------


def step_of(config):
    """run(batch) -> seconds of a train step of vjax-tiny, each shape compiled beforehand."""
    loaded = _model.load(config)
    tx, _, mesh = make_tools(config, loaded.trainable)
    graphdef, trainable, frozen = loaded.parts
    with jax.set_mesh(mesh):
        state, frozen = replicate(
            mesh, (TrainState(trainable, tx.init(trainable), np.int32(0)), frozen)
        )
    step, compiled = jax.jit(make_step(graphdef, tx)), {}

    def run(batch: dict) -> float:
        with jax.set_mesh(mesh):
            placed = device.put(batch, mesh)
            shape = (batch["tokens"].shape, batch["images"].shape)
            if shape not in compiled:
                compiled[shape] = step.lower(state, frozen, placed).compile()
                jax.block_until_ready(compiled[shape](state, frozen, placed))
            start = time.perf_counter()
            jax.block_until_ready(compiled[shape](state, frozen, placed))
            return time.perf_counter() - start

    return run


def padded(made: PackedBatches, numbers: list[int], rows: int) -> list[dict]:
    """The samples one a row, padded to the longest of their batch: to the next of a few shapes."""
    found = []
    for k in range(0, len(numbers), rows):
        encoded = [made.examples.encode(n, None) for n in numbers[k : k + rows]]
        longest = max(len(example.tokens) for example in encoded)
        length = next(length for length in LENGTHS if length >= longest)
        pictures = sum(len(example.images) for example in encoded)
        room = -(-max(pictures, 1) // 16) * 16
        shape = Shape(rows, length, room, made.image_size, made.patches)
        some = [[example] for example in encoded]
        found.append(collate(some, shape, pad_token_id=made.pad_token_id))
    return found


def steps(made: PackedBatches, options) -> list[list]:
    """Samples and tokens a second of train steps over the same samples, packed and padded."""
    run = step_of(freeze({"train": {"batch_size": ROWS}}))
    numbers = range(options.batches)
    whole = [dataclasses.replace(made, training=False)(i) for i in numbers]
    samples = [n for i in numbers for row in made.plan.batch(i).rows for n in row]
    mean = padded(made, samples, ROWS)
    rows = round(ROWS * ROWS * LENGTH / statistics.mean(b["tokens"].size for b in mean))
    sides = {"packed": whole, "padded": padded(made, samples, rows)}
    rounds = []
    for _ in range(options.rounds + 1):
        rounds.append({name: sum(map(run, some)) for name, some in sides.items()})
    rounds = rounds[1:]  # the first one compiles
    tokens = sum(int((batch["segment_ids"] > 0).sum()) for batch in whole)
    ratio = statistics.median(r["padded"] / r["packed"] for r in rounds)
    found = []
    for name, some in sides.items():
        spent = statistics.median(r[name] for r in rounds)
        shapes = len({batch["tokens"].shape + batch["images"].shape for batch in some})
        room = sum(batch["tokens"].size for batch in some)
        times = f"{ratio:.2f}" if name == "packed" else "1"
        found.append(
            [name, len(some), shapes, f"{tokens / room:.1%}", f"{tokens / spent:,.0f}",
             f"{len(samples) / spent:.1f}", times]
        )  # fmt: skip
    return found


# ---- the loader ----------------------------------------------------------------------------------


def overhead(made: PackedBatches, options) -> list[list]:
    """Microseconds a sample of making batches where frames are there, ours and torch's."""
    examples, made = made.examples, dataclasses.replace(made, training=False)
    numbers = range(4 * options.batches)
    ids = {}
    groups = [
        [ids.setdefault(n, len(ids)) for row in made.plan.batch(i).rows for n in row]
        for i in numbers
    ]
    given = [[_plain(examples, n) for n in ids], groups]
    arguments = [mixed.TINY, made.image_size, made.patches]
    torch = Side("torch", "data_torch.py", arguments, given)
    rounds = []
    for _ in range(options.rounds + 1):
        start, cpu = time.perf_counter(), time.process_time()
        tokens = sum(int((made(i)["segment_ids"] > 0).sum()) for i in numbers)
        spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        rounds.append({"vjax": spent, "torch": torch.run()})
    torch.close()
    if tokens != rounds[0]["torch"]["tokens"]:
        raise RuntimeError(f"{tokens} tokens, torch's side has {rounds[0]['torch']['tokens']}")
    found = []
    for side in ("vjax", "torch"):
        wall, cpu = (
            statistics.median(r[side][what] for r in rounds[1:]) / len(ids) * 1e6
            for what in ("seconds", "cpu")
        )
        ratio = statistics.median(r["torch"]["cpu"] / r[side]["cpu"] for r in rounds[1:])
        found.append([side, f"{wall:.0f}", f"{cpu:.0f}", f"{ratio:.2f}"])
    return found


def _plain(examples, number: int) -> list:
    """Turns of a sample for JSON: texts, and the number of frames where a medium stands."""
    layout = examples.layout(number)
    counts = iter(layout.counts)
    return [
        [[part if isinstance(part, str) else next(counts) for part in turn.asked], turn.answer]
        for turn in layout.turns
    ]


# ---- what the gauge says -------------------------------------------------------------------------


def feeding(made: PackedBatches, options) -> list[list]:
    """Samples a second that the data feeds, as told under a slow model and as drained."""
    found = {reader: [] for reader in READERS}
    for n in range(options.rounds):
        for threads, workers in READERS:
            read = mixed.read_by(made, workers)
            start = n * options.drained
            drained, interval, cores, _ = drain(read, threads, workers, start, options.drained, 0.0)
            model = options.slower * interval
            taken, every, _, said = drain(read, threads, workers, start, options.drained, model)
            read.examples.footage.close()
            wants = said["model_wants"] * model / (taken * every)
            found[threads, workers].append((drained, said["data_feeds"] / drained, wants, cores))
    rows = []
    for (threads, workers), values in found.items():
        drained, told, wants, cores = (
            statistics.median(some) for some in zip(*values, strict=True)
        )
        worst = max((value[1] for value in values), key=lambda ratio: abs(ratio - 1))
        numbers = (f"{number:.2f}" for number in (drained, cores, told, worst, wants))
        rows.append([threads, workers, *numbers])
    return rows


def drain(made, threads: int, workers: int, start: int, count: int, model: float):
    """Samples a second, seconds a batch, cores at work and what the gauge said; `model` sleeps."""
    warm = 2 * threads + 2  # children started, buffer as full as it stays
    more = 2 * threads  # which are begun meanwhile
    stream = batches(made, start, start + warm + count + more, threads=threads)
    gauge = Gauge(threads=threads, children=workers)
    waited = samples = cpu = 0
    for n in range(warm + count):
        if n == warm:
            gauge.begin()
            waited, samples, cpu, began = 0.0, 0, 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        work = dict(zip(WORK, batch["work"], strict=True))
        samples += int(work["examples"])
        cpu += work["cpu"] + (work["decoding_cpu"] if workers else 0.0)
        gauge.taken(batch)
        time.sleep(model)
    spent = time.perf_counter() - began
    return samples / spent, spent / count, cpu / spent, gauge.read(waited)[0]


# ---- all of it -----------------------------------------------------------------------------------

FILL = ("batches", "of their tokens no padding")
STEPS = ("batches", "steps", "shapes", "no padding", "tokens/s", "samples/s", "x padded")
LOADER = ("side", "us a sample", "us a sample, CPU", "torch's CPU by it")
FEEDS = (
    "threads",
    "children",
    "drained, samples/s",
    "cores",
    "told by drained",
    "worst",
    "wants by true",
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--windows", type=int, default=8, help="of 1,024 samples, packed")
    parser.add_argument("--batches", type=int, default=8, help="packed, whose steps are timed")
    parser.add_argument("--drained", type=int, default=16, help="batches of a pass with decoding")
    parser.add_argument("--slower", type=float, default=2.0, help="the model than the data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="docs/results/data.md")
    options = parser.parse_args()
    folder = cache_root() / "benchmark"
    kinds = [((96, 64), 15, 16, seconds) for seconds in SECONDS]
    made = mixed.packed(
        mixed.examples(folder / "mixed", kinds, options.rows, RULE, length=LENGTH),
        rows=ROWS, length=LENGTH, buckets=BUCKETS,
    )  # fmt: skip
    packed, naive = fills(made, options.windows)
    shares = [["packed", packed], [f"{ROWS} samples, padded to the longest", naive]]
    texts = [table(FILL, [[name, f"{share:.1%}"] for name, share in shares])]
    print(texts[-1], flush=True)
    for headers, rows in ((STEPS, steps), (LOADER, overhead)):
        texts.append(table(headers, rows(made, options)))
        print(texts[-1], flush=True)
    decoded = mixed.packed(
        mixed.examples(folder / "decoded", [((640, 360), 30, 16, 10)], 2_000, DECODED, length=512),
        rows=1, length=512, buckets=1, window=256,
    )  # fmt: skip
    texts.append(table(FEEDS, feeding(decoded, options)))
    print(texts[-1])
    if options.out != "-":
        numbers = dict(length=LENGTH, rows=ROWS, window=mixed.WINDOW, lengths=LENGTHS)
        Path(options.out).write_text(
            PAGE.format(options=options, texts=texts, mix=mix(made), **numbers)
        )


def mix(made: PackedBatches) -> str:
    """How long the samples are."""
    sizes = made.examples.sizes(made.examples.mixture.epoch(0)[: mixed.WINDOW])
    sizes = sizes[sizes[:, 0] > 0]
    at = (5, 50, 95, 100)
    tokens, pictures = (np.percentile(column, at).astype(int) for column in sizes.T)
    rows = [("tokens", *tokens), ("pictures", *pictures)]
    return table(("of a sample", *(f"{n} %" for n in at)), rows)


PAGE = """# Batches of conversations: packing, the loader, the gauge

    ./launch/local python benchmarks/data.py

{options.rows} generated rows (captions, several turns, two videos, text alone) about generated
clips of 1 to 16 s, one frame a second, vjax-tiny's tokenizer and template. Medians over
{options.rounds} rounds in which the sides take turns.

```
{mix}
```

## How full

Rows of {length} tokens and shorter ones, chosen by the command, packed in windows of
{window} samples; beside it {rows} samples to a batch in the order they come, padded to the longest
of them.

```
{texts[0]}
```

## Steps

Train steps of vjax-tiny (LoRA, float32) over the same {options.batches} packed batches and over
their samples padded, as many to a batch as give it about as many tokens. Padded batches are cut to
the next of {lengths} tokens, and to whole sixteens of pictures, for each shape is a program to
compile; nothing of that is counted.

```
{texts[1]}
```

## The loader

Making batches where the frames are there: template, tokenizer, labels, packing into arrays. vjax
makes them with plan, layout and checks; the PyTorch side is a DataLoader without workers whose
dataset uses transformers' `apply_chat_template` and the tokenizer twice a turn (the way to labels
where a template marks no answers), and whose collator is transformers'
`DataCollatorWithFlattening`. It is given the samples of each batch and how many frames each shows,
and need not plan. Both make the same number of tokens, or the command stops. vjax copies pictures
to one buffer, and the other side joins them.

```
{texts[2]}
```

## "data can feed N samples/s, model wants M"

{options.drained} batches of real decoding (clips of 640x360, 10 s, a key frame every 30; 8 frames
of each), drained as fast as they come, and behind a model that sleeps {options.slower:g} times as
long as a batch took. *Cores* are those kept busy while drained: where other work shares the
machine it is fewer than the gauge counts on. *Told by drained*: what the gauge told behind the
slow model, to what was drained in the same round; *worst*: of all rounds; *wants by true*: what it
told of the model, to what that sleep makes.

```
{texts[3]}
```
"""


if __name__ == "__main__":
    main()
