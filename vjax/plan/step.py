"""The figures of a compiled step on a machine."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vjax.config import Config
from vjax.plan.collectives import Traffic
from vjax.plan.machines import GIB, Machine

_EXHAUSTED = re.compile(
    r"RESOURCE_EXHAUSTED.*HLO temporaries \((?P<size>[\d.]+)(?P<unit>[KMGT])\)", re.DOTALL
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one chip while the step runs; outputs that reuse arguments count as these."""

    arguments: int
    outputs: int
    temporaries: int
    code: int

    @classmethod
    def of(cls, compiled) -> "Memory":
        """What the compiler says of a program."""
        told = compiled.memory_analysis()
        return cls(
            arguments=told.argument_size_in_bytes,
            outputs=told.output_size_in_bytes - told.alias_size_in_bytes,
            temporaries=told.temp_size_in_bytes,
            code=told.generated_code_size_in_bytes,
        )

    @classmethod
    def exhausted(cls, said: str, arguments: int) -> "Memory | None":
        """What XLA's TPU compiler says of a program that it refuses, for want of memory."""
        found = _EXHAUSTED.search(said)
        if not found:
            return None
        size = float(found["size"]) * 1024 ** " KMGT".index(found["unit"])
        return cls(arguments=arguments, outputs=0, temporaries=int(size), code=0)

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))

    @property
    def largest(self) -> str:
        """The name of the largest term."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def compiled(lowered, arguments) -> tuple[Any, Memory]:
    """The program and its memory; None in its place where the compiler refuses it for want of some.

    Args:
      lowered: by `jit(...).lower(arguments)`; arguments: a pytree of leaves that have shardings.
    """
    try:
        made = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        local = sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
            for leaf in jax.tree.leaves(arguments)
        )
        memory = Memory.exhausted(str(error), local)
        if memory is None:
            raise
        return None, memory
    return made, Memory.of(made)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What a step costs on a machine.

    Attributes:
      memory: of one chip, compiled.
      flops: of the whole step, by (part, kind).
      model_flops: of them, those that a step without rematerialisation needs.
      traffic: what a chip sends; None where the compiler refused the program.
      tokens: of the whole batch, padding and vision tokens included.
      mesh: sizes of its axes.
    """

    machine: Machine
    memory: Memory
    flops: Counter
    model_flops: float
    traffic: Sequence[Traffic] | None
    tokens: int
    mesh: Mapping[str, int]

    @property
    def compiles(self) -> bool:
        return self.traffic is not None

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.machine.chip.memory

    @property
    def seconds(self) -> dict[str, float]:
        """The least time of a step by what may bind it (roofline): products, memory, links.

        Memory: arguments are read twice, there and back, temporaries written and read once. An
        estimate; the compiler does not say.
        """
        chip, memory = self.machine.chip, self.memory
        return {
            "products": sum(self.flops.values()) / self.machine.count / chip.flops,
            "memory": 2 * (memory.arguments + memory.temporaries) / chip.memory_rate,
            "links": sum(t.bytes for t in self.traffic or ()) / chip.link_rate,
        }

    @property
    def bound(self) -> str:
        """Which of `seconds` is the longest."""
        return max(self.seconds, key=self.seconds.get)

    @property
    def mfu(self) -> float:
        """The most that model FLOPs utilisation can be: of the chips' peak, in the step's time."""
        peak = self.machine.count * self.machine.chip.flops
        return self.model_flops / peak / self.seconds[self.bound]

    @property
    def tokens_per_second(self) -> float:
        """A chip, at best."""
        return self.tokens / self.machine.count / self.seconds[self.bound]


def gib(size: float) -> str:
    """Bytes for people."""
    return f"{size / GIB:.2f} GiB" if size >= 0.01 * GIB or not size else f"{size / 2**20:.2f} MiB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    for unit, size, most in (("ms", 1e-3, 1), ("s", 1, 120), ("min", 60, 7200)):
        if seconds < most:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 3600:,.1f} h"


def suggest(config: Config, memory: Memory, limit: int) -> str:
    """The one thing to change first where a step does not fit a chip of so many bytes.

    In this order: rematerialise, parameters over more devices, fewer rows, rows over more devices;
    each leaves the number of devices as it is, where that can be.
    """
    mesh, rows = config.mesh, config.train.batch_size
    ways = mesh.data * mesh.fsdp
    activations = memory.largest == "temporaries"
    if activations and not config.train.remat:
        return "--config.train.remat=True"
    spared = memory.arguments * (1 - 1 / mesh.data)
    if spared > limit / 8:
        return f"--config.mesh.fsdp={ways} --config.mesh.data=1"
    room = limit - memory.total + memory.temporaries
    if not activations or room <= 0:
        return "a larger machine: the parameters of one chip's part alone do not fit"
    most = int(0.9 * rows * room / memory.temporaries)
    if most >= ways and rows > ways:
        fewer = max((n for n in range(ways, most + 1, ways) if rows % n == 0), default=ways)
        times = -(-rows // fewer) * config.train.accumulate
        return f"--config.train.batch_size={fewer} (--config.train.accumulate={times} for as many)"
    why = " (a row alone is too long for a chip)"
    context = f"--config.mesh.context={2 * mesh.context}"
    for axis in ("data", "fsdp"):  # one of them gives its devices
        size = getattr(mesh, axis)
        if size % 2 == 0:
            half = f"--config.mesh.{axis}={size // 2} --config.train.batch_size={ways // 2}"
            return f"{context} {half}{why}"
    return f"a larger machine, with {context}{why}"


def refusal(config: Config, memory: Memory, limit: int) -> str:
    """Why a step does not fit a chip of so many bytes; "" where it does."""
    if memory.total <= limit:
        return ""
    terms = ", ".join(f"{name} {gib(size)}" for name, size in dataclasses.asdict(memory).items())
    return (
        f"the step needs {gib(memory.total)} of a device that has {gib(limit)}, most of it for "
        f"{memory.largest} ({terms}); first thing to change: {suggest(config, memory, limit)}"
    )
