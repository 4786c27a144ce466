"""launch/local in a copy of its own, with locks that install nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vjax

LAUNCH = Path(vjax.__file__).parents[1] / "launch"
SCRIPT = LAUNCH / "local"
LOCK = f"lock-py3{min(sys.version_info[1], 12)}"
VENV = ".venv" if sys.version_info[1] == 11 else f".venv-py3{sys.version_info[1]}"
PYTHON = Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info)


def make_tree(root: Path, lock: str = "# nothing\n") -> Path:
    (root / "launch").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "launch" / "local")
    for name in ("lock-py311", "lock-py312"):
        (root / "launch" / f"{name}.txt").write_text(lock)
        (root / "launch" / f"{name}-test.txt").write_text("# nothing either\n")
        (root / "launch" / f"{name}-prep.txt").write_text("# nor here\n")
    return root


def launch(root: Path, *command: str, **env: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHON": str(PYTHON)} | env
    return subprocess.run(
        [root / "launch" / "local", *command], env=env, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree whose environment is made."""
    root = make_tree(tmp_path_factory.mktemp("tree") / "a b")  # a blank in the path must not matter
    (root / "vjax").mkdir()
    (root / "vjax" / "__init__.py").write_text("")
    done = launch(root, "python", "-c", "pass")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"installing launch/{LOCK}.txt into {VENV} ..." in done.stderr
    return root


def test_the_command_runs_in_the_environment_and_finds_the_project(tree, tmp_path):
    code = "import sys, vjax; print(sys.prefix, vjax.__file__)"
    done = subprocess.run(
        [tree / "launch/local", "python", "-c", code],
        env=os.environ | {"PYTHON": str(PYTHON)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"{tree / VENV} {tree / 'vjax/__init__.py'}", done.stderr


def test_nothing_changed_nothing_installed(tree):
    done = launch(tree, "python", "-c", "pass", PIP_REQUIRE_VIRTUALENV="no such value")
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_code_and_arguments_are_the_commands(tree):
    done = launch(tree, "python", "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b", "")
    assert done.returncode == 7
    assert done.stdout == "['a b', '']\n"


def test_standard_input_reaches_the_command(tree):
    done = subprocess.run(
        [tree / "launch/local", "cat"], input="hello", capture_output=True, text=True,
        env=os.environ | {"PYTHON": str(PYTHON)},
    )  # fmt: skip
    assert done.stdout == "hello"


def test_the_test_lock_comes_with_pytest_only(tree):
    stamp = tree / VENV / f"{LOCK}-test.stamp"
    launch(tree, "python", "-m", "this")
    assert not stamp.exists()
    done = launch(tree, "python", "-m", "pytest", "--version")  # fails: this tree's lock is empty
    assert f"installing launch/{LOCK}-test.txt" in done.stderr
    assert "No module named pytest" in done.stderr
    assert stamp.exists()


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (["echo", "--config=x", "--job=store", "--config.seed=1"], True),
        (["echo", "--job", "store"], True),
        (["python", "-m", "vjax.data.tfds_builders"], True),
        (["pytest", "--version"], True),
        (["echo", "--job=storey"], False),
        (["echo", "a--job=store"], False),
        (["ruff", "--version"], False),
    ],
)
def test_the_prep_lock_comes_with_what_prepares_data_and_with_pytest(tree, command, wanted):
    stamp = tree / VENV / f"{LOCK}-prep.stamp"
    stamp.unlink(missing_ok=True)
    launch(tree, *command)
    assert stamp.exists() == wanted


def test_no_prep_lock_for_this_python_is_no_error(tree):
    lock = tree / "launch" / f"{LOCK}-prep.txt"
    lock.rename(lock.with_suffix(".away"))
    try:
        assert launch(tree, "echo", "--job=store").stdout == "--job=store\n"
    finally:
        lock.with_suffix(".away").rename(lock)


def test_a_changed_lock_is_installed_and_a_failure_is_shown_in_full(tree):
    lock = tree / "launch" / f"{LOCK}.txt"
    before = lock.read_text()
    lock.write_text("./no-such-folder\n")
    try:
        for _ in range(2):  # no stamp is left by an install that failed
            done = launch(tree, "echo", "ran")
            assert done.returncode == 1 and done.stdout == ""
            assert "no-such-folder" in done.stderr and "pip install" in done.stderr
    finally:
        lock.write_text(before)
    assert launch(tree, "echo", "ran").stdout == "ran\n"


def test_a_moved_tree_makes_its_environment_anew(tree, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tree, moved, symlinks=True)
    done = launch(moved, "python", "-c", "import sys; print(sys.prefix)")
    assert done.stdout.strip() == str(moved / VENV), done.stderr
    assert "installing" in done.stderr
    assert str(moved / VENV) in (moved / VENV / "bin" / "pip").read_text()


def test_an_interpreter_that_does_not_run_is_passed_over(tree, tmp_path):
    for name in ("python3.11", "python3.12"):  # a shim without its Python
        (tmp_path / name).write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(PYTHON)
    done = launch(tree, "echo", "ran", PYTHON="", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr


def test_no_interpreter_is_an_error_that_says_what_to_do(tree):
    done = launch(tree, "echo", "ran", PYTHON="no-such-python")
    assert done.returncode == 1 and done.stdout == ""
    assert "tried no-such-python" in done.stderr and "PYTHON=/path/to" in done.stderr


def test_without_a_command_the_usage_is_shown(tree):
    done = launch(tree)
    assert done.returncode == 2 and "./launch/local pytest" in done.stderr


@pytest.mark.parametrize("name", ["lock-py311", "lock-py312"])
def test_locks_pin_every_package_once_and_name_no_place(name):
    base, test, prep = (
        [line for line in file.read_text().splitlines() if line[0] != "#"] if file.exists() else []
        for file in (LAUNCH / f"{name}{part}.txt" for part in ("", "-test", "-prep"))
    )
    for line in base + test + prep:
        package, version = line.split("==")
        assert version and not set("@/:+ ") & set(line), line
    for more in (test, prep):  # these two may share a package, of one version
        names = [line.split("==")[0].lower() for line in base + more]
        assert len(names) == len(set(names))
    names = [line.split("==")[0].lower() for line in {*test, *prep}]
    assert len(names) == len(set(names))
    assert not {"torch", "transformers", "peft"} & {line.split("==")[0] for line in base}
