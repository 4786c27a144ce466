"""--job=store: the whole way through Beam, stopped and taken up again."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.video.test_containers import write
from vjax import main
from vjax.console import UserError
from vjax.jobs import store as job_module
from vjax.video import reader
from vjax.video.read import read_frames
from vjax.video.shards import FrameStore

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'vjax[prep]'",
)
ROOT = Path(main.__file__).parents[1]
NAMES = [f"{name}.mp4" for name in "abcdefgh"]


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for name in NAMES:
        write(root / name, "libx264", "yuv420p", options={"g": "6"})
    return root


@pytest.fixture
def argv(corpus, tmp_path, monkeypatch):
    """argv(flag, ...): a command line for four shards of two clips, decoded in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *flags: [
        "vjax", "--job=store", "--config=experiments/sf2t.py", f"--workdir={tmp_path}/w",
        f"--config.data.clips={corpus}", "--config.data.workers=0", "--config.store.side=32",
        "--config.store.shard_clips=2", f"--config.store.directory={tmp_path}/store", *flags,
    ]  # fmt: skip


@pytest.fixture
def job(argv, monkeypatch, capsys):
    """job(flag, ...): what it printed, and the video ids that it decoded."""

    def call(*flags):
        decoded = []

        def counted(source, *args, **options):
            decoded.append(source.video_id)
            return read_frames(source, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(reader, "read_frames", counted)
            main.main(main.parse(argv(*flags)))
        return capsys.readouterr().out, sorted(decoded)

    return call


DYING = """
import os, pathlib, runpy, signal, sys

store, shards = pathlib.Path(sys.argv[1]), int(sys.argv[2])
sys.argv = ["vjax.main", *sys.argv[3:]]
from vjax.video import reader
read = reader.read_frames

def dying(*args, **options):
    if len(list((store / "parts").glob("*.parquet"))) == shards:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*args, **options)

reader.read_frames = dying
runpy.run_module("vjax.main", run_name="__main__", alter_sys=True)
"""


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


@needs_beam
def test_a_store_is_written_summed_up_and_left_alone(job, tmp_path):
    said, decoded = job()
    assert decoded == NAMES
    line = next(line for line in said.splitlines() if line.split()[:1] == ["8"])
    store = FrameStore(tmp_path / "store")
    frames = [store.read(name, range(len(store.times(name)))) for name in NAMES]
    assert frames[0].shape[1:] == (32, 43, 3)
    size = sum(map(len, shards_of(tmp_path / "store").values()))
    count = sum(map(len, frames))
    assert line.split()[1:4] == [str(count), str(size), str(round(size / count))]
    said, decoded = job()
    assert decoded == [] and "4 of 4 shards there" in said


@needs_beam
def test_killed_half_way_the_rest_alone_is_done(job, argv, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DYING, f"{tmp_path}/store", "2", *argv()[1:]],
        cwd=ROOT, env=os.environ, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(ValueError, match="no finished frame store"):
        FrameStore(tmp_path / "store")
    said, decoded = job()
    assert "2 of 4 shards there" in said and len(decoded) == 4
    assert len(FrameStore(tmp_path / "store")) == 8
    assert not list((tmp_path / "store").rglob("*.partial"))
    job(f"--config.store.directory={tmp_path}/whole", f"--workdir={tmp_path}/v")
    assert shards_of(tmp_path / "store") == shards_of(tmp_path / "whole")


@needs_beam
def test_processes_of_beam_write_the_same_bytes(job, tmp_path):
    job()
    beam = "('--direct_running_mode=multi_processing', '--direct_num_workers=2')"
    _, decoded = job(
        f"--config.store.beam={beam}", f"--config.store.directory={tmp_path}/other",
        "--config.data.workers=1", f"--workdir={tmp_path}/v",
    )  # fmt: skip
    assert decoded == []  # elsewhere
    assert shards_of(tmp_path / "store") == shards_of(tmp_path / "other")


def damage(path: Path):
    """Zeroes the last fifth of the pictures; their list stays, so that the index sees nothing."""
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat")
    end = at - 4 + int.from_bytes(data[at - 4 : at])
    count = (end - at) // 5
    data[end - count : end] = bytes(count)
    path.write_bytes(data)


@needs_beam
def test_bad_clips(job, corpus, tmp_path):
    damage(corpus / "c.mp4")
    with pytest.raises(UserError, match=r"c\.mp4: .*\n--config.data.on_bad_clip=skip"):
        job()
    skip = ("--config.data.on_bad_clip=skip", f"--workdir={tmp_path}/v")
    said, _ = job(*skip, "--config.data.max_bad_share=0.2")
    assert "unreadable: c.mp4: TruncatedVideo" in said
    assert [name for name, _, _ in FrameStore(tmp_path / "store").bad] == ["c.mp4"]
    with pytest.raises(UserError, match=r"1 of 8 files are bad, more than data.max_bad_share=0\.1"):
        job(*skip, f"--workdir={tmp_path}/u")


@needs_beam
def test_more_bad_clips_than_allowed_end_the_run_early(job, corpus, tmp_path):
    for name in NAMES[:3]:
        damage(corpus / name)
    with pytest.raises(UserError, match=r"2 of 8 clips cannot be read, more than data.max_bad"):
        job("--config.data.on_bad_clip=skip", "--config.data.max_bad_share=0.2")
    assert not (tmp_path / "store" / "manifest.parquet").exists()


@needs_beam
def test_files_that_the_index_refuses_count_too(job, corpus, tmp_path):
    (corpus / "empty.mp4").touch()
    with pytest.raises(UserError, match="1 of 9 files are bad"):
        job()
    said, _ = job("--config.data.on_bad_clip=skip", "--config.data.max_bad_share=0.2",
                  f"--workdir={tmp_path}/v")  # fmt: skip
    assert "unreadable: empty.mp4: EmptyFile" in said


@needs_beam
def test_other_settings(job, tmp_path):
    job()
    other = ("--config.store.quality=50", f"--workdir={tmp_path}/v")
    with pytest.raises(UserError, match=r"other settings:\n  quality: 90 -> 50\n"):
        job(*other)
    before = shards_of(tmp_path / "store")
    _, decoded = job(*other, "--fresh")
    assert decoded == NAMES and FrameStore(tmp_path / "store").settings.quality == 50
    assert shards_of(tmp_path / "store") != before


@needs_beam
def test_without_a_directory_settings_and_folder_name_it(job, tmp_path):
    for n, flag in enumerate(("kind=uniform", "kind=fps", "kind=motion")):
        job(f"--config.store.{flag}", "--config.store.directory=", f"--workdir={tmp_path}/{n}")
    folders = list((tmp_path / "cache" / "vjax" / "stores").iterdir())
    kinds = {FrameStore(folder).settings.rule.kind for folder in folders}
    assert len(folders) == 3 and kinds == {"uniform", "fps", "motion"}


@needs_beam
def test_a_runner_that_is_not_there(job):
    with pytest.raises(UserError, match=r"store\.runner=SlowRunner: Unexpected pipeline runner"):
        job("--config.store.runner=SlowRunner")


@needs_beam
def test_jax_stays_out(argv):
    code = (
        "import sys; from vjax import main; main.main(main.parse(sys.argv))\n"
        "assert 'apache_beam' in sys.modules and 'jax' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv()[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_beam_it_says_what_installs_it(job, monkeypatch):
    monkeypatch.setattr(job_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"launch/local.*pip install 'vjax\[prep\]'"):
        job()


def test_blank_frames_are_not_stored(job, monkeypatch):
    monkeypatch.setattr(job_module.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"data\.on_bad_clip=skip"):
        job("--config.data.on_bad_clip=blank")
