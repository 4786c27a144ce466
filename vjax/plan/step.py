"""The figures of a compiled step on a machine."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from vjax.plan.collectives import Traffic
from vjax.plan.machines import GIB, Machine


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

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))

    @property
    def largest(self) -> str:
        """The name of the largest term."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What a step costs on a machine.

    Attributes:
      memory: of one chip, compiled.
      flops: of the whole step, by (part, kind).
      model_flops: of them, those that a step without rematerialisation needs.
      traffic: what a chip sends.
      tokens: of the whole batch, padding and vision tokens included.
    """

    machine: Machine
    memory: Memory
    flops: Counter
    model_flops: float
    traffic: Sequence[Traffic]
    tokens: int

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
            "links": sum(t.bytes for t in self.traffic) / chip.link_rate,
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
    return f"{size / GIB:.2f} GiB"
