"""How fast batches come, how fast they could, and how fast the model takes them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vjax.data.batches import WORK, work_of


class Gauge:
    """Counts from the `work` of batches.

    What the data could feed follows from the utilisation law (Denning and Buzen, 1978): where a
    throughput X keeps the busiest resource busy for a share U of the time, X / U is the most that
    can be had. Resources are the threads that make batches, the children that decode, the cores,
    and Python, which one thread of a process runs at a time. While the model waits the data gives
    all it can, so that U is no less than the share of that.

    Args:
        threads: that make batches, over all workers.
        children: that decode, over all workers; 0 where the threads do.
        processes: that the threads belong to.
        cores: that all of them may use; None for those of this process.
        clock: the monotonic clock.
    """

    def __init__(
        self,
        *,
        threads: int,
        children: int,
        processes: int = 1,
        cores: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.threads, self.children, self.processes = threads, children, processes
        self.cores = cores or usable_cores()
        self.clock = clock
        self.begin()

    def begin(self):
        """Counts from now on."""
        self._since = self.clock()
        self._sum = dict.fromkeys(WORK, 0.0)
        self._batches = self._age = 0.0

    def taken(self, batch: dict[str, np.ndarray]):
        """Notes that a batch is taken for its step, and removes the field that is for this."""
        if (work := batch.pop("work", None)) is None:
            return
        for name, value in zip(WORK, work.tolist(), strict=True):
            self._sum[name] += value
        self._batches += 1
        self._age += self.clock() - float(work[WORK.index("done")])

    def read(self, waited: float) -> tuple[dict[str, float], str]:
        """Numbers for the log and a line for people, since the last call.

        Args:
            waited: seconds that steps have waited for batches.

        Returns:
            `clips_per_second`, `holes`, `queue` (batches that lay ready), `resident_gib` of this
            process and all below it, and in samples a second `data_feeds` and `model_wants`.
        """
        took = max(self.clock() - self._since, 1e-9)
        total, count = self._sum, self._sum["examples"]
        busy = max(self._busiest() / took, min(1.0, waited / took))
        numbers = {
            "clips_per_second": total["clips"] / took,
            "holes": total["holes"],
            "queue": self._age / took,  # Little's law: arrivals a second, by how long each lay
            "resident_gib": resident() / 2**30,
            "data_feeds": count / took / busy if busy else 0.0,
            "model_wants": count / max(took - waited, 1e-9),
        }
        clips = f"{numbers['clips_per_second']:.3g} clips/s, " if total["clips"] else ""
        text = (
            f"data can feed {numbers['data_feeds']:.3g} samples/s, model wants "
            f"{numbers['model_wants']:.3g}, {clips}{numbers['queue']:.1f} ready, "
            f"{numbers['resident_gib']:.1f} GiB"
        )
        self.begin()
        return numbers, text

    def _busiest(self) -> float:
        """Seconds that the resource which is most at work was."""
        total, apart = self._sum, self.children > 0
        python = total["cpu"] - (0.0 if apart else total["decoding_cpu"])
        return max(
            total["seconds"] / self.threads,
            total["decoding"] / self.children if apart else 0.0,
            (python + total["decoding_cpu"]) / self.cores,
            python / self.processes,
        )


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Timed:
    """Batches that do not tell their `work` themselves, with it; there are no clips to wait for."""

    def __init__(self, make_batch: Callable[[int], dict[str, np.ndarray]]):
        self.make_batch = make_batch

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        began, cpu = time.monotonic(), time.thread_time()
        batch = self.make_batch(i)
        if "work" not in batch:
            examples = int(batch["segment_ids"].max(axis=-1).sum())
            done, cpu = time.monotonic(), time.thread_time() - cpu
            told = dict(examples=examples, seconds=done - began, done=done, cpu=cpu)
            batch = batch | {"work": work_of(told)}
        return batch


def resident() -> int:
    """Bytes of memory of this process and those below it; a page that two share counts twice.

    0 where the system has no /proc.
    """
    total, left = 0, [os.getpid()]
    page = os.sysconf("SC_PAGE_SIZE")
    while left:
        process = Path("/proc", str(left.pop()))
        try:
            total += int((process / "statm").read_text().split()[1]) * page
            for thread in (process / "task").iterdir():
                left += map(int, (thread / "children").read_text().split())
        except (OSError, IndexError, ValueError):  # it ended meanwhile
            continue
    return total
