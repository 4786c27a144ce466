"""The floor of benchmarks/video.py: what PyAV alone needs for the frames, in one process."""

from collections.abc import Sequence

import av

from vjax.video.shape import BICUBIC


def raw_walk(plans: Sequence[tuple], side: int) -> int:
    """Seek, decode what is needed, scale what is wanted; the clips done (runs in a child)."""
    for path, keys, wanted in plans:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for key, ticks in zip(keys, wanted, strict=True):
                container.seek(key, stream=stream)
                left = set(ticks)
                for packet in container.demux(stream):
                    stream.codec_context.skip_frame = "DEFAULT" if packet.pts in left else "NONREF"
                    _scale(stream.codec_context.decode(packet), ticks, side)
                    left.discard(packet.pts)
                    if not left:
                        break
                _scale(stream.codec_context.decode(None), ticks, side)
    return len(plans)


def _scale(frames: list[av.VideoFrame], ticks: list[int], side: int):
    for frame in frames:
        if frame.pts in ticks:
            frame.reformat(side, side, "rgb24", interpolation=BICUBIC, threads=1).to_ndarray()
