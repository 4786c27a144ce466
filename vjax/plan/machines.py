"""Machines that a step can be compiled for without one of them at hand."""

import contextlib
import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import topologies

GIB = 1 << 30
COUNT = "xla_force_host_platform_device_count"
# libtpu asks the network what machine this is unless told; a plan is for another one anyway
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of the host that is not there, whatever the topology
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",  # plans beside each other: no chip is shared
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do, by its vendor's data sheet.

    Attributes:
      platform: tpu, gpu or cpu.
      memory: bytes.
      flops: of bfloat16 products, a second, dense.
      memory_rate: bytes a second between memory and chip.
      link_rate: bytes a second between a chip and all its neighbours, one way.
    """

    platform: str
    memory: int
    flops: float
    memory_rate: float
    link_rate: float


# cloud.google.com/tpu/docs (system architecture, a page for each); NVIDIA's data sheets of the
# H200, H100 and A100 (SXM)
CHIPS = {
    "v5e": Chip("tpu", 16 * GIB, 197e12, 819e9, 200e9),
    "v5p": Chip("tpu", 95 * GIB, 459e12, 2765e9, 600e9),
    "v6e": Chip("tpu", 32 * GIB, 918e12, 1640e9, 448e9),
    "h200": Chip("gpu", 141 * 10**9, 989e12, 4800e9, 450e9),
    "h100": Chip("gpu", 80 * 10**9, 989e12, 3350e9, 450e9),
    "a100": Chip("gpu", 80 * 10**9, 312e12, 2039e9, 300e9),
    "cpu": Chip("cpu", 16 * GIB, 1e11, 20e9, 20e9),
}
AXES = {"v5e": 2, "v6e": 2, "v5p": 3}  # of their torus; others are a number of chips


@dataclasses.dataclass(frozen=True)
class Machine:
    """Some chips of a kind.

    Attributes:
      name: as given, `v5e:4x4`.
      count: chips.
    """

    name: str
    chip: Chip
    count: int

    @classmethod
    def named(cls, name: str) -> "Machine":
        """`v5e:4x4`, `v5p:4x4x8`, `v6e:16x16`, `h200:8`, `cpu:8`.

        Raises:
          ValueError: another chip, or sizes that are none.
        """
        kind, _, sizes = name.partition(":")
        if kind not in CHIPS:
            raise ValueError(f"{name!r}: chips that are known: {', '.join(CHIPS)}")
        axes = AXES.get(kind, 1)
        if not re.fullmatch(r"[1-9]\d*" + r"x[1-9]\d*" * (axes - 1), sizes):
            raise ValueError(f"{name!r}: write {kind}:{'x'.join('448'[:axes]) if axes > 1 else 8}")
        return cls(name, CHIPS[kind], int(np.prod([int(size) for size in sizes.split("x")])))

    def devices(self) -> list:
        """Devices to compile for.

        TPUs by libtpu's compiler; others by as many devices of this process: its own, or the CPU
        in as many parts.

        Raises:
          ValueError: libtpu is missing, or this process has fewer devices and cannot have more.
        """
        if self.chip.platform == "tpu":
            with _environment(ALONE):
                try:
                    described = topologies.get_topology_desc(
                        platform="tpu", topology_name=self.name
                    )
                except (RuntimeError, ValueError) as error:
                    raise ValueError(self._why_not(error)) from error
            return list(described.devices)
        with contextlib.suppress(RuntimeError):  # too late: devices were looked at
            if COUNT not in os.environ.get("XLA_FLAGS", ""):
                jax.config.update("jax_num_cpu_devices", self.count)
        here = jax.devices()
        if len(here) < self.count:
            here = jax.devices("cpu")
        if len(here) < self.count:
            raise ValueError(
                f"{self.name}: a plan for {self.count} devices that no compiler stands in for is "
                f"made on as many; here are {len(here)}: XLA_FLAGS=--{COUNT}={self.count}"
            )
        return here[: self.count]

    def _why_not(self, error: Exception) -> str:
        if importlib.util.find_spec("libtpu") is None:
            return (
                f"{self.name}: there is no TPU compiler here: "
                './launch/local pip install -c launch/lock-py311.txt "jax[tpu]"'
            )
        said = str(error).strip().splitlines()[0]
        return f"{self.name} is no slice that the TPU compiler knows (v5e:4x4, v5p:4x4x8): {said}"


# cards of the same name with other sockets are slower
KINDS = {"NVIDIA H200": "h200", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA A100-SXM4-80GB": "a100",
         "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}  # fmt: skip


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax.Device.device_kind names; None where the table has no such."""
    return CHIPS.get(KINDS.get(device_kind, ""))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that are set inside, where they are not set already."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def memory_of(device: jax.Device) -> int:
    """Bytes that programs on a device of this machine can have; of a CPU, the machine's."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
