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
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, Pipe

from vjax.video import errors

DEADLINE_S = 10.0
BEAT_S = 0.5
_START_S = 60.0  # for a child to import numpy and PyAV on a busy machine


class Child:
    """One child process.

    Raises:
        RuntimeError: none can be started: the machine's fault and no file's.
    """

    def __init__(self):
        end_with_parent()
        self._pipe, theirs = Pipe()
        life, self._life = os.pipe()  # its reader sees the end when this process ends
        path = os.pathsep.join(p for p in sys.path if p)
        given = (str(theirs.fileno()), str(life), str(os.getpid()))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vjax.video.supervise", *given],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), life),
                env=os.environ | {"PYTHONPATH": path},
            )
        except OSError as error:
            self._pipe.close()
            os.close(self._life)
            raise RuntimeError(f"no process to read videos can be started: {error}") from error
        finally:
            theirs.close()
            os.close(life)
        self._started = False
        self.cpu = 0.0  # CPU-seconds of the last call that was answered

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
            RuntimeError: it never started.
            Exception: what the function raised.
        """
        what = _named(function, args)
        answer = None
        try:
            if not self._started:
                self._wait_for_start()
            self._pipe.send((function, args, kwargs))
            end = time.monotonic() + deadline
            while answer is None:
                if not self._pipe.poll(max(0.0, end - time.monotonic())):
                    raise errors.TimedOut(
                        f"{what}: nothing after {deadline:g} s; the file is damaged, or larger "
                        "than data.deadline_s allows"
                    )
                kind, value, cpu = self._pipe.recv()
                if kind != "beat":
                    answer, self.cpu = (kind, value), cpu
                elif beats:
                    end = time.monotonic() + deadline
        except (EOFError, ConnectionError) as error:
            raise errors.Crashed(
                f"{what}: the process that read it died ({self._how_it_ended()})"
            ) from error
        finally:
            if answer is None:  # an interrupt too: its answer must not be taken for another's
                self.close()
        if answer[0] == "error":
            raise answer[1]
        return answer[1]

    def _wait_for_start(self):
        try:
            if not self._pipe.poll(_START_S):
                raise RuntimeError(f"a process to read videos did not start in {_START_S:g} s")
            self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(
                f"a process to read videos did not start ({self._how_it_ended()})"
            ) from error
        self._started = True

    def _how_it_ended(self) -> str:
        code = self.close()
        return signal.Signals(-code).name if code and code < 0 else f"exit code {code}"

    @property
    def alive(self) -> bool:
        return not self._pipe.closed and self._process.poll() is None

    def kill(self):
        """Ends the child from another thread; the one that waits for its answer sees Crashed."""
        self._process.kill()

    def close(self) -> int | None:
        """Ends the child; its exit code, of a signal the negative number."""
        if not self._pipe.closed:
            self._pipe.close()
            os.close(self._life)
            with contextlib.suppress(subprocess.TimeoutExpired):
                # a child that died has its own code to tell; one that still works is ended
                self._process.wait(0.2)
            self._process.kill()
            self._process.wait()
        return self._process.returncode


class Children:
    """Some children, each started when first needed and replaced when it had to be ended.

    Args:
        count: how many calls at a time; 0 computes in this process, without a deadline.
        deadline: seconds for a call.
        beats: as in `Child.call`.
    """

    def __init__(self, count: int, *, deadline: float = DEADLINE_S, beats: bool = False):
        self.count, self.deadline, self.beats = count, deadline, beats
        self._slots = threading.Semaphore(count)
        self._spent = threading.local()
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._stopped = False  # busy children were ended on purpose
        self._closed = False

    def call(self, function: Callable, *args, **kwargs):
        """As `Child.call`; waits while all children are at work. Any thread may call.

        A call whose child dies is made once more: it may have been killed for another's memory.
        """
        asked = time.perf_counter()
        with self._slots if self.count else contextlib.nullcontext():
            began = time.perf_counter()
            try:
                return self._call(function, args, kwargs)
            finally:
                calls, waiting, working, cpu = self.spent
                worked = time.perf_counter() - began
                self._spent.so_far = (calls + 1, waiting + began - asked, working + worked, cpu)

    @property
    def spent(self) -> tuple[int, float, float, float]:
        """This thread's calls, the seconds until a child was free, those until it answered, and the
        CPU-seconds that the children, or this thread in their place, were at work."""
        return getattr(self._spent, "so_far", (0, 0.0, 0.0, 0.0))

    def _add_cpu(self, seconds: float):
        *others, cpu = self.spent
        self._spent.so_far = (*others, cpu + seconds)

    def _call(self, function: Callable, args: tuple, kwargs: dict):
        if not self.count:
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._add_cpu(time.thread_time() - began)
        limits = dict(deadline=self.deadline, beats=self.beats)
        for last in (False, True):
            child = self._take()
            try:
                answer = child.call(function, *args, **limits, **kwargs)
                self._add_cpu(child.cpu)
                return answer
            except errors.Crashed:
                if last or self._stopped:
                    raise
            finally:
                self._give(child)

    def _take(self) -> Child:
        with self._lock:
            if self._closed:
                raise RuntimeError("these children are closed")
            while self._idle and not self._idle[-1].alive:
                self._idle.pop().close()
            child = self._idle.pop() if self._idle else Child()
            self._busy.add(child)
            return child

    def _give(self, child: Child):
        with self._lock:
            self._busy.discard(child)
            if child.alive and not self._closed:
                self._idle.append(child)
            else:
                child.close()

    def map(
        self, function: Callable, calls: Iterable[tuple], **kwargs
    ) -> Iterator[tuple[int, object]]:
        """(number of the call, what it returned or the VideoError that it raised), as they end.

        At most twice `count` calls are begun or waiting to be taken, so that results stay few.
        Leaving early ends the children that are at work.
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
                if running:
                    self._stop(running)

    def _stop(self, running: Iterable[Future]):
        self._stopped = True
        for job in running:
            job.cancel()
        while not all(job.done() for job in running):  # one may just be starting its child
            with self._lock:
                for child in self._busy:
                    child.kill()
            time.sleep(0.02)
        self._stopped = False

    def _answer(self, function, args, kwargs):
        try:
            return self.call(function, *args, **kwargs)
        except errors.VideoError as error:
            return error

    @property
    def pids(self) -> list[int]:
        """Of the children that are there."""
        with self._lock:
            return [child.pid for child in (*self._idle, *self._busy)]

    def close(self):
        """Ends all children; calls that wait or come later raise RuntimeError."""
        with self._lock:
            self._closed = self._stopped = True
            for child in self._busy:
                child.kill()
            while self._idle:
                self._idle.pop().close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@functools.cache
def end_with_parent():
    """Ends this process when the one that started it dies, if it is a worker of `multiprocessing`.

    Grain's workers live on when their parent is killed, and keep their shared memory.
    """
    os.register_at_fork(after_in_child=end_with_parent.cache_clear)
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
        _answers.send(("beat", None, 0.0))


def _named(function: Callable, args: tuple) -> str:
    first = args[0] if args else function.__name__
    return str(getattr(first, "path", first))


# In the child -------------------------------------------------------------------------------------

_answers: Connection | None = None
_next_beat = 0.0


def _watch(life: int, parent: int):
    # nothing is ever written: the pipe ends with the parent, or, where a process that it forked
    # holds the other end too, this one gets another parent
    while not select.select([life], [], [], 1.0)[0] and os.getppid() == parent:
        pass
    os._exit(1)


def _serve(pipe: Connection):
    pipe.send(("started", None, 0.0))
    told = time.process_time()
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
            del error  # its frames hold pictures
        now = time.process_time()
        pipe.send((*answer, now - told))
        told = now


def _portable(error: Exception) -> Exception:
    error.__cause__ = error.__context__ = None  # PyAV's errors do not come out of a pickle
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(pipe: str, life: str, parent: str):
    global _answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_watch, args=(int(life), int(parent)), daemon=True).start()
    from vjax.video import supervise  # functions that beat know this module, not __main__

    supervise._answers = _answers = Connection(int(pipe))
    with contextlib.suppress(ConnectionError):
        supervise._serve(_answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
