"""CPU time of this process and of others."""

import time
from collections.abc import Iterable


def seconds_of(pids: Iterable[int]) -> float:
    """CPU-seconds of this process and of those so far."""
    total = time.process_time()
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    return total
