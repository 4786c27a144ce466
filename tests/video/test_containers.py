"""Every container and kind of picture: right times, upright RGB, and the same frame by any way.

The truth is what the test itself wrote, and PyAV's own packets and frames.
"""

import json
import os
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vjax.video import errors
from vjax.video.decode import timed_frames
from vjax.video.folder import list_videos
from vjax.video.probe import hash_of, probe
from vjax.video.read import read_frames
from vjax.video.shape import BICUBIC, Shaper

N, FPS = 24, 10


def picture(i, height=49, width=65):
    """White from the left to column 2 i + 4, in its lower half grey: order and side can be seen."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : 2 * i + 4] = 255
    image[height // 2 :, : 2 * i + 4] = 120
    return image


def write(path, codec, pix_fmt, *, sides=(48, 64), n=N, options=None, container=None, times=None):
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=FPS, options=options or {})
        stream.height, stream.width = sides
        stream.pix_fmt = pix_fmt
        base = Fraction(1, 1000) if times is not None else Fraction(1, FPS)
        stream.codec_context.time_base = base
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(picture(i, *sides), format="rgb24")
            frame.pts = i if times is None else round(1000 * times[i])
            frame.time_base = base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


ODD = (49, 65)
KEYS = {"g": "6"}
KINDS = {
    "h264.mp4": ("libx264", "yuv420p", dict(options=KEYS)),
    "h264_10bit.mp4": ("libx264", "yuv420p10le", dict(options=KEYS)),
    "h264_odd.mp4": ("libx264", "yuv444p", dict(sides=ODD, options=KEYS)),
    "interlaced.mp4": ("libx264", "yuv420p", dict(options={"x264-params": "tff=1:keyint=6"})),
    "hevc_10bit.mp4": ("libx265", "yuv420p10le", dict(options={"x265-params": "keyint=6"})),
    "h264.mkv": ("libx264", "yuv420p", dict(options=KEYS)),
    "vp9_alpha.webm": ("libvpx-vp9", "yuva420p", dict(sides=ODD, options=KEYS)),
    "vp8.webm": ("libvpx", "yuv420p", dict(options=KEYS)),
    "vp8.ogv": ("libvpx", "yuv420p", dict(options=KEYS)),
    "av1.mp4": ("libsvtav1", "yuv420p", dict(sides=(64, 64), options=KEYS)),
    "mjpeg_odd.avi": ("mjpeg", "yuvj420p", dict(sides=ODD)),
    "mpeg4.avi": ("mpeg4", "yuv420p", dict(options=KEYS | {"bf": "2"})),
    "mpeg4.mp4": ("mpeg4", "yuv420p", dict(options=KEYS | {"bf": "2"})),
    "prores_10bit.mov": ("prores_ks", "yuv422p10le", {}),
    "png_alpha.mov": ("png", "rgba", dict(sides=ODD)),
    "ffv1_odd.mkv": ("ffv1", "yuv444p", dict(sides=ODD)),
    "gif.gif": ("gif", "rgb8", dict(sides=ODD)),
    "h264.ts": ("libx264", "yuv420p", dict(options=KEYS)),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", dict(options=KEYS | {"bf": "2"})),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made = {}

    def video(name):
        if name not in made:
            codec, pix_fmt, more = KINDS[name]
            made[name] = write(folder / name, codec, pix_fmt, **more)
        return made[name]

    return video


def by_pyav(path):
    """Times in seconds and RGB of every frame, in the order in which they are shown."""
    flags = dict(format="rgb24", interpolation=BICUBIC, threads=1)  # ours; FFmpeg's are bilinear
    with av.open(str(path)) as container:
        return [(f.time, f.reformat(**flags).to_ndarray()) for f in container.decode(video=0)]


@pytest.mark.parametrize("name", KINDS)
def test_times_and_pictures_are_what_was_written(videos, name):
    path = videos(name)
    source = probe(path)
    sides = KINDS[name][2].get("sides", (48, 64))
    assert (source.height, source.width) == sides
    shaper = Shaper(None, "reference")
    frames = [(index, time, shaper.rgb(frame)) for index, time, frame in timed_frames(source)]
    assert [index for index, *_ in frames] == list(range(N))
    times = np.array([time for _, time, _ in frames])
    np.testing.assert_allclose(times - times[0], np.arange(N) / FPS, atol=1e-3)
    for i, _, rgb in frames:
        assert np.abs(rgb.astype(int) - picture(i, *sides)).mean() < 12, f"frame {i}"


@pytest.mark.parametrize("name", KINDS)
def test_times_and_pixels_are_pyavs_own(videos, name):
    path = videos(name)
    source, shaper = probe(path), Shaper(None, "reference")
    theirs = by_pyav(path)
    ours = [(time, shaper.rgb(frame)) for _, time, frame in timed_frames(source)]
    if source.container != "avi":  # which stores no times: FFmpeg guesses
        assert [time for time, _ in ours] == pytest.approx([time for time, _ in theirs], abs=1e-6)
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_frames_asked_for_are_those_of_a_full_decode(videos, name, threads):
    source, shaper = probe(videos(name)), Shaper(32, "swscale")
    whole = [shaper.rgb(frame) for _, _, frame in timed_frames(source)]
    rng = np.random.default_rng(0)
    for rows in ([0], [N - 1], [5, 6, 7], [23, 1, 1, 12], *rng.integers(0, N, (4, 3)).tolist()):
        got = read_frames(source, rows, size=32, resize="swscale", threads=threads)
        np.testing.assert_array_equal(got, np.stack([whole[row] for row in rows]), err_msg=rows)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.gif"])
def test_variable_rate(tmp_path, name):
    times = np.round(np.cumsum([0, 0.02, 0.3, 0.05, 0.2, 0.04, 0.4, 0.02]), 2)  # as GIF stores them
    codec, pix_fmt = {"a.webm": ("libvpx", "yuv420p"), "a.gif": ("gif", "rgb8")}.get(
        name, ("libx264", "yuv420p")
    )
    source = probe(write(tmp_path / name, codec, pix_fmt, n=8, times=times))
    np.testing.assert_allclose(source.times, times, atol=1e-9)
    assert [t for _, t, _ in timed_frames(source)] == pytest.approx(times.tolist())


def test_times_that_run_backwards_in_the_file(tmp_path):
    """Packets of still pictures, stored in another order than that in which they are shown."""
    order = [0, 3, 1, 2, 5, 4, 7, 6]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        packets = []
        for i in order:
            frame = av.VideoFrame.from_ndarray(picture(i, 48, 64), format="rgb24")
            packets += stream.encode(frame)
        packets += stream.encode()
        for n, (i, packet) in enumerate(zip(order, packets, strict=True)):
            packet.time_base = Fraction(1, FPS)
            packet.pts, packet.dts = i, n - 4
            file.mux(packet)
    source, shaper = probe(path), Shaper(None, "reference")
    np.testing.assert_allclose(np.diff(source.times), 0.1, atol=1e-3)
    for i, time, frame in timed_frames(source):
        assert time == source.times[i]
        assert np.abs(shaper.rgb(frame).astype(int) - picture(i, 48, 64)).mean() < 12
    for i, rgb in enumerate(read_frames(source, range(8))):
        assert np.abs(rgb.astype(int) - picture(i, 48, 64)).mean() < 12


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_frames_of_one_time(tmp_path, codec):
    """Two that are shown at the same moment stay two, in the order of the file."""
    path, ticks = tmp_path / "a.mkv", [0, 1, 1, 2, 3, 5, 5, 6]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=FPS, options={"g": "4", "bf": "0"})
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        packets = []
        for i in range(len(ticks)):
            frame = av.VideoFrame.from_ndarray(picture(i, 48, 64), format="rgb24")
            packets += stream.encode(frame)
        for tick, packet in zip(ticks, packets + stream.encode(), strict=True):
            packet.time_base, packet.pts, packet.dts = Fraction(1, FPS), tick, tick
            file.mux(packet)
    source, theirs = probe(path), by_pyav(path)
    np.testing.assert_allclose(source.times, np.array(ticks) / FPS, atol=1e-9)
    assert [n for n, _, _ in timed_frames(source)] == list(range(len(ticks)))
    frames = read_frames(source, range(len(ticks)))
    np.testing.assert_array_equal(frames, np.stack([rgb for _, rgb in theirs]))


def with_edits(path, edits):
    """Writes the edit list of an MP4 anew: milliseconds, and the tick of 1/10240 s they start at,
    or None for an empty edit, before which nothing is shown."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") - 4
    old, first = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 20 : at + 24])
    rows = [
        struct.pack(">IiI", length, -1 if start is None else first + start, 0x10000)
        for length, start in edits
    ]
    box = b"elst" + bytes(4) + len(rows).to_bytes(4, "big") + b"".join(rows)
    data[at : at + old] = (len(box) + 4).to_bytes(4, "big") + box
    for name in (b"edts", b"trak", b"moov"):  # which is the last of the file
        box_at = data.index(name) - 4
        size = int.from_bytes(data[box_at : box_at + 4], "big") + len(box) + 4 - old
        data[box_at : box_at + 4] = size.to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("edits", "order", "delay"),
    [
        ([(700, None), (2400, 0)], [*range(24)], 0.7),
        ([(800, 0), (800, 16 * 1024)], [*range(8), *range(16, 24)], 0),
        ([(800, 16 * 1024), (800, 0)], [*range(16, 24), *range(8)], 0),
        ([(800, 0), (800, 0)], [*range(8), *range(8)], 0),
    ],
    ids=["delay", "two pieces", "swapped", "twice"],
)
def test_edit_lists(tmp_path, edits, order, delay):
    path = write(tmp_path / "a.mp4", "libx264", "yuv420p", options=KEYS)
    whole = [rgb for _, rgb in by_pyav(path)]
    with_edits(path, edits)
    source = probe(path)
    # FFmpeg shows a piece that begins between key frames one frame early
    np.testing.assert_allclose(source.times, delay + np.arange(len(order)) / FPS, atol=1.01 / FPS)
    assert source.times.tolist() == pytest.approx([time for time, _ in by_pyav(path)], abs=1e-9)
    frames = read_frames(source, range(len(order)))
    np.testing.assert_array_equal(frames, np.stack([whole[n] for n in order]))


@pytest.mark.parametrize("size", [None, 32, (20, 36)])
@pytest.mark.parametrize("resize", ["swscale", "reference"])
def test_sizes(videos, size, resize):
    frames = read_frames(probe(videos("h264.mp4")), [3, 4], size=size, resize=resize)
    height, width = {None: (48, 64), 32: (32, 32)}.get(size, size)
    assert frames.dtype == np.uint8 and frames.shape == (2, height, width, 3)


def test_a_turned_file_at_a_size_that_is_no_square(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(90)
        for i in range(6):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, 48, 64), format="rgb24")))
        file.mux(stream.encode())
    source = probe(path)
    assert (source.height, source.width, source.rotation) == (64, 48, 90)
    upright = np.rot90(picture(5, 48, 64))
    for resize in ("swscale", "reference"):
        frame = read_frames(source, [5], size=(64, 48), resize=resize)[0]
        assert np.abs(frame.astype(int) - upright).mean() < 12


def test_rows_that_are_not_there(videos):
    with pytest.raises(IndexError, match=r"\[24\] asked of 24 frames"):
        read_frames(probe(videos("h264.mp4")), [24])


def test_no_rows(videos):
    assert read_frames(probe(videos("h264.mp4")), []).shape[0] == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.mov"])
def test_a_last_frame_that_stays_for_long_is_no_damage(tmp_path, name):
    codec, pix_fmt = ("gif", "rgb8") if name == "a.gif" else ("mjpeg", "yuvj420p")
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=1)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        for i, seconds in enumerate((1, 1, 5)):
            frame = av.VideoFrame.from_ndarray(picture(i, 48, 64), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1)
            for packet in stream.encode(frame):
                packet.duration = round(seconds / packet.time_base)
                file.mux(packet)
        file.mux(stream.encode())
    source = probe(tmp_path / name)
    np.testing.assert_allclose(source.times, [0, 1, 2], atol=0.01)
    assert source.duration == pytest.approx(7, abs=0.02)


def test_frames_before_the_first_key_frame_do_not_count(tmp_path):
    """An AVI cut in the middle of a group: its first packets decode to nothing."""
    whole = write(tmp_path / "whole.avi", "mpeg4", "yuv420p", options={"g": "6", "bf": "0"})
    with av.open(str(whole)) as old, av.open(str(tmp_path / "cut.avi"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for n, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if n >= 3:
                packet.stream = stream
                new.mux(packet)
    source, whole = probe(tmp_path / "cut.avi"), probe(whole)
    truth = read_frames(whole, range(6, N))
    assert len(source.packet_bytes) == N - 6
    np.testing.assert_array_equal(read_frames(source, range(N - 6)), truth)


def test_an_image_of_16_bits(stills):
    path = stills({"fps": 1, "frames": ["deep.png"]})
    levels = np.array([[0, 1, 2, 100, 255]], np.uint16) * 256
    Image.fromarray(levels).save(path.parent / "deep.png")
    assert read_frames(probe(path), [0])[0, 0, :, 0].tolist() == [0, 1, 2, 100, 255]


# Lists of images ----------------------------------------------------------------------------------


@pytest.fixture
def stills(tmp_path):
    """stills(fields): a list of six images, named so that 10 sorts before 2 as text."""
    folder = tmp_path / "corpus" / "clip"
    folder.mkdir(parents=True)
    names = ["1.png", "2.png", "3.png", "9.png", "10.png", "11.png"]
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(folder / name)

    def make(fields, name="frames.json"):
        (folder / name).write_text(json.dumps(fields))
        return folder / name

    return make


def test_a_folder_of_images(stills):
    source = probe(stills({"fps": 4}))
    assert (source.container, source.codec) == ("images", "png")
    np.testing.assert_allclose(source.times, np.arange(6) / 4)
    np.testing.assert_array_equal(read_frames(source, [5, 0]), [picture(5), picture(0)])
    assert [time for _, time, _ in timed_frames(source)] == source.times.tolist()


def test_a_list_with_times(stills):
    path = stills({"times": [0, 0.5, 3], "frames": ["1.png", "9.png", "10.png"]}, "a.frames.json")
    source = probe(path, path.parents[1])
    assert source.video_id == "clip/a.frames.json"
    assert source.times.tolist() == [0, 0.5, 3]
    np.testing.assert_array_equal(read_frames(source, [1, 2]), [picture(3), picture(4)])


def test_images_are_turned_as_their_exif_says(stills, tmp_path):
    path = stills({"fps": 1, "frames": ["a.jpg"]})
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(picture(9))).save(path.parent / "a.jpg", exif=exif, quality=95)
    assert np.abs(read_frames(probe(path), [0])[0].astype(int) - picture(9)).mean() < 6


def test_a_list_that_names_a_pipe(stills):
    path = stills({"fps": 1, "frames": ["1.png", "pipe.png"]})
    os.mkfifo(path.parent / "pipe.png")
    with pytest.raises(errors.NotAVideo, match=r"pipe\.png: no file"):
        probe(path)
    with pytest.raises(errors.NotAVideo, match=r"pipe\.png: no file"):
        hash_of(path)  # before any child is asked
    with pytest.raises(errors.TruncatedVideo, match=r"pipe\.png"):
        probe(stills({"fps": 1, "frames": ["pipe.png"]}))


def test_lists_are_found_in_a_corpus(stills, tmp_path):
    made = stills({"fps": 4})
    assert list_videos(tmp_path / "corpus") == [made]


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"fps": 0}, errors.NoTimes, "fps is 0"),
        ({}, errors.NoTimes, "either fps or times"),
        ({"times": [0, 1], "frames": ["1.png"]}, errors.NoTimes, "2 times for 1 frames"),
        ({"times": [1, 0], "frames": ["1.png", "2.png"]}, errors.NoTimes, "ascending"),
        ({"fps": 1, "frames": ["none.png"]}, errors.TruncatedVideo, r"none\.png"),
        ({"fps": 1, "frames": []}, errors.NotAVideo, "no list of file names"),
        ({"fps": 1, "frames": 5}, errors.NotAVideo, "no list of file names"),
        ({"fps": 1, "frames": ["a\0b"]}, errors.NotAVideo, "no list of file names"),
        ({"fps": True}, errors.NoTimes, "fps is True"),
        ({"fps": float("nan")}, errors.NoTimes, "fps is nan"),
        ({"times": {"a": 1}}, errors.NoTimes, "no list of seconds"),
        ({"times": ["0", "1"]}, errors.NoTimes, "no list of seconds"),
        ({"times": [0, 10**400]}, errors.NoTimes, "no list of seconds"),
        ({"rate": 1}, errors.NotAVideo, "other things"),
        (["1.png"], errors.NotAVideo, "other things"),
    ],
)
def test_lists_that_are_wrong(stills, fields, error, match):
    with pytest.raises(error, match=match) as caught:
        probe(stills(fields))
    assert "clip" in str(caught.value)
