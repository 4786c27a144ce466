"""The training loop: batch, step, log, save, and again; it reads top to bottom."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from vjax import distributed
from vjax.train.metrics import Metrics
from vjax.train.step import TrainState


@runtime_checkable
class Gauge(Protocol):
    """What `vjax.data.gauge.Gauge` is; see there."""

    def begin(self): ...

    def taken(self, batch: dict[str, np.ndarray]): ...

    def read(self, waited: float) -> tuple[dict[str, float], str]: ...


class Stopped(Exception):
    """SIGTERM or SIGINT came; the step under way was finished and saved.

    Attributes:
      signal: its number.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


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
    save_every: int = 0,
    gauge: Gauge | None = None,
) -> TrainState:
    """Takes steps start .. stop - 1.

    Args:
      step: jitted; donates the state.
      batches: batch `start` first. Each is stepped, logged and saved before the next is asked for.
      put: numpy batch -> arrays on the mesh.
      save: called as save(steps done, state, last) when a checkpoint is due; `last` after the last
        step and after a signal.
      lr: learning rate of a step, for the log.
      bar: a tqdm bar over steps.
      log_every: steps between lines on screen; every step is in metrics.jsonl. Metrics are fetched
        that often, so that the host does not wait for each step.
      save_every: steps between checkpoints; 0 for the last one alone. Metrics are on disk before
        the checkpoint of their step is: a run that goes on from there misses none.
      gauge: sees every batch as it is taken, and tells how the data keeps up.

    Raises:
      Stopped: after a SIGTERM or SIGINT, when `save` has returned.
    """
    pending: list[tuple[int, dict]] = []
    tokens = waited = 0.0
    since = time.perf_counter()

    def flush():
        nonlocal tokens, waited, since
        rows = [(n, {k: float(value) for k, value in values.items()}) for n, values in pending]
        pending.clear()
        took = max(time.perf_counter() - since, 1e-9)
        loss = rows[-1][1]["loss"]
        rows[-1][1].update(tokens_per_second=tokens / took, input_wait=waited / took)
        text = f"loss {loss:.3f}, {tokens / took:,.0f} tokens/s, input wait {waited / took:.0%}"
        if gauge is not None:
            values, more = gauge.read(waited)
            rows[-1][1].update(values)
            text = f"{text}, {more}"
        bar.set_postfix_str(text)
        for row in rows:
            metrics.write(*row)
        metrics.flush()
        tokens, waited, since = 0.0, 0.0, time.perf_counter()

    done = start
    if gauge is not None:
        gauge.begin()
    with distributed.stopping() as asked:
        for n in range(start, stop):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            if gauge is not None:
                gauge.taken(batch)
            placed = put(batch)
            seen = batch["segment_ids"]  # of this process, of as many elsewhere
            tokens += int((seen > 0).sum() * placed["segment_ids"].size / seen.size)
            state, values = step(state, placed)
            done = n + 1
            pending.append((done, values | {"lr": lr(n)}))
            bar.update()
            stopping = asked.after(done)  # once: a later signal waits for the next step
            last = done == stop or stopping
            due = last or (save_every > 0 and done % save_every == 0)
            if due or done % log_every == 0:
                flush()
            if due:
                save(done, state, last)
            if stopping:
                break
        if asked.signal:
            raise Stopped(f"stopped by signal {asked.signal} after step {done}", asked.signal)
    return state
