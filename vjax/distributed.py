"""One program in several processes: how they meet, agree, write and stop together.

A single process is the common case: everything here is then nothing.
"""

import contextlib
import dataclasses
import glob
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from jax._src import distributed as runtime  # its key-value store has no public door
from jax.experimental import multihost_utils

from vjax.console import UserError

HEARTBEAT = 100  # seconds without one after which a process counts as lost
SHUTDOWN = 600  # seconds that processes which have ended wait for the others
KEPT = 1000  # steps whose words stay in the store
PATIENCE_MS = (
    24 * 3600 * 1000
)  # for the word of a process that lives: heartbeats tell of the others


@dataclasses.dataclass(frozen=True)
class Meeting:
    """How the processes of a program find each other.

    Attributes:
      coordinator: HOST:PORT of process 0; "" where a cluster tells, or there is one process.
      num_processes, process_id: None where a cluster tells.
      heartbeat_timeout: seconds.
    """

    coordinator: str = ""
    num_processes: int | None = None
    process_id: int | None = None
    heartbeat_timeout: int = HEARTBEAT

    @classmethod
    def of(cls, environ: Mapping[str, str], **given) -> "Meeting":
        """What was given, and for what was not, JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
        JAX_PROCESS_ID.

        Raises:
          UserError: two of the three without the third, or numbers that make no sense.
        """
        names = ("coordinator", "num_processes", "process_id")
        found = {name: value for name, value in given.items() if value is not None}
        for name, variable in zip(
            names, ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"), strict=True
        ):
            if name not in found and environ.get(variable):
                value = environ[variable]
                if name != "coordinator" and not value.isdigit():
                    raise UserError(f"{variable}={value!r} is no number")
                found[name] = value if name == "coordinator" else int(value)
        if missing := [name for name in names if name not in found]:
            if len(missing) < len(names):
                raise UserError(f"several processes need --{', --'.join(names)}: {missing[0]}?")
            return cls(**found)
        if ":" not in found["coordinator"]:
            raise UserError(f"--coordinator={found['coordinator']} is not HOST:PORT")
        if not 0 <= found["process_id"] < found["num_processes"]:
            raise UserError(
                f"--process_id={found['process_id']} of --num_processes={found['num_processes']}: "
                "they count from 0"
            )
        return cls(**found)


def cluster(environ: Mapping[str, str]) -> str:
    """The name of the cluster that started this process as one of several; "" where none did.

    Only whether there is one: who takes part, JAX asks of it (`jax.distributed.initialize`).
    """
    if "SLURM_PROCID" in environ and int(environ.get("SLURM_NTASKS", 1)) > 1:
        return "Slurm"
    if "," in environ.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_NUM_SLICES" in environ:
        return "GKE"
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return "Kubernetes"
    on_tpu = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    if on_tpu and "TPU_SKIP_MDS_QUERY" not in environ and environ.get("JAX_PLATFORMS") != "cpu":
        return "TPU VM"
    return ""


def join(meeting: Meeting):
    """Meets the other processes, if there are any; before anything is computed.

    Raises:
      UserError: they do not come together.
    """
    found = "" if meeting.coordinator else cluster(os.environ)
    if not (meeting.coordinator or found):
        return
    try:
        jax.distributed.initialize(
            meeting.coordinator or None,
            meeting.num_processes,
            meeting.process_id,
            heartbeat_timeout_seconds=meeting.heartbeat_timeout,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (RuntimeError, ValueError) as error:
        where = f"as {found} says" if found else f"at {meeting.coordinator}"
        raise UserError(f"the processes did not meet {where}: {error}") from error


def several() -> bool:
    """Whether there are other processes; nothing is asked of a device."""
    return runtime.global_state.num_processes > 1


def process() -> int:
    """The number of this one."""
    return runtime.global_state.process_id


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return process() == 0


def abandon(code: int):
    """Ends this process after an error of its own, waiting for nobody: the others end when its
    heartbeats stop."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def part():
    """Waits until all processes are done."""
    if several():
        jax.distributed.shutdown()


def agree(name: str, said: str):
    """Returns when process 0 has said the same under this name.

    Host to host, no device takes part. Process 0 says it and goes on.

    Raises:
      RuntimeError: it said something else.
    """
    if not several():
        return
    client = runtime.global_state.client
    if is_first():
        client.key_value_set(f"vjax/{name}", said, allow_overwrite=True)
        return
    theirs = client.blocking_key_value_get(f"vjax/{name}", PATIENCE_MS)
    if theirs != said:
        raise RuntimeError(f"{name}: process {process()} says {said}, process 0 {theirs}")


def agree_on_batch(step: int, plan: str):
    """`agree` on what a step is made of, or a process would wait for ever in another program.

    Raises:
      RuntimeError: processes whose files differ plan other batches.
    """
    try:
        agree(f"step {step}", plan)
    except RuntimeError as error:
        raise RuntimeError(f"{error}: the processes do not see the same data") from None
    if several() and is_first() and step >= KEPT:
        runtime.global_state.client.key_value_delete(f"vjax/step {step - KEPT}")


def share(folder: Path):
    """Checks that all processes see the folder that process 0 has made; waits until it has.

    Raises:
      UserError: they do not.
    """
    if not several():
        return
    file, client = folder / ".processes", runtime.global_state.client
    if is_first():
        word = uuid.uuid4().hex
        file.write_text(word)
        client.key_value_set("vjax/workdir", word, allow_overwrite=True)
    elif client.blocking_key_value_get("vjax/workdir", PATIENCE_MS) != _read(file):
        raise UserError(
            f"process {process()} does not see {folder} as process 0 does: the workdir of several "
            "processes lies where all of them can read and write"
        )
    client.wait_at_barrier("vjax/workdir", 10 * 60 * 1000)


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def fetch(arrays):
    """A pytree of arrays on any devices -> numpy, in every process."""
    if several():
        arrays = multihost_utils.process_allgather(arrays, tiled=True)
    return jax.tree.map(np.asarray, arrays)


class Stop:
    """Whether to stop.

    Attributes:
      signal: that came, 0 until then.
    """

    signal = 0

    def after(self, step: int) -> bool:
        """Whether this step was the last one; to be asked after each, by all processes."""
        if several() and multihost_utils.reached_preemption_sync_point(step):
            self.signal = int(signal.SIGTERM)
        return self.signal > 0

    def came(self, number: int, _):
        self.signal = self.signal or number


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """SIGTERM or SIGINT to one process stops all of them, after the same step.

    With several, JAX's runtime takes SIGTERM and lets them agree on that step
    (`multihost_utils.reached_preemption_sync_point`).
    """
    stop = Stop()
    handlers = {signal.SIGTERM: stop.came, signal.SIGINT: stop.came}
    if several():
        handlers = {signal.SIGINT: lambda *_: signal.raise_signal(signal.SIGTERM)}
    old = {}
    with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
        for number, handler in handlers.items():
            old[number] = signal.signal(number, handler)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
