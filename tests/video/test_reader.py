"""The reader: policies for bad clips, quarantine, and threads that share children."""

import dataclasses
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vjax.video import errors, reader
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.reader import Reader


@pytest.fixture
def sound(make_video, tmp_path):
    return probe(make_video(tmp_path / "sound.mp4", n=30, g="10"))


@pytest.fixture
def broken(make_video, tmp_path):
    """Fine when it was indexed, cut to nothing since."""
    path = make_video(tmp_path / "broken.mp4", n=30)
    source = probe(path)
    path.write_bytes(b"x" * source.bytes)
    return source


def hang(source, rows, **_):
    os.read(os.pipe()[0], 1)  # nobody will write


def test_frames_are_read_in_children(sound):
    with Reader(1, workers=1) as read:
        frames = read.read(sound, [3, 20], size=32)
    np.testing.assert_array_equal(frames, read_frames(sound, [3, 20], size=32))
    assert read.counts == {"read": 1}


def test_error_raises_what_is_wrong(broken):
    with (
        Reader(1, workers=1) as read,
        pytest.raises(errors.NotAVideo, match=r"broken\.mp4"),
    ):
        read.read(broken, [0], size=32)


def test_skip_gives_a_hole(broken, sound):
    with Reader(2, workers=1, on_bad="skip", max_bad_share=0.5) as read:
        assert read.read(broken, [0, 1], size=32) is None
        assert read.read(sound, [0, 1], size=32).shape == (2, 32, 32, 3)
    assert read.counts == {"NotAVideo": 1, "read": 1}


@pytest.mark.parametrize(
    ("size", "shape"), [(32, (2, 32, 32, 3)), ((20, 36), (2, 20, 36, 3)), (None, (2, 96, 128, 3))]
)
def test_blank_gives_black_frames_of_the_shape_asked_for(broken, size, shape):
    with Reader(1, workers=0, on_bad="blank", max_bad_share=1) as read:
        frames = read.read(broken, [0, 1], size=size)
    assert frames.shape == shape and frames.dtype == np.uint8 and not frames.any()


def test_a_clip_that_hangs_is_put_in_quarantine_and_not_tried_again(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "read_frames", hang)
    options = dict(workers=1, deadline=0.5, on_bad="skip", max_bad_share=1)
    with Reader(1, quarantine=tmp_path / "quarantine.jsonl", **options) as read:
        assert read.read(sound, [0], size=32) is None
        monkeypatch.setattr(reader, "read_frames", read_frames)
        assert read.read(sound, [0], size=32) is None
        assert read.counts == {"TimedOut": 2}
    (line,) = filter(None, (tmp_path / "quarantine.jsonl").read_text().splitlines())
    assert json.loads(line)["video_id"] == "sound.mp4" and "0.5 s" in json.loads(line)["reason"]
    with Reader(1, quarantine=tmp_path / "quarantine.jsonl", **options) as later:
        assert later.read(sound, [0], size=32) is None
        assert [name for name, _ in later.bad] == ["sound.mp4"]


def test_a_clip_whose_bytes_changed_is_tried_again(sound, broken, tmp_path):
    options = dict(workers=0, on_bad="skip", max_bad_share=1, quarantine=tmp_path / "q.jsonl")
    with Reader(1, **options) as read:
        assert read.read(broken, [0], size=32) is None
    mended = dataclasses.replace(sound, video_id=broken.video_id)
    with Reader(1, **options) as read:
        assert read.read(mended, [0], size=32) is not None


def test_too_many_bad_clips_end_the_run(broken):
    others = [dataclasses.replace(broken, video_id=f"{n}.mp4") for n in range(3)]
    with Reader(10, workers=0, on_bad="skip", max_bad_share=0.2) as read:
        assert [read.read(source, [0], size=32) for source in others[:2]] == [None, None]
        with pytest.raises(errors.TooManyBad, match=r"3 of 10 clips .*max_bad_share=0\.2"):
            read.read(others[2], [0], size=32)


def test_clips_in_quarantine_count_when_they_are_asked_for(broken, sound, tmp_path):
    options = dict(workers=0, on_bad="skip", quarantine=tmp_path / "q.jsonl")
    with Reader(4, max_bad_share=1, **options) as read:
        for n in range(3):
            read.read(dataclasses.replace(broken, video_id=f"{n}.mp4"), [0], size=32)
    with Reader(4, max_bad_share=0.25, **options) as read:
        assert read.read(sound, [0], size=32) is not None  # the other three are not of this run
        assert read.read(dataclasses.replace(broken, video_id="0.mp4"), [0], size=32) is None
        with pytest.raises(errors.TooManyBad, match="2 of 4 clips"):
            read.read(dataclasses.replace(broken, video_id="1.mp4"), [0], size=32)


def test_a_line_cut_off_in_mid_write_is_passed_over(broken, tmp_path):
    options = dict(workers=0, on_bad="skip", max_bad_share=1, quarantine=tmp_path / "q.jsonl")
    (tmp_path / "q.jsonl").write_text('{"video_id": "x", "cont')
    for _ in range(2):
        with Reader(1, **options) as read:
            assert read.read(broken, [0], size=32) is None


def test_a_file_that_changed_since_it_was_indexed_is_not_read(sound, make_video):
    make_video(sound.path, n=31)
    with pytest.raises(errors.Changed, match=r"sound\.mp4: \d+ bytes, \d+ when it was indexed"):
        read_frames(sound, [0])


def test_threads_share_children(sound):
    expected = read_frames(sound, [0, 29], size=32)
    with Reader(1, workers=2) as read, ThreadPoolExecutor(6) as threads:
        for frames in threads.map(lambda _: read.read(sound, [0, 29], size=32), range(24)):
            np.testing.assert_array_equal(frames, expected)
    assert read.counts == {"read": 24}


@pytest.mark.parametrize(("frames", "most"), [(4, 1), (2, 2), (1, 4)])
def test_bytes_in_flight_are_bounded(sound, monkeypatch, frames, most):
    """Of room for five frames, by four children: calls of 4, 2 or 1 frame at a time."""
    lock, at_work, seen = threading.Lock(), [], []

    def call(function, source, rows, **_):
        with lock:
            at_work.append(len(rows))
            seen.append(sum(at_work))
        time.sleep(0.02)
        with lock:
            at_work.remove(len(rows))
        return np.zeros(0)

    with Reader(1, workers=4, in_flight=5 * 32 * 32 * 3) as read, ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr(read._children, "call", call)
        list(threads.map(lambda _: read.read(sound, range(frames), size=32), range(20)))
        assert max(seen) <= most * frames <= 5
        list(threads.map(lambda _: read.read(sound, range(9), size=32), range(6)))
    assert max(seen) == 9  # more than there is room for: alone


def test_room_is_given_back_after_an_error(broken):
    with Reader(3, workers=0, on_bad="skip", max_bad_share=1, in_flight=1) as read:
        for n in range(3):
            assert read.read(dataclasses.replace(broken, video_id=f"{n}"), [0], size=32) is None


def test_a_spoilt_quarantine_file(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"video_id": "a"}\n')
    with pytest.raises(ValueError, match=r"q\.jsonl, line 1"):
        Reader(1, quarantine=tmp_path / "q.jsonl")


def resident(process: int) -> float:
    """Megabytes in memory."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_ten_thousand_clips_leave_no_memory_behind(sound, broken):
    """Of every ten one is bad; memory and open files of this process and of the children stay
    where they were."""
    sources, open_files = [dataclasses.replace(broken, video_id="bad")] + [sound] * 9, []
    with (
        Reader(10, workers=2, on_bad="skip", max_bad_share=0.2) as read,
        ThreadPoolExecutor(3) as threads,
    ):

        def go(count):
            for n in range(0, count, 100):
                list(
                    threads.map(
                        lambda k: read.read(sources[k % 10], [0, 14, 29], size=224),
                        range(n, n + 100),
                    )
                )
            pids = (os.getpid(), *sorted(read._children.pids))
            open_files.append([len(os.listdir(f"/proc/{pid}/fd")) for pid in pids])
            return [resident(pid) for pid in pids]

        go(500)
        before = go(1000)
        after = go(8500)
    grown = [round(b - a, 1) for a, b in zip(before, after, strict=True)]
    # one frame kept of each clip would be 1,300 MB; what allocators keep back comes and goes
    assert max(grown) < 40, f"grown by {grown} MB"
    assert open_files[-1] == open_files[0], open_files
    assert read.counts["read"] == 9000
