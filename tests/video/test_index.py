"""The index: what it holds, what it reads again, what it survives."""

import os
import shutil

import av
import numpy as np
import pytest

from vjax.video import index as index_module
from vjax.video.decode import decode
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
    assert row.duration == pytest.approx(30 / 25)
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
