"""How fast batches come, how fast they could, and how fast the model takes them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vjax.data.batches import WORK


class Gauge:
    """Counts from the `work` of batches.

    What the data could feed follows from the utilisation law (Denning and Buzen, 1978): where a
    throughput X keeps the busiest resource busy for a share U of the time, X / U is the most that
    can be had. Resources are the threads that make batches, and the children that decode.

    Args:
        threads: that make batches, over all workers.
        children: that decode, over all workers; 0 where the threads do.
        clock: the monotonic clock.
    """

    def __init__(self, *, threads: int, children: int, clock: Callable[[], float] = time.monotonic):
        self.threads, self.children, self.clock = threads, children, clock
        self._begin()

    def _begin(self):
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
        busy = (total["seconds"] - total["waiting"]) / (self.threads * took)
        if self.children:
            busy = max(busy, total["decoding"] / (self.children * took))
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
        self._begin()
        return numbers, text


class Timed:
    """Batches that do not tell their `work` themselves, with it; there are no clips to wait for."""

    def __init__(self, make_batch: Callable[[int], dict[str, np.ndarray]]):
        self.make_batch = make_batch

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        began = time.monotonic()
        batch = self.make_batch(i)
        if "work" not in batch:
            examples = int(batch["segment_ids"].max(axis=-1).sum())
            done = time.monotonic()
            batch = batch | {"work": np.array([examples, 0, 0, done - began, 0, 0, done])}
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
