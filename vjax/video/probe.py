"""What a video file holds, from its packets and its first picture; nothing else is decoded."""

import contextlib
import stat
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from vjax.video import errors, images
from vjax.video.fields import Fields
from vjax.video.frames import content_hash, video_id
from vjax.video.shape import upright
from vjax.video.supervise import beat

_TEXT_FORMATS = {"tty", "hls", "dash", "concat", "sdp"}  # FFmpeg opens text as these

# titles in odd encodings are no reason to refuse a clip; PyAV 19 has no such switch any more
_METADATA = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}


@dataclass(frozen=True, eq=False)
class Source:
    """A readable video file, as its packets describe it.

    Attributes:
        path: the file.
        video_id: POSIX path below the corpus root; also the group of every clip of the file.
        content_hash: BLAKE2b-128 of the bytes.
        pts: int64 [I], presentation times in units of `time_base`, ascending; None where some
            packets carry no time (MPEG program streams).
        time_base: seconds per unit.
        keys: int64 [K], `pts` of the key frames, ascending; empty where `pts` is None.
        packet_bytes: int32 [I], size of each frame's packet, in the order of `pts`: a free hint of
            motion. In file order where `pts` is None.
        counted: the n-th frame out of the decoder belongs to the n-th time, whatever it says: AVI
            stores an order but no times, and so do files whose packets are in order although the
            codec reorders (MP4 without composition offsets), and so do files with a packet for each
            field of a frame (`vjax.video.fields`). Such files cannot be sought.
        duration: seconds from the first frame to the end of the last one's time on screen; 0 where
            `pts` is None.
        width, height: upright size in pixels, rotation applied.
        rotation: degrees counter-clockwise that make a picture upright: 0, 90, 180 or 270.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's name of the container format; `images` for images, one or a list.
        images: of these, paths relative to the folder, in the order of `pts`.
        bytes: size of the file, by which a later reader sees that it is still the same.
    """

    path: Path
    video_id: str
    content_hash: str
    pts: np.ndarray | None
    time_base: Fraction
    keys: np.ndarray
    packet_bytes: np.ndarray
    counted: bool
    duration: float
    width: int
    height: int
    rotation: int
    codec: str
    container: str
    images: tuple[str, ...] = ()
    bytes: int = 0

    @cached_property
    def times(self) -> np.ndarray | None:
        """float64 [I], presentation times in seconds; None where the packets do not tell."""
        if self.pts is None:
            return None
        # divided once, so that a time is the float nearest to it, as every frame's is
        return self.pts * self.time_base.numerator / self.time_base.denominator


def probe(path: str | Path, root: str | Path | None = None) -> Source:
    """Read a file's packets and check them against what the container promises.

    Raises:
        EmptyFile, NotAVideo, NoVideoStream, TruncatedVideo, Unreadable: see `vjax.video.errors`.
    """
    with errors.reading(path):
        return _probe(Path(path), root)


def written(text: str) -> str:
    """Text that files and terminals can hold: of a name that is no UTF-8, the bytes spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def hash_of(path: Path) -> str:
    """`frames.content_hash` of a video; of a list, that of it and its images, one after another.

    Raises:
        VideoError: a list that is none, or names images that are not there.
    """
    names = images.read_list(path)[0] if images.is_list(path) else ()
    return content_hash(path, *(path.parent / name for name in names))


def _probe(path: Path, root: str | Path | None) -> Source:
    if (name := str(path)) != written(name):
        raise errors.NotAVideo(f"{written(name)}: the name is not UTF-8; give it another")
    file = path.stat()
    if not stat.S_ISREG(file.st_mode):
        raise errors.NotAVideo(f"{path}: a {_kind(file.st_mode)}, no file; remove it")
    if file.st_size == 0:
        raise errors.EmptyFile(f"{path}: 0 bytes; fetch it again or remove it")
    if images.is_image(path):
        return _images(path, root, (path.name,), np.zeros(1, np.int64))
    if images.is_list(path):
        return _images(path, root, *images.read_list(path))
    with open_video(path) as container:
        stream = video_stream(container, path)
        found = _packets(container, stream, path)
        pts, sizes = np.array(found.shown or [None]), np.array(found.sizes, np.int32)
        timed = None not in found.shown and bool(found.shown)
        order = np.argsort(pts, kind="stable") if timed else slice(None)
        in_order = timed and bool((np.diff(pts) >= 0).all())
        reorders = bool(stream.codec_context.has_b_frames)
        ticks = _duration(pts[order], max(found.ends)) if timed else 0.0
        counted = not timed or container.format.name == "avi" or (in_order and reorders)
        width, height, rotation = _picture(container, stream, path)
        source = Source(
            path,
            video_id(path, root),
            content_hash(path),
            pts[order].astype(np.int64) if timed else None,
            stream.time_base,
            np.sort(np.array(found.keys if timed else [], np.int64)),
            sizes[order],
            duration=ticks * float(stream.time_base),
            counted=counted or found.halves,
            width=width,
            height=height,
            rotation=rotation,
            codec=stream.codec_context.name,
            container=container.format.name,
            bytes=file.st_size,
        )
        _check_complete(source, container, stream, found)
    return source


@dataclass
class _Packets:
    """What the packets of a stream say, in the order of the file.

    Attributes:
        number, corrupt: of all packets.
        shown, sizes, ends: of each frame that is shown, its time (None where the packet does not
            tell), bytes, and time plus duration.
        keys: times of key frames, those that are not shown included.
        halves: there are frames whose two fields have a packet each.
    """

    number: int = 0
    corrupt: int = 0
    shown: list[int | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    halves: bool = False


def _packets(container, stream, path: Path) -> _Packets:
    found, begun = _Packets(), False
    codec = stream.codec_context
    fields = Fields(codec.extradata) if codec.name == "h264" else None
    try:
        for packet in container.demux(stream):
            found.number += packet.dts is not None or packet.size > 0  # the last one only flushes
            found.corrupt += packet.is_corrupt
            beat()
            if not packet.size:
                continue
            if fields and fields.possible and fields.completes(bytes(packet)):
                found.halves = True
                if found.sizes and not packet.is_discard:
                    found.sizes[-1] += packet.size
                    found.ends[-1] = max(found.ends[-1], (packet.pts or 0) + (packet.duration or 0))
                continue
            if packet.is_keyframe:
                if not begun:  # what comes before the first cannot be decoded
                    found.shown, found.sizes, found.ends = [], [], []
                begun = True
                if packet.pts is not None:
                    found.keys.append(packet.pts)  # one that is not shown is needed all the same
            if not packet.is_discard:
                found.shown.append(packet.pts)
                found.sizes.append(packet.size)
                found.ends.append((packet.pts or 0) + (packet.duration or 0))
    except av.error.FFmpegError as error:
        raise errors.TruncatedVideo(
            f"{path}: unreadable after {found.number} frames ({error.strerror}); "
            "the file is damaged: fetch it again or remove it"
        ) from error
    return found


def _images(path: Path, root, names: tuple[str, ...], pts: np.ndarray) -> Source:
    files = [path.parent / name for name in names]
    height, width, _ = images.load(files[0]).shape
    return Source(
        path,
        video_id(path, root),
        hash_of(path),
        pts,
        images.TIME_BASE,
        keys=pts,
        packet_bytes=np.array([file.stat().st_size for file in files], np.int32),
        counted=False,
        duration=_duration(pts, pts[-1]) * float(images.TIME_BASE),
        width=width,
        height=height,
        rotation=0,
        codec=files[0].suffix.lower().removeprefix("."),
        container="images",
        images=names,
        bytes=path.stat().st_size,
    )


def _duration(pts: np.ndarray, end: int) -> float:
    """Ticks from the first frame to `end`, or, where that does not tell, one gap after the last."""
    gap = float(np.median(np.diff(pts))) if len(pts) > 1 else 0.0
    return float((end if end > pts[-1] else pts[-1] + gap) - pts[0])


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "named pipe", stat.S_ISSOCK: "socket"}
    return next((kind for test, kind in kinds.items() if test(mode)), "device")


def _first_again(container, stream) -> av.VideoFrame | None:
    """The first picture of a container that was read to its end; None where that cannot be had."""
    with contextlib.suppress(av.error.FFmpegError):
        container.seek(stream.start_time or 0, stream=stream)
        return next(container.decode(stream), None)


def _picture(container, stream, path: Path) -> tuple[int, int, int]:
    """Width, height and rotation of the first picture: nothing but a picture tells the last."""
    try:
        frame = _first_again(container, stream)
        if frame is None:  # not everything can be sought
            with open_video(path) as container:
                frame = next(container.decode(video_stream(container, path)), None)
    except av.error.FFmpegError as error:
        raise errors.TruncatedVideo(
            f"{path}: its first picture cannot be decoded ({error.strerror}); "
            "the file is damaged: fetch it again or remove it"
        ) from error
    if frame is None:
        raise errors.TruncatedVideo(
            f"{path}: no picture can be decoded; fetch it again or remove it"
        )
    return upright(frame)


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
        if stream.disposition & Disposition.attached_pic:  # the cover of a music file
            continue
        if stream.codec_context is None:
            raise errors.NoVideoStream(f"{path}: no decoder for its pictures; write it in another")
        return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise errors.NoVideoStream(f"{path}: holds {kinds}, no moving pictures; remove it")


def _check_complete(source: Source, container, stream, found: _Packets) -> None:
    advice = "the file is cut off: fetch it again or remove it"
    # MP4 lists every frame, those trimmed away by an edit list apart; elsewhere the promised count
    # may include frames left out on purpose.
    listed = len(stream.index_entries) if "mp4" in container.format.name else 0
    if found.corrupt or not found.number or found.number < listed:
        raise errors.TruncatedVideo(
            f"{source.path}: {found.number - found.corrupt} of {listed or 'an unknown number of'} "
            f"promised frames are there; {advice}"
        )
    end = _promised_end(container, stream)
    if source.pts is None or end is None:
        return
    seconds = source.pts * float(source.time_base)
    gap = float(np.diff(seconds).max(initial=0.0))
    last = max(seconds[-1], seconds[0] + source.duration)  # which may stay on screen for long
    if end - last > max(0.5, 2 * gap):
        raise errors.TruncatedVideo(
            f"{source.path}: the last frame is at {seconds[-1]:.2f} s of {end:.2f} s; {advice}"
        )


def _promised_end(container, stream) -> float | None:
    """Seconds at which the container says that the pictures end; None where it does not say."""
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if tag := stream.metadata.get("DURATION"):  # Matroska
        with contextlib.suppress(ValueError):  # damaged: then it promises nothing
            hours, minutes, seconds = tag.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
