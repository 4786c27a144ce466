"""The Grain pipeline: batch numbers in, numpy batches out, a few ahead of the step."""

import sys
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags


def batches(
    make_batch: Callable[[int], dict[str, np.ndarray]],
    start: int,
    stop: int,
    *,
    threads: int = 2,
    ahead: int | None = None,
    workers: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """make_batch(start), ..., make_batch(stop - 1), in order, computed ahead of use.

    The data position is the number of the next batch, an integer: batches are pure functions of it,
    so that a resumed run reads on as if it had never stopped, whatever `threads` and `workers` are.

    Args:
      make_batch: called from many threads; with workers it travels to them by pickle.
      threads: of this process, or of each worker.
      ahead: batches that are ready or being made at most, of each worker; None for twice the
        threads: they come in order, and threads must not wait while one takes longer.
      workers: processes that make them; 0 for none but this one.
    """
    ahead = ahead or 2 * threads
    numbers = grain.MapDataset.range(start, stop).map(make_batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    made = numbers.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain reads its own, also where vjax is a library
            flags.FLAGS(sys.argv[:1])
        made = made.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return iter(made)
