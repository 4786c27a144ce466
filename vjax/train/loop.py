"""The training loop: batch, step, log, save, and again; it reads top to bottom."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vjax.train.metrics import Metrics
from vjax.train.step import TrainState


class Stopped(Exception):
    """SIGTERM or SIGINT came; everything is saved."""


def fit(
    state: TrainState,
    step: Callable[[TrainState, dict], tuple[TrainState, dict]],
    batches: Iterator[dict[str, np.ndarray]],
    *,
    start: int,
    stop: int,
    put: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
    save: Callable[[int, TrainState, bool], None],
    metrics: Metrics,
    lr: Callable[[int], float],
    bar,
    log_every: int,
) -> TrainState:
    """Takes steps start .. stop - 1.

    Args:
      step: jitted; donates the state.
      batches: batch `start` first. Each is saved for, stepped and logged before the next is asked for.
      put: numpy batch -> arrays on the mesh.
      save: called as save(steps done, state, last): writes a checkpoint when its interval says so, or
        when `last`.
      lr: learning rate of a step, for the log.
      bar: a tqdm bar over steps.
      log_every: steps between lines on screen; every step is in metrics.jsonl. Metrics are fetched
        that often, so that the host does not wait for each step.

    Raises:
      Stopped: after a SIGTERM or SIGINT, when the checkpoint is written.
    """
    pending: list[tuple[int, dict]] = []
    tokens = waited = 0.0
    since = time.perf_counter()

    def flush(done: int):
        nonlocal tokens, waited, since
        for n, values in pending:
            metrics.write(n, {name: float(value) for name, value in values.items()})
        loss = float(pending[-1][1]["loss"])
        pending.clear()
        took = max(time.perf_counter() - since, 1e-9)
        bar.set_postfix_str(f"loss {loss:.3f}, {tokens / took:,.0f} tokens/s, input wait {waited / took:.0%}")
        metrics.write(done, {"tokens_per_second": tokens / took, "input_wait": waited / took})
        metrics.flush()
        tokens, waited, since = 0.0, 0.0, time.perf_counter()

    with _signals() as stopped:
        for n in range(start, stop):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            tokens += int((batch["segment_ids"] > 0).sum())
            state, values = step(state, put(batch))
            done = n + 1
            pending.append((done, values | {"lr": lr(n)}))
            bar.update()
            last = done == stop or bool(stopped)
            if done % log_every == 0 or last:
                flush(done)
            save(done, state, last)
            if stopped and done < stop:
                raise Stopped(f"stopped by signal {stopped[0]} after step {done}; the same command resumes")
    return state


@contextlib.contextmanager
def _signals():
    """A list that fills when SIGTERM or SIGINT comes: the step under way is finished and saved first."""
    came: list[int] = []
    old = {}
    with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
        for number in (signal.SIGTERM, signal.SIGINT):
            old[number] = signal.signal(number, lambda n, _: came.append(n))
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
