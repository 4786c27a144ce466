"""--job=index and --job=check: what they say of a folder, and when they refuse it."""

import json
import os

import pytest

from tests.video.test_containers import write
from vjax import main
from vjax.console import UserError
from vjax.video.index import Index

pytestmark = pytest.mark.smoke


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mkv"):
        write(root / name, "libx264", "yuv420p", options={"g": "6"})
    return root


@pytest.fixture
def job(corpus, tmp_path, monkeypatch, capsys):
    """job(name, flag, ...): what it printed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(name, *flags):
        argv = ["vjax", f"--job={name}", "--config=experiments/sf2t.py", f"--workdir={tmp_path}/w"]
        argv += [f"--config.data.clips={corpus}", "--config.data.workers=1", *flags]
        main.main(main.parse(argv))
        return capsys.readouterr().out

    return call


def spoil(corpus):
    """What is no video though it is called one."""
    (corpus / "empty.mp4").touch()
    (corpus / "text.mp4").write_text("hello\n" * 500)
    (corpus / "folder.mp4").mkdir()
    os.mkfifo(corpus / "pipe.mp4")
    (corpus / "device.mp4").symlink_to("/dev/zero")
    (corpus / "gone.mp4").symlink_to("/nowhere/at/all.mp4")


REASONS = {
    "device.mp4": "a device, no file",
    "empty.mp4": "0 bytes",
    "folder.mp4": "a folder, no file",
    "gone.mp4": "No such file",
    "pipe.mp4": "a named pipe, no file",
    "text.mp4": "no video container",
}


def test_index_tells_what_there_is_and_what_it_costs(job, corpus, tmp_path):
    (corpus / "notes.txt").touch()
    said = job("index", "--config.index.motion=true")
    for part in (
        "3 files below",
        "2 to 4 s",
        "64 x 48",
        "h264",
        "CPU-seconds an epoch",
        "cores",
        "1 .txt",
    ):
        assert part in said, said
    (file,) = (tmp_path / "cache" / "vjax" / "index").glob("corpus-*.parquet")
    assert str(file) in said
    assert all(len(row.motion) == 23 for row in Index(file, tmp_path / "corpus").rows())


def test_index_lists_what_cannot_be_read(job, corpus):
    spoil(corpus)
    said = job("index")
    for name, reason in REASONS.items():
        assert any(name in line and reason in line for line in said.splitlines()), (name, said)


def test_check_is_content_with_a_sound_folder(job, tmp_path):
    assert "3 of 3 files are usable" in job("check")
    lines = [json.loads(line) for line in (tmp_path / "w" / "check.jsonl").open()]
    found = {"path": "a.mp4", "ok": True, "frames": 24, "width": 64, "height": 48, "clips": 1}
    assert lines[0] == found
    assert len(lines) == 3


def test_check_has_a_line_for_every_file_and_says_why(job, corpus, tmp_path):
    spoil(corpus)
    flags = "--config.data.on_bad_clip=skip --config.data.max_bad_share=0.67"  # both are needed
    with pytest.raises(UserError, match=rf"(?s)6 of 9 files are bad.*{flags}$"):
        job("check")
    lines = [json.loads(line) for line in (tmp_path / "w" / "check.jsonl").open()]
    assert {line["path"] for line in lines if line["ok"]} == {"a.mp4", "b.mp4", "c.mkv"}
    for line in lines:
        if not line["ok"]:
            assert REASONS[line["path"]] in line["reason"]


def test_check_allows_the_share_that_the_config_does(job, corpus):
    (corpus / "0.mp4").touch()  # not the one that is held out
    skip = "--config.data.on_bad_clip=skip"
    assert "3 of 4 files are usable" in job("check", skip, "--config.data.max_bad_share=0.25")
    with pytest.raises(UserError, match=r"max_bad_share=0\.2$"):
        job("check", skip, "--config.data.max_bad_share=0.2", f"--workdir={corpus.parent}/v")


def test_check_tells_of_a_name_that_is_not_utf8(job, corpus, tmp_path):
    (corpus / os.fsdecode(b"0\xe9.mp4")).write_bytes((corpus / "a.mp4").read_bytes())
    said = job("check", "--config.data.on_bad_clip=skip", "--config.data.max_bad_share=0.5")
    said.encode()  # as a terminal does
    lines = [json.loads(line) for line in (tmp_path / "w" / "check.jsonl").open()]
    (bad,) = [line for line in lines if not line["ok"]]
    assert bad["path"] == r"0\udce9.mp4" and "not UTF-8" in bad["reason"] and bad["path"] in said


def test_check_sees_damage_behind_the_packets(job, corpus):
    data = bytearray((corpus / "a.mp4").read_bytes())
    at = data.index(b"mdat") + 4
    data[at : at + len(data) // 2] = bytes(len(data) // 2)
    (corpus / "a.mp4").write_bytes(data)
    with pytest.raises(UserError, match="1 of 3 files are bad"):
        job("check")
