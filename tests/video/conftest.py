"""Small video files, written with PyAV."""

from fractions import Fraction

import av
import numpy as np
import pytest


def texture(i: int, step: int = 2) -> np.ndarray:
    """uint8 [96, 128, 3]: smooth random texture moved by `step` pixels a frame."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 128, 3)).astype(np.uint8)
    wide = coarse.repeat(8, 0).repeat(8, 1)
    return np.ascontiguousarray(wide[:, step * i : step * i + 128])


def write_video(
    path,
    n=50,
    fps=25,
    codec="libx264",
    picture=texture,
    times=None,
    container=None,
    pix_fmt="yuv420p",
    **options,
):
    """`container` and `options` are those of the muxer and the encoder."""
    pictures = [picture(i) for i in range(n)]
    with av.open(str(path), "w", options=container or {}) as file:
        # Whole milliseconds where times are given, else whole frames.
        base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
        quick = {"preset": "veryfast"} if codec == "libx264" else {}
        stream = file.add_stream(codec, rate=fps, options=quick | options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        for i, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if times is None else round(1000 * times[i])
            frame.time_base = base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def make_video():
    """`write_video`."""
    return write_video


@pytest.fixture
def make_audio():
    """make_audio(path): half a second of silence and no pictures."""

    def make(path):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            for i in range(8):
                silence = np.zeros((1, 1024), np.float32)
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, 1024 * i
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
