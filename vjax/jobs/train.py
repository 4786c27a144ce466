"""The main job: clips, suites, before, SF2T training, after, results.json and report.html."""

import dataclasses
import importlib.metadata
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp

from vjax.checkpoints import Checkpoints
from vjax.config import Config, to_dict
from vjax.console import UserError, progress, say, table
from vjax.data import device
from vjax.data.fragments import ROW_TOKENS, FragmentBatches, Lengths
from vjax.data.pipeline import batches
from vjax.data.plan import TrainPlan
from vjax.evals import summary
from vjax.evals.items import ItemResult, read_items, write_items
from vjax.evals.report import make_strip, write_report
from vjax.jobs import _corpus, _model, _suites
from vjax.sharding import make_mesh, replicate, shardings_of
from vjax.train import loop, optimizer
from vjax.train.metrics import Metrics, read_metrics
from vjax.train.step import TrainState, make_step

STRIPS_PER_TASK = 3


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
        say(summary.table(summary.read_results(finished)))
        return
    clock = Clock()
    corpus = _corpus.prepare(config)
    clock.phase("clips")
    loaded = _model.load(config)
    say(_model.parameter_table(loaded))
    suites, drops = _suites.make(config, corpus, loaded.video)
    clock.phase("suites")
    before = score(config, workdir, suites, loaded, loaded.trainable, corpus, "before")
    clock.phase("evaluate before")
    plan = make_plan(config, corpus, loaded)
    clock.phase("plan")
    state = train(config, workdir, plan, loaded)
    clock.phase("train")
    after = score(config, workdir, suites, loaded, state.trainable, corpus, "after")
    clock.phase("evaluate after")
    results = summary.results(
        [item for items in before.values() for item in items],
        [item for items in after.values() for item in items],
        dropped=dropped(corpus, {"held-out": drops, "train": plan.epoch(0).drops}, plan),
        config=to_dict(config),
        versions=versions(),
        seconds=clock.seconds,
        samples=config.eval.bootstrap,
    )
    shown = write_report(
        workdir / "report.html",
        results,
        read_metrics(workdir / "metrics.jsonl"),
        strips(suites, corpus, before, after),
    )
    summary.write_results(finished, results)
    say(summary.table(results))
    say(f"report with {shown} examples: {workdir / 'report.html'}")
    say("  ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


def make_plan(config: Config, corpus: _corpus.Corpus, loaded: _model.Loaded) -> TrainPlan:
    """The training items, and a table of what they are."""
    options = config.fragments
    try:
        plan = TrainPlan(
            corpus.train,
            corpus.clip_of,
            _suites.fragment_config(config, loaded.video, config.seed),
            weights=dataclasses.asdict(options.weights),
            procedural_share=config.data.procedural_share,
            batch_size=config.train.batch_size,
            length_of=Lengths(loaded.chat, corpus.clip_of),
        )
        counts = plan.histogram()
    except ValueError as error:
        raise UserError(str(error)) from error
    total = sum(count for *_, count in counts)
    rows = [(source, task, count, f"{count / total:.0%}") for source, task, count in counts]
    say(table(("clips", "task", "items an epoch", "share"), rows))
    return plan


def train(config: Config, workdir: Path, plan: TrainPlan, loaded: _model.Loaded) -> TrainState:
    """Takes the steps that are left, from the newest checkpoint on."""
    options = config.optim
    lr = optimizer.schedule(
        options.schedule, lr=options.lr, steps=config.train.steps, warmup=options.warmup
    )
    try:
        tx = optimizer.make(
            loaded.trainable,
            lr,
            b1=options.b1,
            b2=options.b2,
            eps=options.eps,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            groups=options.groups,
        )
        mesh = make_mesh(**to_dict(config)["mesh"])
    except ValueError as error:
        raise UserError(str(error)) from error
    shape = plan.shape(ROW_TOKENS, image_size=loaded.video.image_size, patches=loaded.chat.patches)
    make_batch = FragmentBatches(
        plan,
        loaded.chat,
        shape,
        loaded.spec.pad_token_id,
        accumulate=config.train.accumulate,
        shuffle_labels=config.train.control == "shuffle_labels",
    )
    with jax.set_mesh(mesh):
        frozen = replicate(mesh, loaded.frozen)
        trainable = jax.tree.map(
            jnp.copy, loaded.trainable
        )  # the step donates; the start values stay with `loaded`
        state = replicate(mesh, TrainState(trainable, tx.init(trainable), jnp.zeros((), jnp.int32)))
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            max_to_keep=config.checkpoint.max_to_keep,
            save_interval=config.checkpoint.every,
        )
        seen = 0
        start = checkpoints.latest_step() or 0
        if start:
            saved = checkpoints.restore(
                start, like={"trainable": state.trainable, "optimizer": state.optimizer}
            )
            state = TrainState(saved.trainable, saved.optimizer, jnp.asarray(start, jnp.int32))
            seen = saved.counters["items_seen"]
            say(f"resuming after step {start} of {config.train.steps}")
        one = make_step(
            loaded.graphdef,
            tx,
            dtype=_model.dtype_of(config),
            remat=config.train.remat,
            accumulate=config.train.accumulate,
            seed=config.seed,
            dropout=config.lora.dropout > 0,
        )
        step = jax.jit(one, donate_argnums=0, out_shardings=(shardings_of(state), None))
        items_a_step = config.train.batch_size * config.train.accumulate

        def save(done: int, state: TrainState, last: bool):
            counters = {
                "step": done,
                "next_batch": done,
                "seed": config.seed,
                "items_seen": seen + (done - start) * items_a_step,
            }
            force = last and (config.checkpoint.save_on_exit or done == config.train.steps)
            about = {"config": to_dict(config), "video_spec": dataclasses.asdict(loaded.video)}
            checkpoints.save(done, state.trainable, state.optimizer, counters, about, force=force)
            if last:
                checkpoints.wait()

        metrics = Metrics(workdir, start)
        try:
            with (
                checkpoints,
                progress(total=config.train.steps, initial=start, desc="train", unit="step") as bar,
            ):
                return loop.fit(
                    state,
                    lambda state, batch: step(state, frozen, batch),
                    batches(
                        make_batch, start, config.train.steps, threads=config.data.read_threads
                    ),
                    start=start,
                    stop=config.train.steps,
                    put=lambda batch: device.put(batch, mesh, stacked=config.train.accumulate > 1),
                    save=save,
                    metrics=metrics,
                    lr=lambda n: float(lr(n)),
                    bar=bar,
                    log_every=config.train.log_every,
                )
        except loop.Stopped as stopped:
            raise UserError(str(stopped)) from stopped
        finally:
            metrics.close()


def score(config, workdir, suites, loaded, state, corpus, what: str) -> dict[str, list[ItemResult]]:
    """Item results of all suites, read back where an earlier call wrote eval/SUITE.WHAT.jsonl."""
    files = {
        suite: workdir / "eval" / f"{suite.replace('/', '-')}.{what}.jsonl" for suite in suites
    }
    if all(file.exists() for file in files.values()):
        return {suite: read_items(file) for suite, file in files.items()}
    found = _suites.run(config, suites, loaded, state, corpus, what)
    for suite, items in found.items():
        files[suite].parent.mkdir(parents=True, exist_ok=True)
        write_items(files[suite], items)
    return found


def dropped(corpus: _corpus.Corpus, drops: dict, plan: TrainPlan) -> dict:
    """What was left out and why: files by decoding, clips without a decidable set."""
    files = Counter(drop.error for drop in corpus.dropped)
    out = {
        "files": {
            "n": len(corpus.dropped),
            "of": sum(corpus.files.values()),
            "reasons": dict(files),
        }
    }
    of = {
        "train": sum(len(keys) for keys in corpus.train.values()),
        "held-out": sum(len(keys) for keys in corpus.heldout.values()),
    }
    for what, lost in drops.items():
        reasons = Counter(drop.reason for drop in lost)
        out[f"{what} clips"] = {"n": len(lost), "of": of[what], "reasons": dict(reasons)}
    return out


def versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av", "vjax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            from vjax import __version__

            found[name] = __version__
    return found


def strips(suites, corpus: _corpus.Corpus, before, after) -> list:
    """Examples for the report: of each suite and task, items that changed first."""
    chosen = []
    for suite, items in suites.items():
        old = {item.id: item for item in before[suite]}
        new = {item.id: item for item in after[suite]}
        tasks: dict[str, list] = {}
        for item in items:
            tasks.setdefault(new[item.id].task, []).append(item)
        for group in tasks.values():
            group.sort(key=lambda item: (old[item.id].correct - new[item.id].correct, item.id))
            picks = group[: STRIPS_PER_TASK - 1] + group[-1:]
            for item in picks:
                credit, showable = corpus.credits.get(
                    new[item.id].group, (new[item.id].group, False)
                )
                prompt = item.prompt(corpus.clip_of)
                chosen.append(
                    make_strip(prompt, old[item.id], new[item.id], showable=showable, source=credit)
                )
    return chosen
