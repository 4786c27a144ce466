"""The steps of a run: state, checkpoints, metrics and the loop, put together once for every job."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from vjax import distributed
from vjax.checkpoints import Checkpoints
from vjax.config import Config, to_dict
from vjax.console import Interrupted, UserError, progress, say
from vjax.data import device
from vjax.data.gauge import Gauge, Timed
from vjax.data.order import Zigzag
from vjax.data.pipeline import batches
from vjax.families.spec import VideoSpec
from vjax.jobs import _features
from vjax.jobs._model import dtype_of, mesh_of
from vjax.plan import machines
from vjax.plan.step import compiled as compiled_step
from vjax.plan.step import refusal
from vjax.sharding import check_split, place, platform, replicate, shardings, shardings_of
from vjax.train import loop, optimizer
from vjax.train.metrics import Metrics, Unwritten
from vjax.train.step import TrainState, make_step


def make_tools(
    config: Config, trainable: nnx.State, groups: Sequence[str] = ()
) -> tuple[optax.GradientTransformation, optax.Schedule, Mesh]:
    """Optimiser, learning rate and mesh: what a config may ask for in vain, so before any work.

    Raises as `make_optimizer`, and a UserError for a mesh larger than the machine.
    """
    return *make_optimizer(config, trainable, groups), mesh_of(config)


def make_optimizer(
    config: Config, trainable: nnx.State, groups: Sequence[str] = ()
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Optimiser and learning rate.

    Args:
      groups: `REGEX=MULTIPLIER` of the learning rate, before those of optim.groups.

    Raises:
      UserError: optim.groups that match nothing.
    """
    options = config.optim
    lr = optimizer.schedule(
        options.schedule, lr=options.lr, steps=config.train.steps, warmup=options.warmup
    )
    try:
        tx = optimizer.make(
            trainable,
            lr,
            b1=options.b1,
            b2=options.b2,
            eps=options.eps,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            groups=(*groups, *options.groups),
            b_lr_ratio=config.lora.b_lr_ratio,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return tx, lr


def jitted_step(config: Config, graphdef: nnx.GraphDef, tx, lie):
    """step(state, frozen, batch); `lie`: where the state's arrays do, None where it is not said."""
    step = make_step(
        graphdef,
        tx,
        dtype=dtype_of(config),
        remat=config.train.remat,
        accumulate=config.train.accumulate,
        seed=config.seed,
        dropout=config.lora.dropout > 0,
    )
    return jax.jit(step, donate_argnums=0, out_shardings=None if lie is None else (lie, None))


@_features.told()
def fit(
    config: Config,
    workdir: Path,
    make_batch: Callable[[int], dict[str, np.ndarray]],
    parts: tuple[nnx.GraphDef, nnx.State, nnx.State],
    video: VideoSpec,
    tx: optax.GradientTransformation,
    lr: optax.Schedule,
    mesh: Mesh,
    *,
    shapes: Sequence[dict[str, np.ndarray]] = (),
    share: tuple[tuple[int, ...], int] | None = None,
    gauge: Gauge | None = None,
) -> tuple[TrainState, float]:
    """Takes the steps that are left, from the newest checkpoint on.

    Args:
      make_batch: batch i, a pure function of i.
      parts: graphdef, trainable and frozen variables; these start values are left as they are.
      video: saved beside the weights.
      shapes: a batch of each shape that may come; the step is compiled for all of them first.
      share: of a batch that make_batch gives, see `vjax.data.device.put`.
      gauge: of how the data keeps up; None for one of the threads that make batches.

    Returns:
      The state after the last step, and the run's seconds over all sittings.
    """
    began = time.perf_counter()
    processes = max(1, config.data.processes)
    threads = processes * config.data.read_threads
    gauge = gauge or Gauge(threads=threads, children=0, processes=processes)
    graphdef, trainable, frozen = parts
    with jax.set_mesh(mesh):
        try:
            check_split(mesh, (trainable, frozen))
        except ValueError as error:
            raise UserError(str(error)) from error
        frozen = place(mesh, frozen)
        trainable = place(mesh, jax.tree.map(jnp.copy, trainable))  # the step donates
        init = jax.jit(tx.init, out_shardings=shardings(mesh, jax.eval_shape(tx.init, trainable)))
        zero = replicate(mesh, jnp.zeros((), jnp.int32))
        state = TrainState(trainable, init(trainable), zero)
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            max_to_keep=config.checkpoint.max_to_keep,
            save_interval=config.checkpoint.every,
        )
        seen, before = 0, 0.0
        start = checkpoints.latest_step() or 0
        if start:
            saved = checkpoints.restore(
                start, like={"trainable": state.trainable, "optimizer": state.optimizer}
            )
            at = replicate(mesh, jnp.asarray(start, jnp.int32))
            state = TrainState(saved.trainable, saved.optimizer, at)
            seen, before = saved.counters["items_seen"], saved.counters.get("seconds", 0.0)
            say(f"resuming after step {start} of {config.train.steps}")
        step = jitted_step(config, graphdef, tx, shardings_of(state))

        numbers = itertools.count(start)
        features = _features.make(config, parts, mesh)

        def put(batch):
            if "plan" in batch:
                distributed.agree_on_batch(next(numbers), batch["plan"].tobytes().hex())
            batch = features(batch) if features else batch
            return device.put(batch, mesh, stacked=config.train.accumulate > 1, share=share)

        context = config.mesh.context
        if context > 1 and config.model.context_parallel != "ulysses":
            make_batch = Zigzag(make_batch, context, stacked=config.train.accumulate > 1)
        if features:
            make_batch = features.wrap(make_batch)
        compiled = {}

        def compile_for(state, batch):
            arguments = state, frozen, batch
            if "images" in batch:
                count = batch["images"].shape[config.train.accumulate > 1]
                if more := -count % mesh.size:
                    say(f"{count} pictures over {mesh.size} devices: {more} black ones join them")
            rows, ways = batch["tokens"].shape[-2], config.mesh.data * config.mesh.fsdp
            if rows % ways:
                say(
                    f"warning: {rows} rows over {ways} devices do not come out even, so that each "
                    "computes all of them: set --config.train.batch_size to a multiple"
                )
            made, memory = compiled_step(step.lower(*arguments), arguments)
            if why := refusal(config, memory, machines.memory_of(mesh.local_devices[0])):
                if made is None or platform() != "cpu":
                    raise UserError(why)
                say(f"warning: {why}")
            return made

        with progress(total=len(shapes), desc="compile", unit="shape") as bar:
            for batch in shapes:
                batch = put(batch)
                compiled[batch["tokens"].shape] = compile_for(state, batch)
                bar.update()

        def take(state, batch):
            shape = batch["tokens"].shape
            if not shapes and shape not in compiled:  # else it is in the table
                compiled[shape] = compile_for(state, batch)
            return compiled[shape](state, frozen, batch)

        items_a_step = config.train.batch_size * config.train.accumulate

        def save(done: int, state: TrainState, last: bool):
            counters = {
                "step": done,
                "next_batch": done,
                "seed": config.seed,
                "items_seen": seen + (done - start) * items_a_step,
                "seconds": before + time.perf_counter() - began,
            }
            force = last and (config.checkpoint.save_on_exit or done == config.train.steps)
            about = {"config": to_dict(config), "video_spec": dataclasses.asdict(video)}
            checkpoints.save(done, state.trainable, state.optimizer, counters, about, force=force)
            if last:
                checkpoints.wait()

        metrics = Metrics(workdir, start) if distributed.is_first() else Unwritten()
        try:
            with (
                checkpoints,
                progress(total=config.train.steps, initial=start, desc="train", unit="step") as bar,
            ):
                state = loop.fit(
                    state,
                    take,
                    batches(
                        Timed(make_batch),
                        start,
                        config.train.steps,
                        threads=config.data.read_threads,
                        workers=config.data.processes,
                    ),
                    start=start,
                    stop=config.train.steps,
                    put=put,
                    save=save,
                    metrics=metrics,
                    lr=lambda n: float(lr(n)),
                    bar=bar,
                    log_every=config.train.log_every,
                    save_every=config.checkpoint.every,
                    gauge=gauge,
                )
        except loop.Stopped as stopped:
            at = checkpoints.latest_step() or 0
            message = f"{stopped}; the same command goes on after step {at}"
            raise Interrupted(message, stopped.signal) from stopped
        finally:
            metrics.close()
            if features:
                features.close("train")
    return state, before + time.perf_counter() - began
