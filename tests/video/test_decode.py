import itertools

import av
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from tests.video.conftest import texture
from vjax.video import decode as decode_module
from vjax.video import errors, shape
from vjax.video import probe as probe_module
from vjax.video.decode import decode, decode_cut, decode_windows, motion_of, walk
from vjax.video.frames import milliseconds
from vjax.video.motion import motion_curve
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.sampling import pick

# What a container makes of H.264 with B-frames differs: MP4 and Matroska store times, AVI only an
# order, transport streams start late. A key frame every 12 frames, so that seeking does something.
CONTAINERS = {
    "h264.mp4": dict(codec="libx264", g="12"),
    "h264.mkv": dict(codec="libx264", g="12"),
    "h264.avi": dict(codec="libx264", g="12"),
    "h264.ts": dict(codec="libx264", g="12"),
    "mpeg4.avi": dict(codec="mpeg4", g="12", bf="2"),
    "mpeg2.mpg": dict(codec="mpeg2video", g="12", bf="2"),
    "no_b.mp4": dict(codec="libx264", g="12", bf="0"),
    "open_gop.mp4": {"codec": "libx264", "x264-params": "keyint=12:min-keyint=12:open-gop=1"},
}


def test_clip_has_the_tables_shapes_and_types(make_video, tmp_path):
    clip = decode(make_video(tmp_path / "a.mp4"))
    table = clip.table
    assert table.video_id == clip.group == "a.mp4"
    assert (table.width, table.height, table.rotation) == (128, 96, 0)
    assert table.index.dtype == np.int32 and table.index.tolist() == list(range(50))
    assert table.time.dtype == np.float64
    assert clip.frames.dtype == np.uint8 and clip.frames.shape == (50, 96, 96, 3)
    assert clip.motion.dtype == np.int64 and clip.motion.shape == (49,)


def test_times_at_a_constant_rate(make_video, tmp_path):
    clip = decode(make_video(tmp_path / "a.mp4", fps=30))
    np.testing.assert_allclose(clip.table.time, np.arange(50) / 30, atol=1e-4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times_at_a_variable_rate(make_video, tmp_path, name):
    times = np.cumsum([0, 0.01, 0.3, 0.05, 0.2, 0.04, 0.4, 0.02])
    clip = decode(make_video(tmp_path / name, n=8, times=times))
    np.testing.assert_allclose(clip.table.time, times, atol=1e-9)


@pytest.mark.parametrize("name", CONTAINERS)
def test_frames_are_in_presentation_order(make_video, tmp_path, name):
    def bar(i):  # moves right by 2 pixels a frame, so that order is seen in the pixels
        image = np.zeros((96, 128, 3), np.uint8)
        image[:, 2 * i + 8 : 2 * i + 24] = 255
        return image

    clip = decode(make_video(tmp_path / name, picture=bar, **CONTAINERS[name]))
    brightness = clip.frames.mean((1, 3))
    place = brightness @ np.arange(96) / brightness.sum(1)
    np.testing.assert_allclose(np.diff(place), 1.5, atol=0.4)
    np.testing.assert_allclose(np.diff(clip.table.time), 0.04, atol=1e-4)


@pytest.mark.parametrize("name", CONTAINERS)
def test_window_is_a_full_decode_cut_to_it(make_video, tmp_path, name):
    path = make_video(tmp_path / name, **CONTAINERS[name])
    whole = decode(path)
    start = int(milliseconds(whole.table.time[0])) + 810
    window = (start, start + 600)
    clip = decode(path, window=window)
    ms = milliseconds(whole.table.time)
    inside = (ms >= window[0]) & (ms < window[1])
    assert inside.sum() == 15
    np.testing.assert_array_equal(clip.table.index, whole.table.index[inside])
    np.testing.assert_array_equal(clip.table.time, whole.table.time[inside])
    np.testing.assert_array_equal(clip.frames, whole.frames[inside])
    np.testing.assert_array_equal(clip.motion, whole.motion[inside[1:] & inside[:-1]])
    assert clip.table.video_id == f"{name}#{window[0]}-{window[1]}"
    assert clip.group == name


def test_window_decodes_little_more_than_itself(make_video, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", n=120, g="12")
    decoded = []
    real = decode_module._numbered

    def counting(*args):
        for item in real(*args):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(decode_module, "_numbered", counting)
    decode(path, window=(3000, 3400))
    assert decoded == list(range(75, 85))


def test_windows_are_decoded_in_one_pass(make_video, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", n=100)
    spans = [(0, 1000), (800, 1800), (2000, 3900)]
    alone = [decode(path, window=span) for span in spans]
    passes = []
    real = decode_module.timed_frames
    monkeypatch.setattr(
        decode_module, "timed_frames", lambda *args: passes.append(args) or real(*args)
    )
    together = list(decode_windows(path, spans))
    assert len(passes) == 1
    for one, other in zip(alone, together, strict=True):
        assert one.table.video_id == other.table.video_id
        np.testing.assert_array_equal(one.frames, other.frames)


def test_windows_must_ascend(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="ascend"):
        list(decode_windows(path, [(1000, 1500), (0, 800)]))


@pytest.mark.parametrize(
    "matrix, stored_turns, rotation",
    # QuickTime track matrix (a, b, c, d): x' = a x + c y, y' = b x + d y, y downwards.
    [((0, 1, -1, 0), 1, 270), ((0, -1, 1, 0), -1, 90), ((-1, 0, 0, -1), 2, 180)],
    ids=["clockwise", "counter-clockwise", "half"],
)
@pytest.mark.parametrize("resize", ["swscale", "reference"])
def test_rotated_file_comes_out_upright(
    make_video, tmp_path, matrix, stored_turns, rotation, resize
):
    upright = np.zeros((96, 128, 3), np.uint8)
    upright[:48, :64] = 255  # white at the top left
    stored = np.ascontiguousarray(np.rot90(upright, stored_turns))
    path = make_video(tmp_path / "a.mp4", n=6, picture=lambda i: stored)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + offset : at + offset + 4] = (value << 16 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)

    clip = decode(path, resize=resize)
    assert (clip.table.width, clip.table.height) == (128, 96)
    assert clip.table.rotation == rotation
    picture = clip.frames[0].mean(2)
    quarters = [picture[:48, :48], picture[:48, 48:], picture[48:, :48], picture[48:, 48:]]
    assert [round(quarter.mean() / 255) for quarter in quarters] == [1, 0, 0, 0]


def test_reference_resize_is_pillow_on_the_full_picture(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", n=6)
    clip = decode(path, resize="reference", store_size=48)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        flags = shape.BICUBIC
        full = frame.reformat(format="rgb24", interpolation=flags).to_ndarray()
    expected = Image.fromarray(full).resize((48, 48), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(clip.frames[0], np.asarray(expected))


def test_the_two_resizes_agree_on_a_smooth_picture(make_video, tmp_path):
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (96, 128, 3)))
    path = make_video(tmp_path / "a.mp4", n=6, picture=lambda i: picture)
    one, other = decode(path), decode(path, resize="reference")
    assert np.abs(one.frames.astype(int) - other.frames).max() <= 4


@pytest.mark.parametrize(("scale", "pix_fmt"), [(1, "yuv420p"), (3, "yuv420p"), (3, "yuv422p10le")])
def test_luma_is_every_kth_pixel_of_the_y_plane(make_video, tmp_path, scale, pix_fmt):
    def large(i):
        return texture(i).repeat(scale, 0).repeat(scale, 1)

    path = make_video(tmp_path / "a.mp4", n=6, picture=large, pix_fmt=pix_fmt)
    frames = list(walk(probe(path)))
    k = 96 * scale // 64
    with av.open(str(path)) as container:
        for ours, theirs in zip(frames, container.decode(video=0), strict=True):
            deep = "10" in pix_fmt
            plane = np.frombuffer(theirs.planes[0], np.uint16 if deep else np.uint8)
            plane = plane.reshape(theirs.height, -1)[:, : theirs.width] >> (2 if deep else 0)
            np.testing.assert_array_equal(ours.luma, plane[k // 2 :: k, k // 2 :: k])
    clip = decode(path)
    luma = np.stack([frame.luma for frame in frames])
    np.testing.assert_array_equal(clip.motion, motion_curve(luma))


def test_ssim_signal(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", n=6)
    greys = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            rgb = frame.reformat(format="rgb24", interpolation=shape.BICUBIC).to_ndarray()
            greys.append(np.asarray(Image.fromarray(rgb).convert("L")))
    expected = [1 - structural_similarity(a, b) for a, b in itertools.pairwise(greys)]
    curve = decode(path, signal="ssim").motion
    np.testing.assert_allclose(curve / 1e6, expected, atol=1e-6)
    np.testing.assert_array_equal(motion_of(probe(path), "ssim"), curve)
    for n in (3, 4, 8):
        picks, _ = pick(curve, n, mode="test")
        assert picks.tolist() == released_picks(expected, n)


def released_picks(differences, segments):
    """MGSampler's own steps (MCG-NJU/MGSampler, SampleFrames in test mode), from 1 - SSIM."""
    smoothed = np.power(differences, 0.5)
    density = smoothed / np.sum(smoothed)
    cumulative, total = [], 0.0
    for value in density:
        total += value
        cumulative.append(total)
    wanted = [1 / (2 * segments) + i / segments for i in range(segments)]
    return [int(np.argmin(np.abs(np.array(cumulative) - value))) for value in wanted]


def test_unknown_resize(make_video, tmp_path):
    with pytest.raises(ValueError, match="nearest"):
        decode(make_video(tmp_path / "a.mp4"), resize="nearest")


# Files that cannot be used -----------------------------------------------------------------------


def raises(error, path, match=None, **options):
    with pytest.raises(error, match=match) as caught:
        decode(path, **options)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)


def test_zero_bytes(tmp_path):
    (tmp_path / "a.mp4").touch()
    raises(errors.EmptyFile, tmp_path / "a.mp4", "0 bytes")


@pytest.mark.parametrize("text", ["hello\n" * 500, "#EXTM3U\n#EXT-X-VERSION:3\nhttp://x/y.ts\n"])
def test_text_named_mp4(tmp_path, text):
    (tmp_path / "a.mp4").write_text(text)
    raises(errors.NotAVideo, tmp_path / "a.mp4")


def test_audio_only(make_audio, tmp_path):
    raises(errors.NoVideoStream, make_audio(tmp_path / "a.mp4"), "audio")


def test_too_few_frames(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", n=4)
    raises(errors.TooFewFrames, path, "4 frames.*at least 5")


def test_too_few_frames_in_a_window(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    raises(errors.TooFewFrames, path, "3 frames in 0-100 ms", window=(0, 100))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_truncated(make_video, tmp_path, name):
    index_first = {"movflags": "faststart"} if name == "a.mp4" else {}  # as on the web
    path = make_video(tmp_path / name, n=100, container=index_first)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    raises(errors.TruncatedVideo, path)


def test_truncated_before_the_index(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    raises(errors.TruncatedVideo, path, "moov")


def test_stream_without_times(make_video, tmp_path):
    path = make_video(tmp_path / "a.h264")  # an elementary stream: pictures and nothing else
    raises(errors.NoTimes, path, "frame 0 is shown at no known time")


@pytest.mark.parametrize("trim", ["end", "start"])
def test_trimmed_file_is_not_truncated(make_video, tmp_path, trim):
    # A phone trims by an edit list: the frames stay in the file and are not to be shown.
    path = make_video(tmp_path / "a.mp4", n=100, g="12")
    whole = decode(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # duration in milliseconds, first tick of the media shown
    data[at : at + 4] = (2000).to_bytes(4, "big")
    if trim == "start":
        first = int.from_bytes(data[at + 4 : at + 8], "big") + 20 * 512
        data[at + 4 : at + 8] = first.to_bytes(4, "big")
    path.write_bytes(data)
    clip = decode(path)
    assert len(clip.frames) == 50
    np.testing.assert_allclose(clip.table.time, np.arange(50) / 25, atol=1e-4)
    skipped = 20 if trim == "start" else 0
    np.testing.assert_array_equal(clip.frames, whole.frames[skipped : skipped + 50])


def test_a_key_frame_without_a_time_that_is_not_shown(make_video, tmp_path, monkeypatch):
    """Demuxed packets of a file trimmed at its start, the times of those not shown taken away."""
    path = make_video(tmp_path / "a.mp4", n=40, g="12")
    whole = decode(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # duration in milliseconds, first tick of the media shown
    first = int.from_bytes(data[at + 4 : at + 8], "big") + 20 * 512
    data[at : at + 8] = (800).to_bytes(4, "big") + first.to_bytes(4, "big")
    path.write_bytes(data)
    taken = []

    class Untimed:
        def __init__(self, container):
            self.container = container

        def __getattr__(self, name):
            return getattr(self.container, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

        def demux(self, stream):
            for packet in self.container.demux(stream):
                if packet.is_discard:
                    packet.pts = None
                    taken.append(packet.is_keyframe)
                yield packet

    real = probe_module.open_video
    monkeypatch.setattr(probe_module, "open_video", lambda path: Untimed(real(path)))
    source = probe(path)
    assert any(taken)
    assert len(source.pts) == 20 and None not in source.keys.tolist()
    monkeypatch.undo()
    rows = [0, 3, 10, 19]
    frames = read_frames(source, rows, size=96, resize="swscale")
    np.testing.assert_array_equal(frames, whole.frames[20:][rows])


def test_window_beyond_the_end(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    raises(errors.TooFewFrames, path, "0 frames in 9000-9900 ms", window=(9000, 9900))


# Cutting -----------------------------------------------------------------------------------------


def scenes(i):
    """A cut at frame 80."""
    shift = 2 * (i % 80)
    rng = np.random.default_rng(i // 80)
    wide = rng.integers(0, 256, (12, 64, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    image = wide[:, shift : shift + 128]
    return np.ascontiguousarray(image // 2 if i >= 80 else image)


def test_short_file_without_a_cut_is_one_clip(make_video, tmp_path):
    (clip,) = decode_cut(make_video(tmp_path / "a.mp4", n=60))
    assert clip.table.video_id == "a.mp4"


def test_windows_respect_a_cut(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", n=160, picture=scenes)
    clips = list(decode_cut(path))
    assert clips
    for clip in clips:
        assert clip.group == "a.mp4"
        assert clip.table.window is not None
        assert clip.table.index[-1] < 80 or clip.table.index[0] >= 80
        np.testing.assert_array_equal(clip.frames, decode(path, window=clip.table.window).frames)


def test_spans_bound_what_is_held(make_video, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", n=250, picture=lambda i: scenes(i % 80))
    monkeypatch.setattr(decode_module, "SPAN_MS", 4000)
    clips = list(decode_cut(path))
    bounds = [clip.table.window for clip in clips]
    assert not any(start < edge < end for start, end in bounds for edge in (4000, 8000))
    assert bounds[-1][0] >= 4000


def test_no_window(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    with pytest.raises(errors.NoWindow, match="20 to 30 s"):
        list(decode_cut(path, whole_s=1, min_s=20, max_s=30))
