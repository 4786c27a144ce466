"""Only the frames asked for: by group of pictures, seeking or walking, whichever is cheaper."""

from collections.abc import Iterator, Sequence

import av
import numpy as np

from vjax.video import errors
from vjax.video.decode import image_frame, timed_frames
from vjax.video.probe import Source, open_video, video_stream
from vjax.video.shape import Shaper, Size

# Reading on costs 2 to 4 microseconds a packet, a seek 13 to 50 (files in memory, two cores).
SEEK_PACKETS = 10


def read_frames(
    source: Source,
    rows: Sequence[int],
    *,
    size: Size = None,
    resize: str = "reference",
    threads: int = 1,
) -> np.ndarray:
    """The frames at `rows` of a file's presentation order, equal to the bit to a full decode's.

    Each group of pictures that holds one is decoded from its key frame to the last one wanted;
    frames that no other refers to and nobody asked for are skipped.

    Args:
        source: what `probe` gave, or a row of an index.
        rows: int [n] in 0..I-1, in any order; a row may come twice.
        size, resize: as in `shape.Shaper`.
        threads: of the decoder.

    Returns:
        uint8 [n, height, width, 3], RGB, upright.

    Raises:
        IndexError: a row that the file has not.
        TruncatedVideo: a frame that cannot be decoded.
        NoTimes: as `decode.walk`.
        Changed: the file is no longer the one that was indexed.
        VideoError: with `size` None, pictures that change their size.
    """
    with errors.reading(source.path):
        return _read_frames(source, rows, size, resize, threads)


def _read_frames(source: Source, rows, size: Size, resize: str, threads: int) -> np.ndarray:
    there = source.path.stat().st_size
    if there != source.bytes:
        raise errors.Changed(
            f"{source.path}: {there} bytes, {source.bytes} when it was indexed; --job=index again"
        )
    rows = np.asarray(rows, np.int64)
    count = len(source.packet_bytes)
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"{source.path}: rows {rows.tolist()} asked of {count} frames")
    shaper = Shaper(size, resize)
    found: dict[int, np.ndarray] = {}
    wanted = np.unique(rows)
    if source.images:
        for row in wanted.tolist():
            found[row] = shaper.rgb(image_frame(source, row))
    elif not source.counted and (np.diff(source.pts) > 0).all() and len(source.keys):
        for row, frame in _by_group(source, wanted, threads):
            found[row] = shaper.rgb(frame)
    rest = [row for row in wanted.tolist() if row not in found]
    if rest:  # no times to go by, or a seek that led elsewhere
        missing = set(rest)
        for row, _, frame in timed_frames(source, 0, threads):
            if row in missing:
                found[row] = shaper.rgb(frame)
                missing.remove(row)
            if not missing:
                break
        else:
            raise errors.TruncatedVideo(
                f"{source.path}: frames {sorted(missing)[:5]} of {count} cannot be decoded; "
                "the file is damaged: fetch it again or remove it"
            )
    shapes = {frame.shape for frame in found.values()}
    if len(shapes) > 1:
        raise errors.VideoError(
            f"{source.path}: its pictures change their size, {sorted(shapes)}; name a size"
        )
    frames = [found[row] for row in rows.tolist()]
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)


def _by_group(
    source: Source, wanted: np.ndarray, threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(row, frame) of what can be had group by group; what cannot is left out."""
    pts = source.pts[wanted]
    group_of = np.searchsorted(source.keys, pts, "right") - 1
    row_of = dict(zip(pts.tolist(), wanted.tolist(), strict=True))
    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        codec = stream.codec_context
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        codec.thread_count = threads
        packets, position, passed = container.demux(stream), 0, set()
        try:
            for group in np.unique(group_of[group_of >= 0]):
                ticks = set(pts[group_of == group].tolist())
                key = int(source.keys[group])
                start = int(np.searchsorted(source.pts, key))
                if start - position > SEEK_PACKETS or key in passed:  # an open group ran into it
                    container.seek(key, stream=stream)
                    packets = container.demux(stream)
                else:
                    codec.flush_buffers()
                passed = set()
                for frame in _group(codec, packets, key, set(ticks), passed):
                    if frame.pts in ticks and not frame.is_corrupt:
                        ticks.discard(frame.pts)
                        yield row_of[frame.pts], frame
                position = int(np.searchsorted(source.pts, max(pts[group_of == group])))
        except av.error.FFmpegError as error:
            raise errors.TruncatedVideo(
                f"{source.path}: the decoder stopped ({error.strerror}) on the way to frame "
                f"{int(wanted[-1])}; the file is damaged: fetch it again or remove it"
            ) from error


def _group(codec, packets: Iterator[av.Packet], key: int, ticks: set[int], passed: set[int]):
    """Decodes from the key frame on until all of `ticks` have been fed, then drains.

    `passed` gets the times of all packets that were read.
    """
    begun = False
    for packet in packets:
        passed.add(packet.pts)
        if packet.pts is None or not packet.size:
            if begun and packet.dts is None:
                break  # the end of the file
            continue
        begun = begun or packet.pts == key
        if not begun:
            if packet.is_keyframe and packet.pts > key:
                return  # the seek led beyond it
            continue
        codec.skip_frame = "DEFAULT" if packet.pts in ticks else "NONREF"
        yield from codec.decode(packet)
        ticks.discard(packet.pts)
        if not ticks:
            break
    if begun:
        yield from codec.decode(None)
