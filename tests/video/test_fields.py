"""H.264 coded in fields: one frame for two packets, whatever the container makes of them."""

import av
import numpy as np
import pytest

from tests.video import field_coded
from tests.video.test_containers import KINDS, write
from vjax.video.decode import timed_frames, with_times
from vjax.video.fields import Fields
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.shape import Shaper


def samples(frame):
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("kinds", ["ffffffff", "ffpffpfp", "pppppppf"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_times_and_pictures_are_what_was_written(tmp_path, name, kinds, together):
    path = field_coded.write(tmp_path / name, kinds, together=together)
    source = with_times(probe(path))
    np.testing.assert_allclose(source.times - source.times[0], np.arange(8) / 25, atol=1e-3)
    assert source.duration == pytest.approx(8 / 25, abs=0.021)
    found = list(timed_frames(source))
    assert [(n, time) for n, time, _ in found] == list(enumerate(source.times))
    for n, _, frame in found:
        np.testing.assert_array_equal(samples(frame), field_coded.luma(n))
    shaper = Shaper(None, "reference")
    with av.open(str(path)) as container:
        theirs = [shaper.rgb(frame) for frame in container.decode(video=0)]
    rows = [7, 0, 3]
    np.testing.assert_array_equal(read_frames(source, rows), np.stack([theirs[n] for n in rows]))


def test_the_bytes_of_both_fields_are_the_frames(tmp_path):
    apart = probe(field_coded.write(tmp_path / "a.mkv", "ffpf"))
    together = probe(field_coded.write(tmp_path / "b.mkv", "ffpf", together=True))
    assert apart.counted and not together.counted
    np.testing.assert_array_equal(apart.packet_bytes, together.packet_bytes)


def test_scaling_lists_are_read_over(tmp_path):
    source = probe(field_coded.write(tmp_path / "a.mkv", "ffff", scaling=True))
    assert len(source.pts) == 4


@pytest.mark.parametrize(("name", "possible"), [("h264.mp4", False), ("interlaced.mp4", True)])
def test_frames_coded_whole_stay_as_they_are(tmp_path, name, possible):
    """x264 codes interlaced pictures as frames of macroblock pairs (MBAFF)."""
    codec, pix_fmt, more = KINDS[name]
    path = write(tmp_path / name, codec, pix_fmt, **more)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fields = Fields(stream.codec_context.extradata)
        assert fields.possible == possible
        assert not any(fields.completes(bytes(packet)) for packet in container.demux(stream))
    assert not probe(path).counted


def test_what_is_damaged_completes_nothing():
    rng = np.random.default_rng(0)
    stream = field_coded.parameters() + field_coded.picture(field_coded.luma(0)[::2], 0, 0)
    second = field_coded.picture(field_coded.luma(0)[1::2], 0, 1)
    fields = Fields(None)
    assert not fields.completes(stream) and fields.completes(second)
    assert not fields.completes(second)  # no first one came before
    for n in range(300):
        spoilt = bytearray(stream[:60])
        for at in rng.integers(0, 40, 3):
            spoilt[at] ^= 1 << int(rng.integers(8))
        fields = Fields(bytes(spoilt[: rng.integers(0, 40)]) if n % 2 else None)
        fields.completes(bytes(spoilt)), fields.completes(second)
