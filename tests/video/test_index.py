"""The index: what it holds, what it reads again, what it survives."""

import os
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from vjax.video import errors
from vjax.video import index as index_module
from vjax.video.decode import decode
from vjax.video.folder import list_videos
from vjax.video.index import Index, build
from vjax.video.probe import probe


@pytest.fixture
def corpus(make_video, tmp_path):
    root = tmp_path / "corpus"
    (root / "sub").mkdir(parents=True)
    make_video(root / "a.mp4", n=30, g="10")
    make_video(root / "sub" / "b.mkv", n=40, fps=20)
    make_video(root / "c.mpg", n=20, codec="mpeg2video", bf="2")
    return root


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def indexed(corpus, tmp_path):
    """indexed(**options): the index, and which files were read."""

    def call(**options):
        read = []
        made = build(
            files(corpus),
            tmp_path / "index.parquet",
            corpus,
            workers=0,
            progress=lambda done, total, path: read.append(os.path.basename(path)),
            **options,
        )
        return made, read

    return call


def test_a_row_is_what_packets_say(indexed, corpus):
    made, _ = indexed()
    assert made.paths == ["a.mp4", "c.mpg", "sub/b.mkv"] and made.bad == []
    row = made.rows()[0]
    packets = []
    with av.open(str(corpus / "a.mp4")) as container:
        for packet in container.demux(video=0):
            if packet.size:
                packets.append((packet.pts, packet.size, packet.is_keyframe))
    packets.sort()
    assert row.source.pts.tolist() == [p[0] for p in packets]
    assert row.source.packet_bytes.tolist() == [p[1] for p in packets]
    assert row.source.keys.tolist() == [p[0] for p in packets if p[2]]
    assert (row.source.width, row.source.height, row.source.rotation) == (128, 96, 0)
    assert row.source.duration == pytest.approx(30 / 25)
    facts = made.facts.to_pylist()[0]
    assert facts["fps"] == pytest.approx(25) and facts["frames"] == 30
    assert (facts["codec"], facts["rotation"]) == ("h264", 0)
    assert facts["content_hash"] == probe(corpus / "a.mp4").content_hash


def test_every_row_has_every_frames_time(indexed, corpus):
    """A program stream's packets do not tell all times: it is decoded once for them."""
    for row in indexed()[0].rows():
        truth = decode(row.source.path, root=corpus)
        np.testing.assert_allclose(row.source.times, truth.table.time, atol=1e-6)


def test_motion_is_the_clips(indexed, corpus):
    made, _ = indexed(motion=True)
    for row in made.rows():
        np.testing.assert_array_equal(row.motion, decode(row.source.path, root=corpus).motion)


def test_a_second_pass_reads_nothing(indexed, tmp_path):
    indexed()
    before = (tmp_path / "index.parquet").stat().st_mtime_ns
    assert indexed()[1] == []
    assert (tmp_path / "index.parquet").stat().st_mtime_ns == before


def test_only_what_changed_is_read(indexed, corpus, make_video):
    indexed()
    make_video(corpus / "a.mp4", n=12)
    make_video(corpus / "d.mp4", n=12)
    (corpus / "c.mpg").unlink()
    made, read = indexed()
    assert sorted(read) == ["a.mp4", "d.mp4"]
    assert made.paths == ["a.mp4", "d.mp4", "sub/b.mkv"]
    assert len(made.rows()[0].source.pts) == 12


def test_motion_asked_for_later_is_added(indexed):
    indexed()
    made, read = indexed(motion=True)
    assert len(read) == 3 and all(row.motion is not None for row in made.rows())
    assert indexed(motion=True)[1] == []
    assert indexed()[1] == []  # and stays


def test_a_stopped_pass_goes_on(indexed, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "PART", 1)
    real = index_module.read_row

    def stop_at_b(path, *args):
        if path.name == "b.mkv":
            raise KeyboardInterrupt
        return real(path, *args)

    monkeypatch.setattr(index_module, "read_row", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        indexed()
    monkeypatch.setattr(index_module, "read_row", real)
    made, read = indexed()
    assert read == ["b.mkv"] and len(made) == 3
    assert not list(tmp_path.glob("*.parts"))


def test_bad_files_are_rows_with_a_reason_and_not_read_twice(indexed, corpus):
    (corpus / "empty.mp4").touch()
    (corpus / "text.mp4").write_text("hello\n" * 500)
    made, _ = indexed()
    assert [(path, error) for path, error, _ in made.bad] == [
        ("empty.mp4", "EmptyFile"),
        ("text.mp4", "NotAVideo"),
    ]
    assert "0 bytes" in made.bad[0][2]
    assert len(made.rows()) == 3
    assert indexed()[1] == []


def test_children_write_the_same_index(indexed, corpus, tmp_path):
    here = indexed(motion=True)[0]
    there = build(files(corpus), tmp_path / "there.parquet", corpus, motion=True, workers=2)
    assert index_module._read(here.file).equals(index_module._read(there.file))


def test_a_corpus_that_moved_needs_no_new_pass(indexed, corpus, tmp_path):
    made, _ = indexed()
    moved = shutil.move(corpus, tmp_path / "elsewhere")
    rows = Index(made.file, moved).rows()
    assert rows[0].source.path == tmp_path / "elsewhere" / "a.mp4"


def test_what_is_no_index(tmp_path):
    (tmp_path / "index.parquet").write_text("x" * 100)
    with pytest.raises(ValueError, match=r"index\.parquet: no index"):
        Index(tmp_path / "index.parquet", tmp_path)


def test_one_file_twice(corpus, tmp_path):
    with pytest.raises(ValueError, match="listed twice"):
        build([corpus / "a.mp4"] * 2, tmp_path / "i.parquet", corpus)


# What changes, fails or runs beside it ------------------------------------------------------------


@pytest.fixture
def stills(corpus):
    """A list of three images in the corpus; call with a grey level to write them."""
    folder = corpus / "stills"
    folder.mkdir()
    (folder / "frames.json").write_text('{"fps": 2, "frames": ["in/0.png", "in/1.png"]}')
    (folder / "in").mkdir()

    def write(level):
        for n in range(2):
            picture = np.full((20, 20, 3), level + n, np.uint8)
            Image.fromarray(picture).save(folder / "in" / f"{n}.png")

    write(10)
    return write


def test_an_image_written_anew_is_seen(stills, corpus, tmp_path):
    file = tmp_path / "index.parquet"
    one = build(list_videos(corpus), file, corpus, workers=0).rows()[-2]
    stills(200)
    other = build(list_videos(corpus), file, corpus, workers=0).rows()[-2]
    assert one.source.video_id == "stills/frames.json"
    assert one.source.content_hash != other.source.content_hash


def test_an_image_that_is_gone_makes_its_list_bad(stills, corpus, tmp_path):
    file = tmp_path / "index.parquet"
    assert not build(list_videos(corpus), file, corpus, workers=0).bad
    (corpus / "stills" / "in" / "1.png").unlink()
    ((path, _, reason),) = build(list_videos(corpus), file, corpus, workers=0).bad
    assert path == "stills/frames.json" and "1.png" in reason


def test_what_may_have_passed_is_tried_again(indexed, monkeypatch):
    def out_of_time(path, root, motion):
        raise errors.TimedOut(f"{path}: nothing after 10 s")

    with monkeypatch.context() as patch:
        patch.setattr(index_module, "read_row", out_of_time)
        assert len(indexed()[0].bad) == 3
    made, read = indexed()
    assert len(read) == 3 and not made.bad


def test_a_name_that_is_not_utf8_is_a_bad_row(indexed, corpus):
    name = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(corpus / "a.mp4", corpus / name)
    made, _ = indexed()
    ((path, error, reason),) = made.bad
    assert error == "NotAVideo" and "not UTF-8" in reason and "caf" in path
    assert len(made.rows()) == 3 and indexed()[1] == []


def test_two_processes_at_once_lose_no_row(corpus, tmp_path, monkeypatch):
    for n in range(12):
        shutil.copy(corpus / "a.mp4", corpus / f"copy{n}.mp4")
    code = (
        "import sys; from pathlib import Path\n"
        "from vjax.video import index; from vjax.video.folder import list_videos\n"
        "index.PART = 2; root, file = map(Path, sys.argv[1:])\n"
        "made = index.build(list_videos(root), file, root, workers=1)\n"
        "assert len(made) == 15, len(made)\n"
    )
    run = [sys.executable, "-c", code, str(corpus), str(tmp_path / "index.parquet")]
    both = [subprocess.Popen(run) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(Index(tmp_path / "index.parquet", corpus)) == 15


def test_all_files_gone(indexed, corpus, tmp_path):
    indexed()
    made = build([], tmp_path / "index.parquet", corpus)
    assert len(made) == 0 and made.rows() == []


def test_an_interrupted_pass_keeps_what_it_read(indexed, monkeypatch):
    real = index_module.read_row

    def stop_at_b(path, *args):
        if path.name == "b.mkv":
            raise KeyboardInterrupt
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(index_module, "read_row", stop_at_b)
        with pytest.raises(KeyboardInterrupt):
            indexed()
    assert indexed()[1] == ["b.mkv"]


def test_an_index_of_an_older_version_is_made_again(indexed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "VERSION", b"0")
        older = index_module.SCHEMA.with_metadata({"vjax.index": b"0"})
        patch.setattr(index_module, "SCHEMA", older)
        indexed()
    made, read = indexed()
    assert len(read) == len(made) == len(made.rows()) + len(made.bad)
