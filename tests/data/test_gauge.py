"""What the gauge tells, of pipelines simulated on a clock of their own."""

import collections
import dataclasses
import heapq
import itertools
import subprocess
import sys

import numpy as np
import pytest

from vjax.data.batches import WORK
from vjax.data.gauge import Gauge, resident

SAMPLES = 8  # of a batch, a clip each
STEPS, EVERY = 400, 50  # of the model, and between two readings


class Slots:
    """So many at a time; others queue."""

    def __init__(self, count):
        self.free, self.queue = count, collections.deque()


class World:
    """Generators that sleep (`yield seconds`) or queue (`yield slots`), in the order of time."""

    def __init__(self):
        self.now, self._events, self._number = 0.0, [], itertools.count()

    def start(self, process, after=0.0):
        heapq.heappush(self._events, (self.now + after, next(self._number), process))

    def free(self, slots):
        if slots.queue:
            self.start(slots.queue.popleft())
        else:
            slots.free += 1

    def run(self):
        while self._events:
            self.now, _, process = heapq.heappop(self._events)
            wants = next(process, None)
            if isinstance(wants, Slots):
                if wants.free:
                    wants.free -= 1
                    self.start(process)
                else:
                    wants.queue.append(process)
            elif wants is not None:
                self.start(process, wants)


@dataclasses.dataclass
class Pipeline:
    """Batches made ahead as Grain's prefetch makes them, and a model that takes them in order.

    `python` and `decode` are mean seconds of a sample; what a clip takes varies as `spread` says.
    """

    threads: int = 4
    children: int = 2
    cores: int = 16
    ahead: int = 8
    python: float = 0.1
    decode: float = 1.0
    spread: float = 0.5

    def run(self, model: float):
        """(samples a second, batches that lay ready on average, what the gauge said at times).

        Args:
            model: seconds of a step.
        """
        world, rng = World(), np.random.default_rng(0)
        threads, children, cores, python = map(Slots, (self.threads, self.children, self.cores, 1))
        gauge = Gauge(
            threads=self.threads,
            children=self.children,
            cores=self.cores,
            clock=lambda: world.now,
        )
        ready = [Slots(0) for _ in range(STEPS + self.ahead)]
        done, taken, readings = {}, {}, []

        def on_core(seconds, *held):
            for slots in (*held, cores):
                yield slots
            yield seconds
            for slots in (*held, cores):
                world.free(slots)

        def make(i):
            yield threads
            work = dict.fromkeys(WORK, 0.0) | {"examples": SAMPLES, "clips": SAMPLES}
            began = world.now
            for _ in range(SAMPLES):
                asked = world.now
                if self.children:
                    yield children
                work["waiting"] += world.now - asked
                asked = world.now
                seconds = self.decode * rng.lognormal(-(self.spread**2) / 2, self.spread)
                yield from on_core(seconds)
                work["decoding"] += world.now - asked
                work["decoding_cpu"] += seconds
                if self.children:
                    world.free(children)
                yield from on_core(self.python, python)
            work["cpu"] = SAMPLES * self.python
            work["cpu"] += 0.0 if self.children else work["decoding_cpu"]
            work |= {"seconds": world.now - began, "done": world.now}
            done[i] = work
            world.free(threads)
            world.free(ready[i])

        def train():
            waited = 0.0
            for i in range(self.ahead):
                world.start(make(i))
            for i in range(STEPS):
                world.start(make(i + self.ahead))
                asked = world.now
                yield ready[i]
                waited += world.now - asked
                taken[i] = world.now
                gauge.taken({"work": np.array([done[i][name] for name in WORK])})
                yield model
                if (i + 1) % EVERY == 0:
                    readings.append(gauge.read(waited)[0])
                    waited = 0.0
            taken[STEPS] = world.now

        world.start(train())
        world.run()
        lay = sum(taken[i] - done[i]["done"] for i in range(STEPS))
        return SAMPLES * STEPS / taken[STEPS], lay / taken[STEPS], readings


PIPELINES = {
    "one thread": Pipeline(threads=1, children=0),
    "threads": Pipeline(threads=4, children=0),
    "threads and few cores": Pipeline(threads=4, children=0, cores=2),
    "more children than threads": Pipeline(threads=1, children=2),
    "fewer children than threads": Pipeline(threads=4, children=2),
    "as many": Pipeline(threads=2, children=2, ahead=4),
    "one child": Pipeline(threads=2, children=1, python=1.0, ahead=4),
    "children and few cores": Pipeline(threads=8, children=6, cores=2),
    "much Python": Pipeline(threads=8, children=8, python=0.5),
    "clips that differ": Pipeline(spread=1.0),
}


@pytest.fixture(scope="module")
def capacity():
    """name -> samples a second that a pipeline gives where nothing holds it up."""
    return {name: pipeline.run(0.0)[0] for name, pipeline in PIPELINES.items()}


@pytest.fixture(params=PIPELINES)
def name(request):
    return request.param


# seconds of a step by those in which the data gives its samples
SHARES = [0.0, 0.5, 0.9, 1.0, 1.2, 2.0, 5.0]


@pytest.mark.parametrize("share", SHARES)
def test_the_data_can_feed_what_it_feeds_a_model_that_never_works(name, share, capacity):
    _, _, readings = PIPELINES[name].run(share * SAMPLES / capacity[name])
    for numbers in readings:
        assert numbers["data_feeds"] == pytest.approx(capacity[name], rel=0.2)


@pytest.mark.parametrize("share", SHARES[1:])
def test_the_model_wants_what_it_takes_of_data_that_never_lacks(name, share, capacity):
    step = share * SAMPLES / capacity[name]
    _, _, readings = PIPELINES[name].run(step)
    for numbers in readings:
        assert numbers["model_wants"] == pytest.approx(SAMPLES / step)


@pytest.mark.parametrize("share", SHARES)
def test_the_queue_is_the_batches_that_lay_ready(name, share, capacity):
    _, lay, readings = PIPELINES[name].run(share * SAMPLES / capacity[name])
    queue = np.mean([numbers["queue"] for numbers in readings])
    assert queue == pytest.approx(lay, rel=0.2, abs=0.1)


def test_what_is_told_is_of_the_time_since_the_last_reading():
    now = 0.0
    gauge = Gauge(threads=1, children=0, clock=lambda: now)
    now = 100.0  # of compilation
    gauge.begin()
    for seconds in (1.0, 4.0):
        for _ in range(5):
            now += seconds
            work = dict.fromkeys(WORK, 0.0)
            work |= {"examples": 2, "clips": 3, "holes": 1, "seconds": seconds / 2, "done": now}
            gauge.taken({"work": np.array([work[name] for name in WORK])})
        numbers, text = gauge.read(waited=0.0)
        assert numbers["clips_per_second"] == pytest.approx(3 / seconds)
        assert numbers["holes"] == 5
        assert numbers["model_wants"] == pytest.approx(2 / seconds)
        assert numbers["data_feeds"] == pytest.approx(4 / seconds)
        assert f"data can feed {4 / seconds:g} samples/s, model wants {2 / seconds:g}" in text


def test_the_field_is_taken_out_of_the_batch():
    gauge = Gauge(threads=1, children=0)
    batch = {"tokens": np.zeros(3), "work": np.zeros(len(WORK))}
    gauge.taken(batch)
    assert batch.keys() == {"tokens"}
    gauge.taken(batch)  # of a source that tells nothing
    numbers, _ = gauge.read(0.0)
    assert numbers["data_feeds"] == 0.0


def test_memory_is_that_of_all_processes_below():
    before = resident()
    code = "x = bytearray(50_000_000); print(); input()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        child.stdout.readline()
        assert resident() - before > 45_000_000
        child.communicate(b"\n")
