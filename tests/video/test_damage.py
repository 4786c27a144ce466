"""Damaged videos: nothing hangs or crashes, no wrong frame comes out, drops have a reason."""

import time

import numpy as np
import pytest

from tests.video.damage import damaged, plan
from tests.video.test_containers import KINDS, write
from vjax.config import cache_root
from vjax.video import clips, errors
from vjax.video.clip_table import CLIPS
from vjax.video.decode import timed_frames, with_times
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.shape import Shaper
from vjax.video.supervise import Children

DEADLINE = 10.0
SIDE = 32
NAMES = (
    "h264.mp4", "h264.mkv", "mpeg4.avi", "vp9_alpha.webm", "hevc_10bit.mp4", "h264.ts",
    "gif.gif", "mpeg2.mpg", "av1.mp4", "mjpeg_odd.avi", "vp8.ogv", "interlaced.mp4",
)  # fmt: skip
# Sample clips that are read in a second, or two where they have to be decoded twice.
REAL = (
    "flashmob.mkv", "cup.mp4", "cityCC0.mpg", "tree.avi", "bikes.mp4", "carphone_pristine.mp4",
    "small.mp4", "WolfgangLanger_Pexels.mp4", "bigbuckbunny.mp4", "cam01.mp4",
)  # fmt: skip


def read_all(path, rows_seed):
    """(times, frames asked for, number and times of a walk's) of one file (runs in a child)."""
    source = with_times(probe(path))
    count = len(source.pts)
    rows = np.random.default_rng(rows_seed).integers(0, count, 4)
    some = read_frames(source, rows, size=SIDE, resize="swscale")
    shaper = Shaper(SIDE, "swscale")
    walked = [(time, shaper.rgb(frame)) for _, time, frame in timed_frames(source)]
    return source.times, some, len(walked), [time for time, _ in walked]


def made(folder):
    """Bytes of the videos that PyAV writes, by name."""
    whole = {}
    for name in NAMES:
        codec, pix_fmt, more = KINDS[name]
        whole[name] = write(folder / name, codec, pix_fmt, **more).read_bytes()
    return whole


@pytest.fixture(scope="module")
def real():
    """Bytes of sample clips, by name; they are fetched where they are not there yet."""
    chosen = [clip for clip in CLIPS if clip.name.rpartition("/")[2] in REAL]
    whole = {path.name: path.read_bytes() for _, path in clips.fetch(cache_root(), clips=chosen)}
    return {name: whole[name] for name in REAL}


def survive(numbers, folder, whole):
    """Reads damaged videos as a run does; how many could be read, and why the others could not."""
    calls = []
    for number in numbers:
        kind, how, suffix, rng = plan(number, tuple(whole))
        path = folder / f"{number:05}_{how}{suffix}"
        path.write_bytes(damaged(whole[kind], how, rng))
        calls.append((path, number))
    read, dropped = 0, {}
    with Children(2, deadline=DEADLINE) as children:
        start = time.monotonic()
        for n, found in children.map(read_all, calls):
            path, _ = calls[n]
            path.unlink()
            if isinstance(found, errors.VideoError):
                assert str(path) in str(found), f"{found!r} does not name {path}"
                kind = type(found).__name__
                dropped[kind] = dropped.get(kind, 0) + 1
                continue
            times, frames, walked, shown = found
            assert frames.shape == (4, SIDE, SIDE, 3) and frames.dtype == np.uint8, path
            assert np.isfinite(times).all() and (np.diff(times) >= 0).all(), path
            assert walked > 0 and np.isfinite(shown).all() and (np.diff(shown) >= 0).all(), path
            read += 1
        spent = time.monotonic() - start
    assert read + sum(dropped.values()) == len(calls)
    hung = dropped.get("TimedOut", 0)
    assert spent < 60 + len(calls) + 2 * DEADLINE * hung, f"{spent:.0f} s"
    return read, dropped


def test_a_hundred(tmp_path):
    read, dropped = survive(range(100), tmp_path, made(tmp_path))
    assert read and dropped


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_that_pyav_wrote(tmp_path, block):
    survive(range(100 * block, 100 * block + 100), tmp_path, made(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10, 20))
def test_a_thousand_of_real_footage(tmp_path, real, block):
    survive(range(100 * block, 100 * block + 100), tmp_path, real)
