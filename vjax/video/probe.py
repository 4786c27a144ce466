"""What a video file holds, from its packets alone: cheap, since nothing is decoded."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from vjax.video import errors
from vjax.video.frames import content_hash, video_id

_TEXT_FORMATS = {"tty", "hls", "dash", "concat", "sdp"}  # FFmpeg opens text as these

# titles in odd encodings are no reason to refuse a clip; PyAV 19 has no such switch any more
_METADATA = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}


@dataclass(frozen=True, eq=False)
class Source:
    """A readable video file, from its packets alone.

    Attributes:
        path: the file.
        video_id: POSIX path below the corpus root; also the group of every clip of the file.
        content_hash: BLAKE2b-128 of the bytes.
        pts: int64 [packets], presentation times in units of `time_base`, ascending; None where
            some packets carry no time (MPEG program and transport streams).
        time_base: seconds per unit.
        in_order: packets are stored in ascending `pts`.
    """

    path: Path
    video_id: str
    content_hash: str
    pts: np.ndarray | None
    time_base: Fraction
    in_order: bool


def probe(path: str | Path, root: str | Path | None = None) -> Source:
    """Read a file's packets and check them against what the container promises.

    Raises:
        EmptyFile, NotAVideo, NoVideoStream, TruncatedVideo: see `vjax.video.errors`.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise errors.EmptyFile(f"{path}: 0 bytes; fetch it again or remove it")
    with open_video(path) as container:
        stream = video_stream(container, path)
        packets, corrupt, shown = 0, 0, []
        try:
            for packet in container.demux(stream):
                packets += packet.dts is not None or packet.size > 0  # the last one only flushes
                corrupt += packet.is_corrupt
                if packet.size and not packet.is_discard:
                    shown.append(packet.pts)
        except av.error.FFmpegError as error:
            raise errors.TruncatedVideo(
                f"{path}: unreadable after {packets} frames ({error.strerror}); "
                "the file is damaged: fetch it again or remove it"
            ) from error
        pts = np.array(shown, np.int64) if shown and None not in shown else None
        source = Source(
            path,
            video_id(path, root),
            content_hash(path),
            None if pts is None else np.sort(pts),
            stream.time_base,
            in_order=pts is not None and bool((np.diff(pts) >= 0).all()),
        )
        _check_complete(source, container, stream, packets, corrupt)
    return source


def open_video(path: Path):
    """Open a file with PyAV; `NotAVideo` or `TruncatedVideo` where that fails."""
    try:
        # "file:" keeps colons in names from being protocols; a playlist may open nothing else.
        only_files = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path}", options=only_files, **_METADATA)
    except av.error.FFmpegError as error:
        with open(path, "rb") as file:
            if file.read(8)[4:] == b"ftyp":
                raise errors.TruncatedVideo(
                    f"{path}: an MP4 of {path.stat().st_size} bytes whose index (moov) is missing; "
                    "the end is cut off: fetch it again or remove it"
                ) from error
        raise errors.NotAVideo(
            f"{path}: no video container ({error.strerror}); remove it or give it its own suffix"
        ) from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise errors.NotAVideo(f"{path}: text, no video; remove it or give it its own suffix")
    return container


def video_stream(container, path: Path):
    """The first stream of moving pictures; `NoVideoStream` where there is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of a music file
            return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise errors.NoVideoStream(f"{path}: holds {kinds}, no moving pictures; remove it")


def _check_complete(source: Source, container, stream, packets: int, corrupt: int) -> None:
    advice = "the file is cut off: fetch it again or remove it"
    # MP4 lists every frame, those trimmed away by an edit list apart; elsewhere the promised count
    # may include frames left out on purpose.
    listed = len(stream.index_entries) if "mp4" in container.format.name else 0
    if corrupt or not packets or packets < listed:
        raise errors.TruncatedVideo(
            f"{source.path}: {packets - corrupt} of {listed or 'an unknown number of'} "
            f"promised frames are there; {advice}"
        )
    end = _promised_end(container, stream)
    if source.pts is None or end is None:
        return
    seconds = source.pts * float(source.time_base)
    gap = float(np.diff(seconds).max(initial=0.0))
    if end - seconds[-1] > max(0.5, 2 * gap):
        raise errors.TruncatedVideo(
            f"{source.path}: the last frame is at {seconds[-1]:.2f} s of {end:.2f} s; {advice}"
        )


def _promised_end(container, stream) -> float | None:
    """Seconds at which the container says that the pictures end; None where it does not say."""
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if tag := stream.metadata.get("DURATION"):  # Matroska
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
