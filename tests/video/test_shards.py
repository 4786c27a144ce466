"""Frames in shards: what is stored, what is read back, what a second pass leaves alone."""

import io
import multiprocessing
import operator
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vjax.video import errors, index, reader, shard_writer, shards
from vjax.video.folder import list_videos
from vjax.video.read import read_frames
from vjax.video.reader import Reader
from vjax.video.shards import FrameStore, Settings, manifest_file, shard_file
from vjax.video.strategies import Sampling, choose

pytestmark = pytest.mark.smoke

SETTINGS = Settings(Sampling("fps", fps=8.0, max_frames=8), side=64)


@pytest.fixture
def corpus(make_video, tmp_path):
    root = tmp_path / "corpus"
    (root / "sub").mkdir(parents=True)
    make_video(root / "a.mp4", n=30, g="10")
    make_video(root / "b.mkv", n=40, fps=20)
    make_video(root / "c.mpg", n=20, codec="mpeg2video", bf="2")
    make_video(root / "sub" / "d.mp4", n=9, times=[0.0, 0.1, 0.3, 0.35, 0.9, 1.2, 1.9, 2.0, 3.1])
    make_video(root / "sub" / "e.mp4", n=3)
    return root


@pytest.fixture
def write(corpus, tmp_path, monkeypatch):
    """write(settings, ...): the store, and the video ids that were decoded for it."""

    def call(settings=SETTINGS, folder="store", threads=2, clips=2, on_bad="error"):
        directory, decoded = tmp_path / folder, []

        def counted(source, *args, **options):
            decoded.append(source.video_id)
            return read_frames(source, *args, **options)

        monkeypatch.setattr(reader, "read_frames", counted)
        made = index.build(
            list_videos(corpus), tmp_path / "i.parquet", corpus, workers=0, motion=settings.motion
        )
        shards = shard_writer.plan(made, directory, settings, clips)
        quarantine = shard_writer.quarantine_file(directory)
        options = dict(workers=0, on_bad=on_bad, max_bad_share=1, quarantine=quarantine)
        with Reader(len(made), **options) as read:
            for shard in shards:
                if not shard.settled:
                    shard_writer.write_shard(directory, corpus, shard.number, read, threads)
        manifest = shard_writer.joined(directory, len(shards))
        shard_writer.finish(directory, manifest, len(shards))
        return FrameStore(directory), sorted(decoded)

    return call


@pytest.fixture
def rows(corpus, tmp_path):
    """The rows of the index by video id; after `write`."""
    return lambda: {
        r.source.video_id: r for r in index.Index(tmp_path / "i.parquet", corpus).rows()
    }


def as_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


# ---- what is stored ------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["reference", "swscale"])
@pytest.mark.parametrize(
    ("square", "side", "size"),
    [(False, 64, (64, 85)), (True, 64, (64, 64)), (False, 200, (96, 128)), (True, 200, (200, 200))],
)
def test_frames_are_those_of_the_rule_through_jpeg(write, rows, resize, square, side, size):
    settings = Settings(SETTINGS.rule, side, square, resize, quality=80)
    store, _ = write(settings)
    assert store.settings == settings and len(store) == 5
    for video_id, row in rows().items():
        chosen = np.unique(choose(settings.rule, row.source.times))
        np.testing.assert_array_equal(store.table(video_id).index, chosen)
        frames = read_frames(row.source, chosen, size=size, resize=resize)
        expected = np.stack([as_jpeg(frame, 80) for frame in frames])
        assert store.stored_size(video_id) == size
        np.testing.assert_array_equal(store.read(video_id, range(len(chosen))), expected)


def test_times_are_those_of_the_file(write, rows, corpus):
    store, _ = write()
    for video_id, row in rows().items():
        table = store.table(video_id)
        np.testing.assert_array_equal(store.times(video_id), row.source.times[table.index])
    with av.open(str(corpus / "sub" / "d.mp4")) as file:
        times = np.array([frame.time for frame in file.decode(video=0)])
    table = store.table("sub/d.mp4")
    np.testing.assert_array_equal(table.time, times[table.index])
    assert table.index.tolist() == [0, 3, 5, 7]  # on screen at eight even steps of 3.4 s
    assert (table.width, table.height, table.rotation) == (128, 96, 0)


def test_a_frame_chosen_twice_is_stored_once(write):
    store, _ = write(Settings(Sampling("uniform", frames=8), side=64))
    assert store.table("sub/e.mp4").index.tolist() == [0, 1, 2]
    assert len(store.times("a.mp4")) == 8


def test_motion_is_kept_where_it_is_wanted(write, rows):
    store, _ = write()
    assert store.motion("a.mp4") is None
    rule = Sampling("motion", frames=4)
    store, _ = write(Settings(rule, side=64, motion=True), folder="moving")
    for video_id, row in rows().items():
        np.testing.assert_array_equal(store.motion(video_id), row.motion)
        chosen = choose(rule, row.source.times, motion=row.motion)
        np.testing.assert_array_equal(store.table(video_id).index, np.unique(chosen))


# ---- reading -------------------------------------------------------------------------------------


def test_positions_come_in_any_order_and_more_than_once(write):
    store, _ = write()
    whole = store.read("a.mp4", range(len(store.times("a.mp4"))))
    np.testing.assert_array_equal(store.read("a.mp4", [3, 0, 3]), whole[[3, 0, 3]])
    assert store.read("a.mp4", []).shape == (0, 64, 85, 3)
    with pytest.raises(IndexError, match=r"a\.mp4: positions \[0, 8\] asked of 8 stored frames"):
        store.read("a.mp4", [0, 8])


def test_another_size_is_scaled_by_the_rule_of_the_store(write):
    for resize in ("reference", "swscale"):
        store, _ = write(Settings(SETTINGS.rule, 64, False, resize), folder=resize)
        whole = store.read("a.mp4", [2])[0]
        if resize == "reference":
            expected = np.asarray(Image.fromarray(whole).resize((40, 48), Image.Resampling.BICUBIC))
        else:
            flags = 4 | 0x40000 | 0x80000  # bicubic, accurate rounding, bit-exact
            frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
            expected = frame.reformat(40, 48, "rgb24", interpolation=flags).to_ndarray()
        np.testing.assert_array_equal(store.read("a.mp4", [2], (48, 40))[0], expected)
        assert store.read("a.mp4", [2], 48).shape == (1, 48, 48, 3)


def test_much_smaller_sizes_are_decoded_small(write, monkeypatch):
    store, _ = write(Settings(SETTINGS.rule, 200, True, quality=95))  # frames of 200 x 200
    whole, loaded = store.read("a.mp4", [1])[0], []
    resize = Image.Image.resize

    def seen(image, *args):
        loaded.append(image.size)
        return resize(image, *args)

    monkeypatch.setattr(Image.Image, "resize", seen)
    small = store.read("a.mp4", [1], 25)[0]
    assert store.read("a.mp4", [1], 60).shape == (1, 60, 60, 3)
    assert loaded == [(50, 50), (200, 200)]
    expected = np.asarray(resize(Image.fromarray(whole), (25, 25), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_threads_read_at_random(write):
    store, _ = write()
    whole = {name: store.read(name, range(len(store.times(name)))) for name in store.video_ids}
    fresh = FrameStore(store.directory)

    def one(seed):
        rng = np.random.default_rng(seed)
        name = store.video_ids[rng.integers(len(whole))]
        positions = rng.integers(0, len(whole[name]), 4)
        return np.array_equal(fresh.read(name, positions), whole[name][positions])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(400)))


def test_few_shards_are_open_at_a_time(write, monkeypatch):
    def is_open():
        names = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
        return sum(name.endswith(".array_record") for name in names)

    monkeypatch.setattr(shards, "OPEN", 2)
    store, _ = write(clips=1)
    for name in store.video_ids * 2:
        assert store.read(name, [0]).shape == (1, 64, 85, 3)
        assert is_open() <= 2


def test_a_pickled_store_reads_in_another_process(write):
    store, _ = write()
    expected = store.read("sub/d.mp4", [1, 3])
    assert len(pickle.dumps(store)) < 1000  # its folder, not what was read of it
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        read = pool.apply(operator.methodcaller("read", "sub/d.mp4", [1, 3]), (store,))
    np.testing.assert_array_equal(read, expected)


# ---- what can be wrong ---------------------------------------------------------------------------


def test_an_unknown_clip(write):
    store, _ = write()
    with pytest.raises(KeyError, match=r"store: no clip 'f\.mp4' among 5"):
        store.read("f.mp4", [0])


def test_a_damaged_record_is_named_and_the_others_can_be_read(write):
    store, _ = write(clips=5)
    file = shard_file(store.directory, 0)
    data = bytearray(file.read_bytes())
    at = data.index(b"\xff\xd8\xff", data.index(b"b.mkv")) + 500  # in the first JPEG of a record
    data[at : at + 8] = bytes(8)
    file.write_bytes(data)
    damaged = FrameStore(store.directory)
    with pytest.raises(errors.DamagedRecord, match=r"00000\.array_record, record 1 \(b\.mkv\): "):
        damaged.read("b.mkv", [3])
    assert damaged.read("c.mpg", [0]).shape == (1, 64, 85, 3)


@pytest.mark.parametrize("harm", [lambda f: f.unlink(), lambda f: os.truncate(f, 3000)])
def test_a_damaged_shard_is_named_and_written_again(write, harm):
    store, _ = write()
    whole = shard_file(store.directory, 1).read_bytes()
    harm(shard_file(store.directory, 1))
    with pytest.raises(errors.DamagedRecord, match=r"00001\.array_record, record 0 \(c\.mpg\): "):
        FrameStore(store.directory).read("c.mpg", [0])
    _, decoded = write()
    assert decoded == ["c.mpg", "sub/d.mp4"]
    assert shard_file(store.directory, 1).read_bytes() == whole


def test_a_record_of_another_clip(write):
    store, _ = write(clips=1)
    shard_file(store.directory, 1).replace(shard_file(store.directory, 0))
    with pytest.raises(
        errors.DamagedRecord, match=r"record 0 \(a\.mp4\): it holds b\.mkv, content"
    ):
        FrameStore(store.directory).read("a.mp4", [0])


def test_a_store_that_was_not_finished(write, tmp_path):
    store, _ = write()
    manifest_file(store.directory).unlink()
    with pytest.raises(
        ValueError, match=r"no finished frame store \(manifest.parquet is missing\)"
    ):
        FrameStore(store.directory)
    assert write()[1] == []  # nothing but the manifest was missing
    with pytest.raises(ValueError, match="no finished frame store"):
        FrameStore(tmp_path / "nowhere")


def test_a_store_of_another_version(write):
    store, _ = write()
    file = manifest_file(store.directory)
    table = pq.read_table(file)
    text = table.schema.metadata[b"vjax.store"].replace(b'"version": 1', b'"version": 99')
    pq.write_table(table.replace_schema_metadata({"vjax.store": text}), file)
    with pytest.raises(ValueError, match="a frame store of version 99, this is 1"):
        FrameStore(store.directory)


# ---- bad clips -----------------------------------------------------------------------------------


@pytest.fixture
def spoilt(corpus):
    """One file that the index refuses and one whose pictures stop half-way."""
    (corpus / "empty.mp4").touch()
    data = bytearray((corpus / "b.mkv").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (corpus / "b.mkv").write_bytes(data)


def test_bad_clips_are_rows_with_a_reason(write, spoilt):
    store, decoded = write(on_bad="skip")
    assert len(store) == 4 and "b.mkv" not in store.video_ids
    reasons = {name: (error, reason) for name, error, reason in store.bad}
    assert sorted(reasons) == ["b.mkv", "empty.mp4"]
    assert reasons["empty.mp4"][0] == "EmptyFile" and "0 bytes" in reasons["empty.mp4"][1]
    with pytest.raises(getattr(errors, reasons["b.mkv"][0]), match=r"b\.mkv"):
        store.read("b.mkv", [0])
    assert write(on_bad="skip")[1] == []


def test_a_bad_clip_ends_the_run_where_it_is_to(write, corpus, monkeypatch):
    def hang(*_, **__):
        raise errors.TimedOut("a.mp4: nothing after 10 s")

    with pytest.raises(errors.TimedOut), monkeypatch.context() as patch:
        patch.setattr(reader.Reader, "read", hang)
        write()
    assert write()[1] == ["a.mp4", "b.mkv", "c.mpg", "sub/d.mp4", "sub/e.mp4"]


def test_what_only_the_system_refused_is_tried_again(write, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(reader.Reader, "why", lambda *_: errors.Unreadable("a.mp4: no memory"))
        patch.setattr(reader.Reader, "read", lambda self, source, rows, **_: None)
        store, _ = write(clips=5, on_bad="skip")
    assert [error for _, error, _ in store.bad] == ["Unreadable"] * 5
    store, decoded = write(clips=5, on_bad="skip")
    assert store.bad == [] and len(decoded) == 5


# ---- again ---------------------------------------------------------------------------------------


def test_a_second_pass_decodes_nothing_and_changes_nothing(write):
    store, decoded = write()
    assert decoded == ["a.mp4", "b.mkv", "c.mpg", "sub/d.mp4", "sub/e.mp4"]
    files = {p: p.stat().st_mtime_ns for p in store.directory.rglob("*.*") if p.suffix != ".lock"}
    assert write()[1] == []
    assert files == {p: p.stat().st_mtime_ns for p in files}


def test_another_folder_gets_the_same_bytes(write):
    one, _ = write()
    two, _ = write(folder="another", threads=5)
    names = sorted(p.relative_to(one.directory) for p in one.directory.rglob("*") if p.is_file())
    assert len(names) == 8  # three shards, their parts, settings and manifest
    for name in names:
        assert (one.directory / name).read_bytes() == (two.directory / name).read_bytes(), name


def test_only_shards_whose_files_changed_are_written_again(write, make_video, corpus):
    store, _ = write()
    before = store.read("c.mpg", [0, 1])
    make_video(corpus / "a.mp4", n=35, g="10")
    store, decoded = write()
    assert decoded == ["a.mp4", "b.mkv"]
    assert store.table("a.mp4").index[-1] == 30 and (store.read("c.mpg", [0, 1]) == before).all()
    (corpus / "sub" / "e.mp4").unlink()
    store, decoded = write()
    assert decoded == [] and len(store) == 4
    assert not shard_file(store.directory, 2).exists()


def test_a_touched_file_is_the_same_file(write, corpus):
    write()
    os.utime(corpus / "a.mp4", (1, 1))
    assert write()[1] == []


def test_other_settings_are_refused_with_the_difference(write):
    write()
    rule = Sampling("fps", fps=2.0, max_frames=8)
    with pytest.raises(ValueError, match=r"other settings:\n  side: 64 -> 32\n  fps: 8.0 -> 2.0\n"):
        write(Settings(rule, side=32))


def test_a_folder_of_other_things_is_refused(write, corpus, tmp_path):
    with pytest.raises(ValueError, match="corpus holds a.mp4 and no frame store"):
        write(folder="corpus")
    with pytest.raises(ValueError, match="holds a.mp4 and no frame store"):
        shard_writer.clear(corpus)
    store, _ = write()
    (store.directory / "notes.txt").touch()
    shard_writer.clear(store.directory)
    assert [path.name for path in store.directory.iterdir()] == ["notes.txt"]
