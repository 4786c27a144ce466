"""What a run's train step costs on a machine that is not here: compiled, counted, not run."""

import dataclasses
import json
import tempfile
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vjax.config import Config
from vjax.console import UserError, say, table
from vjax.data import device
from vjax.data.collate import Shape, collate
from vjax.data.order import TOKEN_FIELDS
from vjax.families.spec import ModelSpec
from vjax.jobs import _corpus, _model, _rehearsal, _rows, train
from vjax.jobs._fit import jitted_step, make_optimizer
from vjax.models.resize import resized_spec
from vjax.plan import flops
from vjax.plan.collectives import traffic
from vjax.plan.machines import Machine
from vjax.plan.step import StepPlan, compiled, duration, gib, suggest
from vjax.prompts.media import Squares
from vjax.sharding import check_split, mesh_over, programs_for, shardings
from vjax.train.step import TrainState
from vjax.video.files import written_whole

TEXT, STEP = 128, 64  # tokens of a row beside its frames; its length is a multiple of
OPTIMISER = "optimizer"


def run(config: Config, workdir: Path, *, fresh: bool = False):
    """Compiles the step for config.plan.topology, prints what it costs, and writes plan.json.

    Raises:
      UserError: a machine that is not known or has no compiler here, or a mesh that does not fit
        it.
    """
    try:
        machine = Machine.named(config.plan.topology)
    except ValueError as error:
        raise UserError(f"plan.topology: {error}") from error
    made, sizes = plan(config, machine)
    change = "" if made.fits else suggest(config, made.memory, machine.chip.memory)
    file = workdir / "plan.json"
    with written_whole(file) as partial:
        about = {"change": change, "config": dataclasses.asdict(config)}
        partial.write_text(json.dumps(as_json(made, sizes) | about, indent=2) + "\n")
    say(told(made, sizes))
    if change:
        say(f"first thing to change: {change}")
    say(f"{file}")


def plan(config: Config, machine: Machine) -> tuple[StepPlan, dict[str, tuple[int, int]]]:
    """The step's figures, and (parameters, bytes) of each group of variables.

    Raises:
      UserError: as `run`.
    """
    shape = tuple(dataclasses.asdict(config.mesh).values())
    if np.prod(shape) != machine.count:
        raise UserError(
            f"plan.topology={machine.name} has {machine.count} chips, and the mesh "
            f"{dataclasses.asdict(config.mesh)} {np.prod(shape)}: set --config.mesh.fsdp and the "
            f"others so that their product is {machine.count}"
        )
    try:
        mesh = mesh_over(machine.devices(), shape)
    except ValueError as error:
        raise UserError(f"plan.topology: {error}") from error
    spec = _spec(config)
    with programs_for(mesh.devices.flat[0].platform):
        _model.check_attention(config, spec)
        graphdef, trainable, frozen = _model.abstract(config, spec)
        tx, _ = make_optimizer(config, trainable)
        with jax.set_mesh(mesh):
            try:
                check_split(mesh, (trainable, frozen))
            except ValueError as error:
                raise UserError(str(error)) from error
            optimizer = jax.eval_shape(tx.init, trainable)
            step = jax.ShapeDtypeStruct(
                (), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec())
            )
            state = TrainState(_placed(mesh, trainable), _placed(mesh, optimizer), step)
            frozen = _placed(mesh, frozen)
            fields, tokens = batch(config, spec, mesh)
            lie = jax.tree.map(lambda leaf: leaf.sharding, state)
            jitted = jitted_step(config, graphdef, tx, lie)
            lowered = jitted.lower(state, frozen, fields)
            program, memory = compiled(lowered, (state, frozen, fields))
    sizes = {"trainable": _size(trainable), "frozen": _size(frozen), OPTIMISER: _size(optimizer)}
    arguments = jax.tree.map(_bare, (state, frozen, fields))
    needed = work = _work(config, spec, arguments, remat=False)
    if config.train.remat:
        work = _work(config, spec, arguments, remat=True)
    made = StepPlan(
        machine,
        memory,
        work,
        float(sum(needed.values())),
        traffic(program.as_text(), mesh.shape) if program else None,
        tokens,
        dict(mesh.shape),
    )
    return made, sizes


def _bare(leaf) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _work(config: Config, spec: ModelSpec, arguments: tuple, *, remat: bool) -> Counter:
    """FLOPs of a step, on whatever mesh: attention as written down, half of it where causal."""
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, attention="xla"),
        train=dataclasses.replace(config.train, remat=remat),
    )
    graphdef, trainable, _ = _model.abstract(config, spec)
    tx, _ = make_optimizer(config, trainable)
    step = jitted_step(config, graphdef, tx, None)
    return flops.of_step(step.trace(*arguments).jaxpr)


def _spec(config: Config) -> ModelSpec:
    try:
        spec = _model.slowed_spec(_model.folder_of(config), config)
    except (ValueError, OSError) as error:
        raise UserError(f"model.path {config.model.path!r}: {error}") from error
    if spec.vision is not None and config.model.image_size:
        spec = resized_spec(spec, config.model.image_size)
    return spec


def batch(config: Config, spec: ModelSpec, mesh: Mesh) -> tuple[dict, int]:
    """Shapes of a batch's fields on the mesh, and its tokens."""
    k = config.train.accumulate
    if not config.plan.frames and spec.vision is not None:
        one = _first_batch(config)
        shapes = {name: (field.shape, field.dtype) for name, field in one.items()}
        say(f"a step of the run's own batches, tokens {list(one['tokens'].shape)}")
        return _fields(shapes, mesh, k), int(np.prod(one["tokens"].shape))
    options, frames = config.plan, config.plan.frames
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-config.train.batch_size // ways) * ways
    if rows != config.train.batch_size:
        say(f"{config.train.batch_size} rows (train.batch_size) are {rows} over {ways} devices")
    side = patches = 1
    if spec.vision is None:
        frames = 0
    else:
        squares = Squares.of(spec)
        side, patches = spec.vision.image_size, squares.patches
    # a frame has a token that bounds it, and a newline in some families
    length = options.tokens or -(-(frames * (patches + 2) + TEXT) // STEP) * STEP
    one = collate([], Shape(1, 2, 1, side, patches), pad_token_id=0, rope=bool(spec.text.mrope))
    shapes = {}
    for name, field in one.items():
        if name in device.PEOPLE or (name == "images" and not frames):
            continue
        lead = (rows, length) if name in TOKEN_FIELDS else (rows * frames,)
        shape = (*lead, *field.shape[len(lead) :])
        shapes[name] = ((k, *shape) if k > 1 else shape, field.dtype)
    micro = f"{k} micro-batches of " if k > 1 else ""
    say(f"a step: {micro}{rows} rows of {length:,} tokens, {frames} pictures in each")
    return _fields(shapes, mesh, k), rows * length * k


def _fields(shapes: dict, mesh: Mesh, accumulate: int) -> dict:
    stacked = accumulate > 1
    return {
        name: jax.ShapeDtypeStruct(
            shape, dtype, sharding=device.sharding_of(name, shape, mesh, stacked=stacked)
        )
        for name, (shape, dtype) in shapes.items()
        if name not in device.PEOPLE
    }


def _first_batch(config: Config) -> dict[str, np.ndarray]:
    """That the run itself would take."""
    if config.train.questions == "rows":
        with tempfile.TemporaryDirectory() as folder:
            made = _rows.make(config, Path(folder), _model.interface(config))
            made.examples.footage.close()
        return made.empty(len(made.plan.buckets) - 1)
    model = _model.load(config) if _rehearsal.count(config) else _model.interface(config)
    return train.make_batches(config, _corpus.prepare(config), model)[0](0)


def _placed(mesh: Mesh, tree):
    return jax.tree.map(
        lambda at, part: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), part
        ),
        shardings(mesh, tree),
        tree,
    )


def _size(tree) -> tuple[int, int]:
    leaves = jax.tree.leaves(tree)
    return (
        sum(x.size for x in leaves),
        sum(x.size * np.dtype(x.dtype).itemsize for x in leaves),
    )


def as_json(made: StepPlan, sizes) -> dict:
    """All figures."""
    return {
        "machine": made.machine.name,
        "memory": dataclasses.asdict(made.memory) | {"limit": made.machine.chip.memory},
        "fits": made.fits,
        "variables": {name: {"count": n, "bytes": b} for name, (n, b) in sizes.items()},
        "flops": {f"{part} {kind}": work for (part, kind), work in made.flops.items()},
        "model_flops": made.model_flops,
        "mesh": made.mesh,
        "compiles": made.compiles,
        "traffic": [dataclasses.asdict(t) for t in made.traffic or ()],
        "seconds": made.seconds,
        "bound": made.bound,
        "mfu": made.mfu,
        "tokens": made.tokens,
        "tokens_per_second_per_chip": made.tokens_per_second,
    }


def told(made: StepPlan, sizes) -> str:
    """The figures for people."""
    memory, chip = made.memory, made.machine.chip
    terms = [(name, gib(size)) for name, size in dataclasses.asdict(memory).items()]
    verdict = "fits" if made.fits else "DOES NOT FIT"
    terms.append((f"of {gib(chip.memory)}: {verdict}", gib(memory.total)))
    axes = ", ".join(f"{axis}={size}" for axis, size in made.mesh.items() if size > 1)
    work = [(part, kind, f"{n:.3g}") for (part, kind), n in sorted(made.flops.items())]
    sent = [(t.kind, t.axes, t.count, gib(t.bytes)) for t in made.traffic or ()]
    parts = [
        f"{made.machine.name}, mesh {axes or 'of one device'}",
        table(
            ("variables", "count", "bytes"), [(k, f"{n:,}", gib(b)) for k, (n, b) in sizes.items()]
        ),
        table(("memory of a chip", "compiled"), terms),
        table(("FLOPs of a step", "in", "counted"), work),
    ]
    if made.compiles:
        parts.append(table(("a chip sends", "over", "times", "bytes"), sent))
        parts.append(
            f"{made.tokens:,} tokens a step; at least "
            + ", ".join(f"{name} {duration(s)}" for name, s in made.seconds.items())
            + f": bound by {made.bound}, MFU at most {made.mfu:.0%}, "
            f"{made.tokens_per_second:,.0f} tokens a second and chip at best (estimated)"
        )
    else:
        parts.append("the compiler refused it: what chips would send, and the time, are not known")
    return "\n\n".join(parts)
