"""Batches of a mixture of conversation files: opened, indexed, planned."""

import dataclasses
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from flax import nnx
from jax.sharding import Mesh

from vjax.config import Config, Rows, cache_root
from vjax.console import UserError, progress, say, table
from vjax.data import device
from vjax.data.batches import PackedBatches
from vjax.data.examples import Examples, Samples
from vjax.data.footage import Footage, StoredFootage, is_stored
from vjax.data.gauge import Gauge
from vjax.data.mixture import Mixture, Part
from vjax.data.packing import LEFT_OUT, Plan, choose_buckets, fill
from vjax.data.pipeline import batches
from vjax.data.rows import BadFile
from vjax.data.samples import BadRow
from vjax.data.sizes import KeptSizes, name_of
from vjax.data.sources import Conversations, Labelled, is_labelled
from vjax.jobs import _features
from vjax.jobs._corpus import judge, open_clips
from vjax.jobs._model import Interface, Loaded, dtype_of
from vjax.jobs.index import open_index
from vjax.jobs.store import directory_of
from vjax.sharding import place
from vjax.train.loss import token_loss
from vjax.video.index import Index
from vjax.video.reader import Reader
from vjax.video.shards import FrameStore
from vjax.video.store import Drop
from vjax.video.strategies import Sampling

LENGTH_STEP = 512  # row lengths that are found are a multiple
UNLIMITED = 1 << 40


def make(config: Config, workdir: Path, model: Interface) -> PackedBatches:
    """The batches of config.data.mixture, and tables of what is in them.

    Raises:
      UserError: a file, a row or a video that is bad where the config does not let it pass.
    """
    data = config.data
    if not data.mixture:
        raise UserError(
            "there are no rows to train on; name their file: "
            "--config.data.mixture=\"('ROWS.json',)\""
        )
    try:
        sources = [_open(config, rows) for rows in data.mixture]
        for source in sources:
            if not len(source):
                raise BadFile(f"{source.path}: no row in it")
        held = _heldout(list(map(len, sources)), config.eval.items_rows)
        parts = [
            Part(len(source), rows.weight, rows.cap, rows.fraction, count)
            for source, rows, count in zip(sources, data.mixture, held, strict=True)
        ]
        mixture = Mixture(parts, config.seed)
        index, said = _index(config, sources)
        reader = functools.partial(
            Reader,
            len(index),
            workers=_children(config),
            deadline=data.deadline_s,
            on_bad=data.on_bad_clip,
            max_bad_share=data.max_bad_share,
            quarantine=workdir / "quarantine.jsonl",
        )
        options = dict(size=model.video.image_size, resize=model.video.resize)
        if data.stored:
            footage = StoredFootage(_store(config), data.clips, index, reader, **options)
        else:
            footage = Footage(index, reader, **options)
        examples = Examples(
            mixture,
            sources,
            footage,
            model.chat,
            Sampling(**dataclasses.asdict(config.sampling)),
            length=data.row_tokens or UNLIMITED,
            budgets=[rows.frames for rows in data.mixture],
            seed=config.seed,
            on_long=data.on_long,
            on_bad=data.on_bad_clip,
            on_left_out=LeftOut(workdir / "left_out.jsonl", mixture, sources),
        )
        return _batches(config, examples, said, model)
    except (BadFile, BadRow, FileNotFoundError) as error:
        raise UserError(f"data.mixture: {error}") from error


def _open(config: Config, rows: Rows) -> Samples:
    if is_labelled(rows.path):
        return Labelled(rows.path, open_clips(config, rows.path, rows.folder), rows.prompt)
    folder = rows.folder or None
    return Conversations(rows.path, cache_root() / "rows", folder=folder, prompt=rows.prompt)


def _store(config: Config) -> FrameStore:
    """The frame store of data.clips."""
    if not config.data.clips:
        raise UserError("data.stored needs the folder that --job=store was run on: data.clips")
    try:
        return FrameStore(directory_of(config, Path(config.data.clips)))
    except ValueError as error:
        raise UserError(str(error)) from error


def _heldout(sizes: Sequence[int], count: int) -> list[int]:
    """Rows held out of each source: in proportion, a tenth of it at most."""
    share = min(count / max(1, sum(sizes)), 0.1)
    return [int(share * size) for size in sizes]


def _index(config: Config, sources: Sequence[Samples]) -> tuple[Index, str]:
    """The index of every file that a row names, and a hash of all rows, which are checked so."""
    paths: dict[str, str] = {}  # and the first row that names each
    said = hashlib.blake2b(digest_size=16)
    with progress(total=sum(map(len, sources)), desc="rows", unit="row") as bar:
        for source in sources:
            for n in range(len(source)):
                sample = source[n]
                for medium in sample.media:
                    if not (config.data.stored and is_stored(medium, config.data.clips)):
                        paths.setdefault(os.path.abspath(medium.path), source.name(n))
                said.update(repr(sample).encode())
                bar.update()
    key = json.dumps([str(Path(rows.path).resolve()) for rows in config.data.mixture])
    name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    root = Path(os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else "/")
    file = cache_root() / "index" / f"rows-{name}.parquet"
    files = [Path(path) for path in sorted(paths)]
    index = open_index(config, root, files, file, motion=config.sampling.kind == "motion")
    bad = [
        Drop(str(root / path), error, f"{paths[str(root / path)]} shows {reason}")
        for path, error, reason in index.bad
    ]
    if len(bad) == len(files) > 0:
        raise UserError(
            f"none of {len(files)} files that rows name can be read; paths are relative to the "
            f"file of rows, or to its `folder` in data.mixture. The first: {bad[0].reason}"
        )
    judge(config, {"rows": files}, bad)
    if bad:
        say(f"{len(bad)} of {len(files)} files are bad, their rows are left out")
    return index, said.hexdigest()


class LeftOut:
    """Writes down the samples that are not used, each once: a JSON line with its id and why."""

    def __init__(self, file: Path, mixture: Mixture, sources: Sequence[Samples]):
        self.file, self.mixture, self.sources = file, mixture, sources
        self._begin()

    def _begin(self):
        self._lock = threading.Lock()
        self.numbers = set()
        if self.file.exists():
            self.numbers = {json.loads(line)["number"] for line in self.file.open()}

    def __call__(self, number: int, error: Exception):
        with self._lock:
            if number in self.numbers:
                return
            self.numbers.add(number)
            source, row = self.mixture.locate(number)
            line = {"number": number, "file": str(self.sources[source].path), "row": row}
            line["name"] = self.sources[source].name(row)
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"reason": str(error)}) + "\n")

    def __getstate__(self):
        return {name: self.__dict__[name] for name in ("file", "mixture", "sources")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._begin()


def _batches(config: Config, examples: Examples, said: str, model: Interface) -> PackedBatches:
    data, options, mixture = config.data, config.train, examples.mixture
    first = mixture.epoch(0)[: data.window]
    sizes = examples.sizes(first)
    sizes = sizes[sizes[:, 0] != LEFT_OUT]
    if left := len(first) - len(sizes):
        say(f"{left} of the first {len(first)} samples are not used: see left_out.jsonl")
    if not len(sizes):
        raise UserError(f"none of the first {len(first)} samples can be used; see left_out.jsonl")
    length = data.row_tokens or -(-int(sizes[:, 0].max()) // LENGTH_STEP) * LENGTH_STEP
    buckets = choose_buckets(
        sizes,
        rows=options.batch_size * options.accumulate,
        length=length,
        most=data.buckets,
        # 24 D^2 operations a token and layer against 4 T D of attention, D the decoder's width
        attention=6.0 * model.spec.text.width,
    )
    examples = examples.within(length, buckets[-1].pictures)
    kept = KeptSizes(cache_root() / "sizes" / name_of(examples, said), len(mixture), examples.sizes)
    made = PackedBatches(
        Plan(mixture.epoch, kept, buckets, window=data.window, seed=config.seed),
        examples,
        model.spec.pad_token_id,
        model.video.image_size,
        model.chat.patches,
        options.accumulate,
    )
    say(_shown_as(model))
    counts = zip(data.mixture, mixture.parts, mixture.counts, strict=True)
    rows = [(source.path, part.size, count) for source, part, count in counts]
    say(table(("mixture", "rows", "an epoch takes"), rows))
    say(table(("batch rows", "tokens", "pictures, each"), buckets))
    tokens = sum(mixture.counts) / len(sizes) * sizes[:, 0].sum()
    share = fill(sizes, buckets)
    steps = tokens / share / (buckets[-1].rows * length)
    say(
        f"the first {len(sizes)} samples fill {share:.1%} of their rows; by them an epoch is "
        f"about {steps:,.0f} steps"
    )
    return made


def _shown_as(model: Interface) -> str:
    """In which form pictures reach the model, for people."""
    video, frames = model.video, model.spec.video_frames
    one = f"{frames} frames" if frames else "its frames, each set apart"
    return (
        f"pictures are squares of {video.image_size} pixels, proportions not kept (resize "
        f"{video.resize}); a video is {one}, without their times"
    )


def gauge(config: Config) -> Gauge:
    """Of the threads and children that make batches."""
    data = config.data
    processes = max(1, data.processes)
    return Gauge(
        threads=processes * data.read_threads,
        children=processes * _children(config),
        processes=processes,
    )


def _children(config: Config) -> int:
    """That decode for each process which makes batches."""
    return -(-config.data.workers // max(1, config.data.processes))


def heldout_loss(
    config: Config, made: PackedBatches, loaded: Loaded, mesh: Mesh
) -> Callable[[nnx.State], dict]:
    """trainable -> mean loss of the answers' tokens in the rows held out; {} where there are none.

    Frames are the fixed choice of evaluation. What is compiled serves every call.
    """
    numbers = made.examples.mixture.heldout
    if not len(numbers):
        return lambda trainable: {}
    plan = Plan(
        lambda epoch: numbers, made.plan.sizes, made.plan.buckets, window=len(numbers), seed=0
    )
    judged = dataclasses.replace(made, plan=plan, training=False)

    @jax.jit
    def loss(trainable, frozen, batch):
        model = nnx.merge(loaded.graphdef, trainable, frozen)
        return token_loss(model, batch, dtype=dtype_of(config), remat=False, key=None)

    features = _features.make(config, loaded.parts, mesh)
    make_batch = features.wrap(judged) if features else judged

    @_features.told()
    def mean(trainable: nnx.State) -> dict:
        total, tokens, steps = 0.0, 0.0, plan.steps(0)
        with jax.set_mesh(mesh), progress(total=steps, desc="held-out rows", unit="batch") as bar:
            state = place(mesh, (trainable, loaded.frozen))
            for batch in batches(make_batch, 0, steps, threads=config.data.read_threads):
                batch = features(batch) if features else batch
                values = loss(*state, device.put(batch, mesh, share=judged.share))
                total, tokens = total + float(values[0]), tokens + float(values[1])
                bar.update()
        if features:
            features.close("held-out rows")
        return {"loss": total / max(tokens, 1.0), "tokens": tokens, "samples": len(numbers)}

    return mean


def told(values: Mapping) -> str:
    """The results of a run on rows, for people."""
    held = values["rows"].get("heldout")
    if not held:
        return "no rows were held out (eval.items_rows): nothing was judged"
    row = (held["samples"], int(held["tokens"]), held["loss"], held["loss_after"])
    return table(("held-out rows", "answer tokens", "loss before", "after"), [row])
