"""The loop: order of logging and saving, and what a signal does."""

import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vjax.console import progress
from vjax.train import loop
from vjax.train.metrics import Metrics, read_metrics
from vjax.train.step import TrainState

pytestmark = pytest.mark.smoke


def step(state, batch):
    return (
        TrainState(state.trainable, state.optimizer, state.step + 1),
        {"loss": jnp.float32(batch["n"]) / 8, "grad_norm": jnp.float32(1)},
    )


class Run:
    """A loop over numbered batches that remembers what was saved, and what was on disk then.

    `signals`: {batch number or ("save", step): signal} sent from inside reading or saving.
    """

    def __init__(self, workdir, signals=None):
        self.workdir, self.signals = workdir, signals or {}
        self.read, self.saved, self.on_disk = [], [], []

    def send(self, at):
        if at in self.signals:
            os.kill(os.getpid(), self.signals[at])

    def batches(self, start, stop):
        for n in range(start, stop):
            self.read.append(n)
            self.send(n)
            yield {"segment_ids": np.ones((2, 3), np.int32), "n": np.int32(n)}

    def save(self, done, state, last):
        assert int(state.step) == done - self.start
        self.saved.append((done, last))
        self.on_disk.append([row["step"] for row in read_metrics(self.workdir / "metrics.jsonl")])
        self.send(("save", done))

    def fit(self, start, stop, log_every=4, save_every=3):
        self.start = start
        metrics = Metrics(self.workdir, start)
        try:
            with progress(total=stop, initial=start) as bar:
                return loop.fit(
                    TrainState(nnx.State({}), (), jnp.zeros((), jnp.int32)),
                    step,
                    self.batches(start, stop),
                    start=start,
                    stop=stop,
                    put=lambda batch: batch,
                    save=self.save,
                    metrics=metrics,
                    lr=lambda n: 0.5**n,
                    bar=bar,
                    log_every=log_every,
                    save_every=save_every,
                )
        finally:
            metrics.close()


def test_every_step_is_logged_once_with_its_own_numbers(tmp_path):
    Run(tmp_path).fit(0, 10)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert [row["loss"] for row in rows] == [n / 8 for n in range(10)]
    assert [row["lr"] for row in rows] == [0.5**n for n in range(10)]
    assert [row["step"] for row in rows if "input_wait" in row] == [3, 4, 6, 8, 9, 10]


def test_saves_come_at_their_interval_and_at_the_end(tmp_path):
    run = Run(tmp_path)
    state = run.fit(0, 10)
    assert run.saved == [(3, False), (6, False), (9, False), (10, True)]
    assert int(state.step) == 10


def test_without_an_interval_only_the_end_is_saved(tmp_path):
    run = Run(tmp_path)
    run.fit(0, 5, save_every=0)
    assert run.saved == [(5, True)]


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_metrics_are_on_disk_before_the_checkpoint_of_their_step(tmp_path, log_every):
    """Else a kill between the two would leave a hole that going on from there never fills."""
    run = Run(tmp_path)
    run.fit(0, 10, log_every=log_every)
    assert run.on_disk == [list(range(1, done + 1)) for done, _ in run.saved]


def test_a_run_goes_on_with_the_next_batch(tmp_path):
    Run(tmp_path).fit(0, 6)
    run = Run(tmp_path)
    run.fit(6, 9)
    assert run.read == [6, 7, 8]
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, 10))


def test_nothing_left_to_do(tmp_path):
    run = Run(tmp_path)
    run.fit(4, 4)
    assert (run.read, run.saved) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_stops(tmp_path, number):
    run = Run(tmp_path, {4: number})
    with pytest.raises(loop.Stopped, match=f"stopped by signal {int(number)} after step 5"):
        run.fit(0, 10)
    assert run.saved == [(3, False), (5, True)]
    assert run.on_disk[-1] == [1, 2, 3, 4, 5]


def test_a_signal_while_saving_is_saved_for_too(tmp_path):
    run = Run(tmp_path, {("save", 3): signal.SIGTERM})
    with pytest.raises(loop.Stopped, match="after step 4"):
        run.fit(0, 10)
    assert run.saved == [(3, False), (4, True)]


@pytest.mark.parametrize("at", [9, ("save", 10)])
def test_a_signal_at_the_last_step_is_not_lost(tmp_path, at):
    run = Run(tmp_path, {at: signal.SIGTERM})
    with pytest.raises(loop.Stopped, match="after step 10"):
        run.fit(0, 10)
    assert run.saved[-1] == (10, True)


def test_signals_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(loop.Stopped):
        Run(tmp_path, {1: signal.SIGTERM}).fit(0, 4)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
