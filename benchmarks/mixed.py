"""Generated rows about generated clips, opened as a job opens them: examples and packed batches."""

import dataclasses
import functools
from pathlib import Path

import clips
import conversations
import numpy as np

from vjax.data.batches import PackedBatches
from vjax.data.examples import Examples
from vjax.data.footage import Footage
from vjax.data.mixture import Mixture, Part
from vjax.data.packing import Plan, choose_buckets
from vjax.data.sources import Conversations
from vjax.families import read_spec
from vjax.interop.checkpoint import PRESETS
from vjax.prompts.chat import Chat
from vjax.video.index import build
from vjax.video.reader import Reader
from vjax.video.strategies import Sampling

TINY = PRESETS / "vjax-tiny"
SPEC = read_spec(TINY)
WINDOW = 1024


class Ready(Footage):
    """Footage whose pixels are there: what is left is the loader's own work."""

    pool = np.random.default_rng(0).integers(
        0, 256, (64, *[SPEC.vision.image_size] * 2, 3), np.uint8
    )
    spent = (0, 0.0, 0.0, 0.0)

    def read(self, frames, rows):
        return self.pool[np.arange(len(rows)) % len(self.pool)]


def examples(folder: Path, kinds: list[tuple], count: int, rule: Sampling, **options) -> Examples:
    """`count` rows about clips of several kinds, (size, key frame gap, number, seconds) each."""
    paths = [path for kind in kinds for path in clips.make(folder, *kind)]
    index = build(paths, folder / f"{len(paths)}-{count}.parquet", folder)
    rows = folder / f"{len(paths)}-{count}.jsonl"
    conversations.write(rows, conversations.rows(count, [str(path) for path in paths]))
    source = Conversations(rows, folder)
    return Examples(
        Mixture([Part(len(source))], seed=0),
        [source],
        Ready(index, Reader, size=SPEC.vision.image_size, resize="swscale"),
        Chat.from_folder(TINY, SPEC),
        rule,
        on_long="skip",
        **options,
    )


def packed(made: Examples, *, rows: int, length: int, buckets: int, window: int = WINDOW):
    """Their batches, in shapes chosen as the job chooses them."""
    sizes = made.within(length, None).sizes(made.mixture.epoch(0)[:window])
    table = choose_buckets(
        sizes[sizes[:, 0] > 0],
        rows=rows,
        length=length,
        most=buckets,
        attention=6.0 * SPEC.text.width,
    )
    made = made.within(length, table[-1].pictures)
    plan = Plan(made.mixture.epoch, made.sizes, table, window=window, seed=0)
    return PackedBatches(plan, made, SPEC.pad_token_id, SPEC.vision.image_size, made.chat.patches)


def read_by(batches: PackedBatches, workers: int) -> PackedBatches:
    """The same batches, their frames decoded by so many children; 0: by the threads themselves."""
    made = batches.examples.within(batches.examples.length, batches.examples.pictures)
    footage = made.footage
    opened = functools.partial(Reader, len(footage.index), workers=workers, deadline=60.0)
    made.footage = Footage(footage.index, opened, size=footage.size, resize=footage.resize)
    return dataclasses.replace(batches, examples=made)
