"""Children that read videos: deadlines, crashes, and what becomes of them when the parent dies."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tests.video.shared_memory import Named
from vjax.video import errors, supervise
from vjax.video.supervise import Child, Children

# Functions of a module that a child can import.


def double(x):
    return 2 * x


def hang(path):
    while True:
        time.sleep(1)


def die(path):
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(path):
    raise errors.EmptyFile(f"{path}: 0 bytes")


def slow(path, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        supervise.beat()
    return "done"


def pid():
    return os.getpid()


def modules():
    return sorted(sys.modules)


@pytest.fixture
def children():
    with Children(2, deadline=1.0) as made:
        yield made


def gone(process: int, within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_call_returns_what_the_function_does(children):
    assert children.call(double, 21) == 42


def test_errors_come_back_as_they_are(children):
    with pytest.raises(errors.EmptyFile, match="a.mp4: 0 bytes"):
        children.call(refuse, "a.mp4")


def test_a_child_that_hangs_is_ended_and_the_next_call_served(children):
    with pytest.raises(errors.TimedOut, match=r"a\.mp4: nothing after 1 s"):
        children.call(hang, "a.mp4")
    assert children.call(double, 2) == 4


def test_a_child_that_crashes_is_replaced(children):
    with pytest.raises(errors.Crashed, match=r"a\.mp4: .*SIGSEGV"):
        children.call(die, "a.mp4")
    assert children.call(double, 3) == 6


def test_signs_of_life_put_the_deadline_off():
    with Children(1, deadline=0.9, beats=True) as children:
        assert children.call(slow, "a.mp4", 2.5) == "done"


def test_without_beats_the_deadline_is_for_the_whole_call():
    with Children(1, deadline=0.9) as children, pytest.raises(errors.TimedOut):
        children.call(slow, "a.mp4", 2.5)


def test_map_gives_every_answer_and_every_video_error(children):
    calls = [("ok", 0), ("bad", 1), ("ok", 2)]
    answers = dict(children.map(answer_or_refuse, calls))
    assert answers[0] == "ok" and answers[2] == "ok"
    assert isinstance(answers[1], errors.EmptyFile)


def answer_or_refuse(path, n):
    return refuse(path) if path == "bad" else path


def test_a_function_that_a_child_cannot_import_is_an_error_and_no_crash(children, monkeypatch):
    monkeypatch.setattr(double, "__module__", "nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", sys.modules[__name__])
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        children.call(double, 1)
    assert children.call(pid) != os.getpid()


def interrupted(seconds):
    time.sleep(seconds)
    return "the first's"


def test_an_interrupted_call_leaves_no_answer_for_the_next(children, monkeypatch):
    """Ctrl-C while a child works: what it would have said must not be taken for another clip's."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    with Children(1, deadline=10) as alone:
        alone.call(double, 1)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            alone.call(interrupted, 3)
        signal.signal(signal.SIGINT, before)
        assert alone.call(double, 21) == 42


def test_a_child_killed_while_idle_costs_nothing(children):
    os.kill(children.call(pid), signal.SIGKILL)
    assert children.call(double, 4) == 8


def test_leaving_early_ends_what_is_at_work():
    with Children(2, deadline=60) as children:
        start = time.monotonic()
        for _ in children.map(answer_or_wait, [("quick",), ("slow",), ("slow",)]):
            break
        assert time.monotonic() - start < 20
        assert children.call(double, 5) == 10  # and the others go on being of use


def answer_or_wait(what):
    time.sleep(0 if what == "quick" else 50)


def test_a_machine_that_starts_no_child_is_not_the_files_fault(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Children(1) as children, pytest.raises(RuntimeError, match="did not start"):
        children.call(double, 1)


def test_after_closing_a_call_is_an_error(children):
    children.close()
    with pytest.raises(RuntimeError, match="closed"):
        children.call(double, 1)


def end_of_file():
    raise EOFError("the function's own")


def test_errors_of_pipes_that_a_function_raises_are_its_own(children):
    with pytest.raises(EOFError, match="the function's own"):
        children.call(end_of_file)


def test_none_at_all_computes_here():
    assert Children(0).call(pid) == os.getpid()


def test_children_know_nothing_of_jax(children):
    assert not {"jax", "grain", "torch"} & set(children.call(modules))


def test_closing_ends_them():
    child = Child()
    running = child.call(pid, deadline=60)
    child.close()
    assert gone(running)


@pytest.mark.parametrize("work", ["pid", "hang"])
def test_kill_9_of_the_parent_ends_the_children(work, tmp_path):
    """Idle or at work, a child ends with its parent, and shared memory is as it was."""
    memory = Named()
    code = f"""
        import threading, time
        from tests.video import test_supervise as t
        from vjax.video.supervise import Child
        child = Child()
        print(child.call(t.pid, deadline=60), flush=True)
        if {work!r} == "hang":
            child.call(t.hang, "a.mp4", deadline=600)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | memory.env,
    )
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    assert gone(child), f"child {child} lives on"
    assert not memory.left()


def test_kill_9_of_the_parent_ends_grains_workers_and_their_children():
    """Grain's own workers would live on, each with its shared memory."""
    memory = Named()
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.video.grain_workers"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | memory.env | {"JAX_PLATFORMS": "cpu"},
    )
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(set(pids)) == 4
    assert memory.held()  # batches lie there, or this test shows nothing
    parent.kill()
    parent.wait()
    assert all(gone(process) for process in pids)
    assert not memory.left()
