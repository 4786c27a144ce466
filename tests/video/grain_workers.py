"""A Grain pipeline whose two worker processes have a child each; prints their numbers and waits.

Run by test_supervise.py, which kills it.
"""

import os
import time

import grain
import numpy as np
from absl import flags

from tests.video.test_supervise import pid
from vjax.video.supervise import Children


class Work(grain.transforms.Map):
    children = None

    def map(self, number):
        self.children = self.children or Children(1)
        pids = np.array([os.getpid(), self.children.call(pid)])
        return pids, np.zeros((64, 224, 224, 3), np.uint8)  # goes through shared memory


if __name__ == "__main__":
    flags.FLAGS(["grain_workers"])
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    numbers = grain.MapDataset.range(1000).map(Work()).to_iter_dataset(ahead)
    batches = iter(numbers.mp_prefetch(grain.MultiprocessingOptions(num_workers=2)))
    print(*next(batches)[0], *next(batches)[0], flush=True)
    time.sleep(600)
