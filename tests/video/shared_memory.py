"""What a process that died may have left in shared memory."""

import contextlib
import os
import time
from pathlib import Path


def left_behind(before: set[str], patience: float = 20.0) -> set[str]:
    """Names that were not there before, and that no living process has mapped however often one
    looks for so many seconds: tests beside this one have shared memory too, on its way at times."""
    end = time.monotonic() + patience
    left = _orphans() - before
    while left and time.monotonic() < end:
        time.sleep(0.2)
        left &= _orphans()
    return left


def _orphans() -> set[str]:
    maps = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            maps.append((process / "maps").read_text())
    used = "\n".join(maps)
    return {name for name in os.listdir("/dev/shm") if f"/dev/shm/{name}" not in used}
