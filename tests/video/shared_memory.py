"""What a process that died may have left in shared memory."""

import os
import time
import uuid
from pathlib import Path

_FOLDER = Path("/dev/shm")


class Named:
    """Shared memory of a process and all its children, under names that no other process gives.

    `/dev/shm` does not say whose a name is, and memory on its way from a worker is mapped by no
    process for as long as the reader leaves it there: tests beside this one have such too.
    """

    def __init__(self):
        self._prefix = f"/v{uuid.uuid4().hex[:6]}"  # of 14 characters that a name may have
        path = str(Path(__file__).parent / "named_memory")
        before = os.environ.get("PYTHONPATH")
        self.env = {
            "VJAX_TEST_MEMORY": self._prefix,
            "PYTHONPATH": os.pathsep.join([path, before] if before else [path]),
        }

    def held(self) -> set[str]:
        return {path.name for path in _FOLDER.glob(f"{self._prefix[1:]}*")}

    def left(self, patience: float = 20.0) -> set[str]:
        """What is still there after so many seconds, in which the last child may clear up."""
        end = time.monotonic() + patience
        while self.held() and time.monotonic() < end:
            time.sleep(0.2)
        return self.held()
