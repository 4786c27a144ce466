import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vjax.video import store as store_module
from vjax.video.decode import decode
from vjax.video.errors import EmptyFile
from vjax.video.frames import Clip
from vjax.video.store import ClipStore


@pytest.fixture
def corpus(make_video, tmp_path):
    """A short video and one of 10 s."""
    root = tmp_path / "corpus"
    (root / "sub").mkdir(parents=True)
    short = make_video(root / "short.mp4", n=30)
    long = make_video(root / "sub" / "long.mp4", n=200, fps=20, picture=lambda i: _moving(i))
    return root, [short, long]


def _moving(i):
    image = np.full((96, 128, 3), 90, np.uint8)
    image[20:60, i % 90 : i % 90 + 30] = 220
    return image


@pytest.fixture
def decodes(monkeypatch):
    """Paths decoded in this process."""
    seen = []
    real = store_module.decode_cut
    monkeypatch.setattr(
        store_module, "decode_cut", lambda path, **kw: seen.append(path) or real(path, **kw)
    )
    return seen


def assert_equal(one: Clip, other: Clip):
    for name in ("video_id", "path", "content_hash", "width", "height", "rotation"):
        assert getattr(one.table, name) == getattr(other.table, name)
    np.testing.assert_array_equal(one.table.index, other.table.index)
    np.testing.assert_array_equal(one.table.time, other.table.time)
    np.testing.assert_array_equal(one.frames, other.frames)
    np.testing.assert_array_equal(one.motion, other.motion)
    assert one.table.index.dtype == other.table.index.dtype
    assert one.motion.dtype == other.motion.dtype
    assert one.group == other.group


def test_round_trip(make_video, tmp_path):
    clip = decode(make_video(tmp_path / "a.mp4"))
    store = ClipStore(tmp_path / "store")
    assert_equal(store.get(store.put(clip)), clip)


def test_frames_are_mapped_not_read(make_video, tmp_path):
    store = ClipStore(tmp_path / "store")
    key = store.put(decode(make_video(tmp_path / "a.mp4")))
    frames = store.get(key).frames
    assert isinstance(frames, np.memmap) and not frames.flags.writeable


def test_entry_needs_no_pixels(make_video, tmp_path):
    clip = decode(make_video(tmp_path / "a.mp4"))
    store = ClipStore(tmp_path / "store")
    key = store.put(clip)
    store._file(key, ".npy").unlink()
    entry = store.entry(key)
    assert entry.table.video_id == "a.mp4" and entry.group == "a.mp4"
    np.testing.assert_array_equal(entry.motion, clip.motion)


def test_key_depends_on_what_was_decoded_and_how(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    store = ClipStore(tmp_path / "store")
    keys = [
        store.put(decode(path)),
        store.put(decode(path, window=(0, 1000))),
        store.put(decode(path, store_size=48)),
        store.put(decode(path, resize="reference"), resize="reference"),
        store.put(decode(path, signal="ssim"), signal="ssim"),
    ]
    assert len(set(keys)) == 5


def test_missing_clip(tmp_path):
    with pytest.raises(KeyError, match="no clip abc"):
        ClipStore(tmp_path).get("abc")


def test_no_partial_files_are_left(make_video, tmp_path):
    store = ClipStore(tmp_path / "store")
    store.put(decode(make_video(tmp_path / "a.mp4")))
    assert not list((tmp_path / "store").rglob("*.partial"))


def test_build_cuts_long_files_and_keeps_the_order(corpus, tmp_path):
    root, paths = corpus
    store = ClipStore(tmp_path / "store")
    keys, dropped = store.build(paths, root=root, workers=0)
    assert dropped == []
    ids = [store.entry(key).table.video_id for key in keys]
    assert ids[0] == "short.mp4" and len(ids) >= 3
    windows = [store.entry(key).table.window for key in keys[1:]]
    assert windows == sorted(windows)
    assert {store.entry(key).group for key in keys} == {"short.mp4", "sub/long.mp4"}
    clip = store.get(keys[1])
    assert_equal(clip, decode(paths[1], root=root, window=windows[0]))


def test_second_build_decodes_nothing(corpus, tmp_path, decodes):
    root, paths = corpus
    store = ClipStore(tmp_path / "store")
    first = store.build(paths, root=root, workers=0)
    assert decodes == paths
    assert store.build(paths, root=root, workers=0) == first
    assert decodes == paths


def test_changed_file_is_decoded_again(corpus, make_video, tmp_path, decodes):
    root, paths = corpus
    store = ClipStore(tmp_path / "store")
    store.build(paths, root=root, workers=0)
    make_video(paths[0], n=20)
    store.build(paths, root=root, workers=0)
    assert decodes == [*paths, paths[0]]


def test_other_windows_are_cut_anew(corpus, tmp_path):
    root, paths = corpus
    store = ClipStore(tmp_path / "store")
    ones = store.build(paths, root=root, workers=0)
    others = store.build(paths, root=root, workers=0, seed=1)
    assert ones.keys[0] == others.keys[0]  # a whole file is the same clip
    assert ones.keys[1:] != others.keys[1:]


def test_processes_give_the_same_as_this_one(corpus, tmp_path):
    root, paths = corpus
    here = ClipStore(tmp_path / "here").build(paths, root=root, workers=0)
    there = ClipStore(tmp_path / "there").build(paths, root=root, workers=2)
    assert here == there
    for key in here.keys:
        one = ClipStore(tmp_path / "here").get(key)
        assert_equal(one, ClipStore(tmp_path / "there").get(key))


def test_bad_file_is_an_error(corpus, tmp_path):
    root, paths = corpus
    (root / "bad.mp4").touch()
    with pytest.raises(EmptyFile, match="bad.mp4"):
        ClipStore(tmp_path / "store").build([*paths, root / "bad.mp4"], root=root, workers=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_file_is_skipped_and_listed(corpus, tmp_path, workers):
    root, paths = corpus
    (root / "bad.mp4").touch()
    store = ClipStore(tmp_path / "store")
    built = store.build([root / "bad.mp4", paths[0]], root=root, workers=workers, on_bad="skip")
    assert [store.entry(key).group for key in built.keys] == ["short.mp4"]
    ((path, error, reason),) = built.dropped
    assert path == str(root / "bad.mp4") and error == "EmptyFile" and "0 bytes" in reason


def test_progress_counts_every_file(corpus, tmp_path):
    root, paths = corpus
    seen = []
    ClipStore(tmp_path / "store").build(
        paths, root=root, workers=0, progress=lambda *args: seen.append(args)
    )
    assert seen == [(1, 2, str(paths[0])), (2, 2, str(paths[1]))]


def test_one_video_id_twice(corpus, tmp_path):
    root, paths = corpus
    with pytest.raises(ValueError, match="short.mp4"):
        ClipStore(tmp_path / "store").build([paths[0], paths[0]], root=root)


def test_unknown_on_bad(tmp_path):
    with pytest.raises(ValueError, match="ignore"):
        ClipStore(tmp_path).build([], on_bad="ignore")


def test_workers_never_see_jax():
    modules = [path.stem for path in Path(store_module.__file__).parent.glob("*.py")]
    assert "decode" in modules
    code = "".join(f"import vjax.video.{name}\n" for name in modules)
    code += "import sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def hang(*_):
    while True:
        time.sleep(1)


def test_a_file_that_hangs_is_dropped_at_the_deadline(corpus, tmp_path, monkeypatch):
    root, paths = corpus
    monkeypatch.setattr(store_module, "decode_into", hang)
    built = ClipStore(tmp_path).build(paths, root=root, deadline=0.5, on_bad="skip")
    assert built.keys == []
    assert [drop.error for drop in built.dropped] == ["TimedOut"] * 2


def test_what_is_no_file_is_dropped_and_hangs_nothing(corpus, tmp_path):
    root, paths = corpus
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    (root / "endless.mp4").symlink_to("/dev/zero")
    bad = [root / name for name in ("pipe.mp4", "folder.mp4", "endless.mp4", "gone.mp4")]
    built = ClipStore(tmp_path).build([*bad, paths[0]], root=root, on_bad="skip", deadline=5)
    assert len(built.keys) == 1
    said = ["a named pipe", "a folder", "a device", "No such file"]
    for drop, reason in zip(built.dropped, said, strict=True):
        assert reason in drop.reason


def test_a_list_whose_images_change_is_decoded_again(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "frames.json").write_text('{"fps": 5}')

    def build(level):
        for n in range(8):
            Image.fromarray(np.full((32, 32, 3), level + n, np.uint8)).save(root / f"{n}.png")
        store = ClipStore(tmp_path / "store")
        (key,) = store.build([root / "frames.json"], root=root, workers=0).keys
        return store.get(key).frames

    assert build(10).max() == 17
    assert build(200).min() == 200
