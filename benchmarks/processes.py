"""CPU time and memory of this process and of others."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path


def seconds_of(pids: Iterable[int]) -> float:
    """CPU-seconds of this process and of those so far."""
    total = time.process_time()
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    return total


def memory_mb() -> float:
    """Megabytes of this process and of those below it, a page that they share counted once.

    Without pages of files, which the system may drop: libraries, and what is mapped from disk.
    """
    total, left = 0, [os.getpid()]
    while left:
        process = Path("/proc", str(left.pop()))
        with contextlib.suppress(OSError):  # it ended meanwhile
            for thread in (process / "task").iterdir():
                left += map(int, (thread / "children").read_text().split())
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1])
    return total * 1024 / 1e6
