"""The main job: clips, suites, before, SF2T training, after, results.json and report.html."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from vjax import distributed
from vjax.config import Config, to_dict
from vjax.console import UserError, say, table
from vjax.data.conversations import SceneClip, about
from vjax.data.fragments import FragmentBatches, Lengths, row_tokens, with_rehearsal
from vjax.data.plan import TrainPlan
from vjax.data.samples import BadRow
from vjax.data.scenes import ConversationBatches, batch_shape
from vjax.evals import summary
from vjax.evals.items import ItemResult
from vjax.evals.report import write_report
from vjax.fragments import Drop
from vjax.interop import check_weights
from vjax.jobs import _corpus, _model, _rehearsal, _rows, _scores, _suites
from vjax.jobs._fit import fit, make_tools
from vjax.sharding import Share, row_share
from vjax.train.metrics import read_metrics
from vjax.video.errors import VideoError
from vjax.video.files import written_whole


class Clock:
    """Seconds by phase; phases do not overlap."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def phase(self, name: str):
        """Books the time since the last call under `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Trains, or goes on where an earlier call stopped, or shows the results of a finished run."""
    finished = workdir / "results.json"
    if finished.exists():
        say(f"{workdir} is finished; --fresh starts over")
        values = summary.read_results(finished)
        say(_rows.told(values) if "rows" in values else summary.table(values))
        return
    clock = Clock()
    known = _model.interface(config)
    _refuse(config, known)
    if config.train.questions == "rows":
        _on_rows(config, workdir, known, clock)
        return
    corpus = _corpus.prepare(config)
    clock.phase("clips")
    suites, drops = _suites.make(config, corpus, known)
    clock.phase("suites")
    loaded, tools = _loaded(config)
    clock.phase("model")
    before = score(config, workdir, suites, loaded, loaded.trainable, corpus, "before")
    clock.phase("evaluate before")
    make_batch, lost = make_batches(config, corpus, loaded)
    clock.phase("plan")
    share = getattr(make_batch, "share", None)  # scene questions are made whole everywhere
    state, _ = fit(config, workdir, make_batch, loaded.parts, loaded.video, *tools, share=share)
    clock.phase("train")
    after = score(config, workdir, suites, loaded, state.trainable, corpus, "after")
    clock.phase("evaluate after")
    if not distributed.is_first():
        return
    results = summary.results(
        [item for items in before.values() for item in items],
        [item for items in after.values() for item in items],
        dropped=_scores.dropped(corpus, {"held-out": drops, "train": lost}),
        config=to_dict(config),
        versions=_scores.versions(),
        seconds=clock.seconds,
        samples=config.eval.bootstrap,
    )
    if suites:
        shown = write_report(
            workdir / "report.html",
            results,
            read_metrics(workdir / "metrics.jsonl"),
            _scores.strips(suites, corpus, before, after),
        )
        say(f"report with {shown} examples: {workdir / 'report.html'}")
    else:
        say("no report: nothing was scored, the numbers of items in eval.* are 0")
    summary.write_results(finished, results)
    say(summary.table(results))
    say("  ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


def _refuse(config: Config, known: _model.Interface):
    """What is asked for in vain, before clips, rows and weights are read.

    Raises:
      UserError: a mesh or attention of another machine, or that do not go together; weights that
        are not those of config.json; patterns that match nothing; counting of frames that the
        model does not see.
    """
    _model.check_attention(config, known.spec)
    if config.model.path != "random":
        check_weights(known.folder, _model.slowed_spec(known.folder, config))
    _, trainable, _ = _model.abstract(config, known.spec)
    make_tools(config, trainable)
    if config.train.questions != "rows":
        _suites.tasks(config, known.spec)


def _loaded(config: Config) -> tuple[_model.Loaded, tuple]:
    """The model with its weights, and what `make_tools` makes for it."""
    loaded = _model.load(config)
    say(_model.parameter_table(loaded))
    return loaded, make_tools(config, loaded.trainable)


def _on_rows(config: Config, workdir: Path, known: _model.Interface, clock: Clock):
    """Supervised tuning on data.mixture, judged by the loss on the rows held out."""
    made, mesh = _rows.make(config, workdir, known), _model.mesh_of(config)
    try:
        made = dataclasses.replace(made, **row_share(mesh)._asdict())
    except ValueError as error:
        raise UserError(str(error)) from error
    clock.phase("plan")
    loaded, tools = _loaded(config)
    clock.phase("model")
    heldout_loss = _rows.heldout_loss(config, made, loaded, mesh)
    try:
        file = workdir / "eval" / "rows-before.json"
        if file.exists():
            before = json.loads(file.read_text())
        else:
            before = heldout_loss(loaded.trainable)
            if distributed.is_first():
                with written_whole(file) as partial:
                    partial.write_text(json.dumps(before))
        clock.phase("evaluate before")
        gauge = _rows.gauge(config)
        shapes = [made.empty(bucket) for bucket in range(len(made.plan.buckets))]
        about = dict(shapes=shapes, share=made.share, gauge=gauge)
        state, _ = fit(config, workdir, made, loaded.parts, loaded.video, *tools, **about)
        clock.phase("train")
        after = heldout_loss(state.trainable)
        clock.phase("evaluate after")
    except (BadRow, VideoError) as error:
        raise UserError(f"data.mixture: {error}; the same command goes on from there") from error
    finally:
        made.examples.footage.close()
    if not distributed.is_first():
        return
    found = {"heldout": before | {"loss_after": after["loss"]}} if before else {}
    values = {"schema_version": summary.SCHEMA_VERSION, "rows": found, "config": to_dict(config)}
    values |= {"versions": _scores.versions(), "seconds": clock.seconds}
    summary.write_results(workdir / "results.json", values)
    say(_rows.told(values))
    say("  ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


def make_batches(
    config: Config, corpus: _corpus.Corpus, model: _model.Interface
) -> tuple[FragmentBatches | ConversationBatches, Sequence[Drop]]:
    """The batches that config.train.questions asks for, and the clips that gave no item.

    Rehearsal needs a model that is `Loaded`: it is asked first.
    """
    pad, chat, video = model.spec.pad_token_id, model.chat, model.video
    options = config.train
    if options.questions == "fragments":
        plan = make_plan(config, corpus, model)
        share = Share()
        if distributed.several():
            share = row_share(_model.mesh_of(config), coarse=True)
        shape = plan.shape(
            row_tokens(plan), image_size=video.image_size, patches=chat.patches, of=share.of
        )
        shuffle = options.control == "shuffle_labels"
        count = _rehearsal.count(config)
        rehearsal = _rehearsal.make(config, corpus, model) if count else None
        if rehearsal is not None:
            try:
                shape = with_rehearsal(shape, rehearsal, -(-count // share.of))
            except ValueError as error:
                raise UserError(str(error)) from error
        # as many rows and pictures for every device that a block is split over
        split = config.mesh.data * config.mesh.fsdp // share.of
        shape = dataclasses.replace(
            shape, rows=-(-shape.rows // split) * split, images=-(-shape.images // split) * split
        )
        made = FragmentBatches(
            plan, chat, shape, pad, options.accumulate, shuffle, rehearsal, count, *share
        )
        return made, plan.epoch(0).drops
    keys = corpus.train.get("procedural")
    if not keys:
        raise UserError("train.questions=scenes needs procedural clips (data.procedural_clips)")
    clips = [SceneClip.of(corpus.scenes[k], corpus.clip_of(k), video.image_size) for k in keys]
    shape = batch_shape(options.batch_size, video.image_size, chat.patches)
    made = ConversationBatches(
        about(clips, video.fps), chat, shape, pad, config.seed, accumulate=options.accumulate
    )
    return made, ()


def make_plan(config: Config, corpus: _corpus.Corpus, model: _model.Interface) -> TrainPlan:
    """The training items, and a table of what they are."""
    options = config.fragments
    try:
        plan = TrainPlan(
            corpus.train,
            corpus.clip_of,
            _suites.fragment_config(config, model.video, judged=False),
            weights=dataclasses.asdict(options.weights),
            procedural_share=config.data.procedural_share,
            batch_size=config.train.batch_size,
            length_of=Lengths(model.chat, corpus.clip_of),
        )
        counts = plan.histogram()
    except ValueError as error:
        raise UserError(str(error)) from error
    total = sum(count for *_, count in counts)
    rows = [(source, task, count, f"{count / total:.0%}") for source, task, count in counts]
    say(table(("clips", "task", "items an epoch", "share"), rows))
    return plan


def score(config, workdir, suites, loaded, state, corpus, what: str) -> dict[str, list[ItemResult]]:
    """Item results of all suites, read back where an earlier call wrote them."""
    if all(_scores.file_of(workdir, suite, what).exists() for suite in suites):
        return _scores.read(workdir, suites, what)
    found = _suites.run(config, suites, loaded, state, corpus, what)
    if distributed.is_first():
        _scores.write(workdir, found, what)
    return found
