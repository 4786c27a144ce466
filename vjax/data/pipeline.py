"""The Grain pipeline: batch numbers in, numpy batches out, a few ahead of the step."""

from collections.abc import Callable, Iterator

import grain
import numpy as np


def batches(
    make_batch: Callable[[int], dict[str, np.ndarray]],
    start: int,
    stop: int,
    *,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """make_batch(start), ..., make_batch(stop - 1), in order, computed in threads ahead of use.

    The data position is the number of the next batch, an integer: batches are pure functions of it,
    so that a resumed run reads on as if it had never stopped, whatever `threads` is.
    """
    numbers = grain.MapDataset.range(start, stop).map(make_batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(numbers.to_iter_dataset(options))
