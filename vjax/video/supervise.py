"""Work on video files in child processes that may hang or crash without harm to this one.

FFmpeg can loop or fault on a damaged file, and no thread can be stopped from outside. A child is a
plain subprocess (Grain's and torch's workers are daemonic and may have no `multiprocessing` ones),
imports no jax, answers one call at a time and ends when its parent does, however that dies.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, Pipe

from vjax.video import errors

DEADLINE_S = 10.0
BEAT_S = 0.5
_START_S = 60.0  # for a child to import numpy and PyAV on a busy machine


class Child:
    """One child process."""

    def __init__(self):
        end_with_parent()
        self._pipe, theirs = Pipe()
        life, self._life = os.pipe()  # its reader sees the end when this process ends
        path = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vjax.video.supervise", str(theirs.fileno()), str(life)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), life),
            env=os.environ | {"PYTHONPATH": path},
        )
        theirs.close()
        os.close(life)
        self._started = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, function: Callable, *args, deadline: float, beats: bool = False, **kwargs):
        """`function(*args, **kwargs)`, computed in the child.

        Args:
            function: of a module, so that its name finds it in the child.
            deadline: seconds until the child is ended.
            beats: count them from the last sign of life (`beat`), for what takes long by nature.

        Raises:
            TimedOut, Crashed: the child was ended or died; it answers no more calls.
            Exception: what the function raised.
        """
        what = _named(function, args)
        try:
            if not self._started:
                if not self._pipe.poll(_START_S):
                    raise errors.Crashed(f"{what}: no child process started in {_START_S:g} s")
                self._pipe.recv()
                self._started = True
            self._pipe.send((function, args, kwargs))
            end = time.monotonic() + deadline
            while True:
                if not self._pipe.poll(max(0.0, end - time.monotonic())):
                    self.close()
                    raise errors.TimedOut(
                        f"{what}: nothing after {deadline:g} s; the file is damaged, or larger "
                        "than data.deadline_s allows"
                    )
                kind, value = self._pipe.recv()
                if kind == "result":
                    return value
                if kind == "error":
                    raise value
                if beats:
                    end = time.monotonic() + deadline
        except (EOFError, ConnectionError) as error:
            code = self.close()
            said = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            raise errors.Crashed(
                f"{what}: the process that read it died ({said}); remove the file"
            ) from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None and not self._pipe.closed

    def close(self) -> int | None:
        """Ends the child; its exit code, of a signal the negative number."""
        if self._pipe.closed:
            return self._process.returncode
        self._pipe.close()
        os.close(self._life)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # a child that died has its own code to tell; one that still works is ended
            self._process.wait(0.2)
        self._process.kill()
        return self._process.wait()


class Children:
    """Some children, each started when first needed and replaced when it had to be ended.

    Args:
        count: how many calls at a time; 0 computes in this process, without a deadline.
        deadline: seconds for a call.
        beats: as in `Child.call`.
    """

    def __init__(self, count: int, *, deadline: float = DEADLINE_S, beats: bool = False):
        self.count, self.deadline, self.beats = count, deadline, beats
        self._idle: queue.LifoQueue = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._closed = False

    def call(self, function: Callable, *args, **kwargs):
        """As `Child.call`; waits while all children are at work. Any thread may call."""
        if not self.count:
            return function(*args, **kwargs)
        child = self._idle.get()
        try:
            if child is None or not child.alive:
                child = Child()
            limits = dict(deadline=self.deadline, beats=self.beats)
            return child.call(function, *args, **limits, **kwargs)
        finally:
            if self._closed and child is not None:
                child.close()
            self._idle.put(child)

    def map(
        self, function: Callable, calls: Iterable[tuple], **kwargs
    ) -> Iterator[tuple[int, object]]:
        """(number of the call, what it returned or the VideoError that it raised), as they end.

        At most twice `count` calls are begun or waiting to be taken, so that results stay few.
        """
        if not self.count:
            for n, args in enumerate(calls):
                yield n, self._answer(function, args, kwargs)
            return
        numbered, running = enumerate(calls), {}
        with ThreadPoolExecutor(self.count) as threads:
            try:
                while True:
                    while len(running) < 2 * self.count and (call := next(numbered, None)):
                        job = threads.submit(self._answer, function, call[1], kwargs)
                        running[job] = call[0]
                    if not running:
                        return
                    job = next(as_completed(running))
                    yield running.pop(job), job.result()
            finally:
                for job in running:
                    job.cancel()

    def _answer(self, function, args, kwargs):
        try:
            return self.call(function, *args, **kwargs)
        except errors.VideoError as error:
            return error

    def close(self):
        self._closed = True
        while True:
            try:
                child = self._idle.get_nowait()
            except queue.Empty:
                return
            if child is not None:
                child.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@functools.cache
def end_with_parent():
    """Ends this process when the one that started it dies, if it is a worker of `multiprocessing`.

    Grain's workers live on when their parent is killed, and keep their shared memory.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent):
    parent.join()
    os._exit(1)


def beat():
    """A sign of life from what takes long by nature; nothing outside a child."""
    global _next_beat
    if _answers is not None and time.monotonic() >= _next_beat:
        _next_beat = time.monotonic() + BEAT_S
        _answers.send(("beat", None))


def _named(function: Callable, args: tuple) -> str:
    first = args[0] if args else function.__name__
    return str(getattr(first, "path", first))


# In the child -------------------------------------------------------------------------------------

_answers: Connection | None = None
_next_beat = 0.0


def _watch(life: int):
    os.read(life, 1)  # nothing is ever written: it returns when the parent is gone
    os._exit(1)


def _serve(pipe: Connection):
    pipe.send(("started", None))
    while True:
        try:
            asked = pipe.recv_bytes()
        except EOFError:
            return
        try:
            function, args, kwargs = pickle.loads(asked)  # may name what is not to be imported here
            answer = ("result", function(*args, **kwargs))
        except Exception as error:
            answer = ("error", _portable(error))
        pipe.send(answer)


def _portable(error: Exception) -> Exception:
    error.__cause__ = error.__context__ = None  # PyAV's errors do not come out of a pickle
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(pipe: str, life: str):
    global _answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_watch, args=(int(life),), daemon=True).start()
    from vjax.video import supervise  # functions that beat know this module, not __main__

    supervise._answers = _answers = Connection(int(pipe))
    with contextlib.suppress(ConnectionError):
        supervise._serve(_answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
