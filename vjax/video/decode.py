"""One pass over a video file with PyAV: frames at the store's size, true times, grey frames.

`walk` decodes one frame after the other, so a long video is never held at full size; the `decode`
functions make clips of what it yields.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from vjax.video import errors, images
from vjax.video.frames import Clip, FrameTable, Window, milliseconds
from vjax.video.motion import change, shot_cuts
from vjax.video.probe import Source, open_video, probe, video_stream
from vjax.video.shape import Shaper, upright
from vjax.video.supervise import beat
from vjax.video.windows import cut_windows

STORE_SIZE = 96  # pixels, side of a stored frame
MIN_FRAMES = 5  # the largest set of the fragment tasks
SPAN_MS = 60_000  # a file is cut into windows in spans this long, which bounds memory
_THREADS = 2
_HELD = 16  # frames kept back at most to be put in order


class Frame(NamedTuple):
    """One decoded frame: rgb uint8 [S, S, 3], luma uint8 [h, w], upright; time in seconds.

    `change` is how much it differs from the frame before it (`motion.change`), 0 for the first.
    """

    index: int
    time: float
    rgb: np.ndarray
    luma: np.ndarray
    change: int
    width: int
    height: int
    rotation: int


def decode(
    path: str | Path,
    *,
    root: str | Path | None = None,
    window: Window | None = None,
    store_size: int = STORE_SIZE,
    resize: str = "swscale",
    signal: str = "luma",
    min_frames: int = MIN_FRAMES,
) -> Clip:
    """Decode a file, or a window of it, into a clip.

    Args:
        path: video file.
        root: corpus folder the video id is relative to; None takes the file's name.
        window: [start, end) in milliseconds of the file's clock. Decoding starts at the key frame
            before it and ends with it; the frames are those of a full decode.
        store_size: side S of the frames; squashed to a square, as SigLIP's processor does.
        resize: `swscale` (bicubic, straight from YUV, fast) or `reference` (full-size RGB, then
            Pillow bicubic: equal to the Hugging Face processors).
        signal: motion signal, `luma` or `ssim` (`vjax.video.motion.change`).
        min_frames: fewest frames the clip may have.

    Raises:
        VideoError: one of `vjax.video.errors`, naming the file and the number that is wrong.
    """
    source = probe(path, root)
    frames = list(walk(source, window, store_size=store_size, resize=resize, signal=signal))
    return _clip(source, window, frames, min_frames)


def decode_windows(
    path: str | Path,
    windows: Sequence[Window],
    *,
    root: str | Path | None = None,
    store_size: int = STORE_SIZE,
    resize: str = "swscale",
    signal: str = "luma",
    min_frames: int = MIN_FRAMES,
) -> Iterator[Clip]:
    """Decode a file once and yield a clip per window, in order; arguments as in `decode`.

    Windows are ascending in start and end and may overlap; what no window needs any more is
    forgotten.

    Raises:
        ValueError: windows not ascending.
        VideoError: as `decode`.
    """
    windows = list(windows)
    if windows != sorted(windows) or [w[1] for w in windows] != sorted(w[1] for w in windows):
        raise ValueError(f"{path}: windows must ascend in start and end, got {windows}")
    if not windows:
        return
    source = probe(path, root)
    whole = (windows[0][0], windows[-1][1])
    held: list[Frame] = []
    for frame in walk(source, whole, store_size=store_size, resize=resize, signal=signal):
        while milliseconds(frame.time) >= windows[0][1]:
            yield _clip(source, windows[0], _inside(held, windows[0]), min_frames)
            windows.pop(0)
            held = [f for f in held if milliseconds(f.time) >= windows[0][0]]
        held.append(frame)
    for window in windows:
        yield _clip(source, window, _inside(held, window), min_frames)


def decode_cut(path: str | Path, *, root: str | Path | None = None, **options) -> Iterator[Clip]:
    """Decode a file once and yield what it is good for: itself, or windows of a long one.

    Args:
        path, root: as in `decode`.
        options: those of `cut`.

    Raises: as `cut`.
    """
    yield from cut(probe(path, root), **options)


def cut(
    source: Source,
    *,
    seed: int = 0,
    whole_s: float = 6.0,
    min_s: float = 2.0,
    max_s: float = 4.0,
    store_size: int = STORE_SIZE,
    resize: str = "swscale",
    signal: str = "luma",
    min_frames: int = MIN_FRAMES,
) -> Iterator[Clip]:
    """Decode a file once and yield what it is good for: itself, or windows of a long one.

    A file of at most `whole_s` seconds without a shot cut is one clip. Any other is cut into
    windows of `min_s` to `max_s` seconds that cross no shot cut (`windows.cut_windows`), which
    depend on (seed, video id) and on the file alone. Our choice: files are looked at in spans of a
    minute, whose borders count as cuts, so that an hour of video needs no more memory.

    Raises:
        NoWindow: no shot is long enough for a window.
        VideoError: as `decode`.
    """
    count = 0
    walked = walk(source, None, store_size=store_size, resize=resize, signal=signal)
    for frames, only in _spans(walked):
        cuts = shot_cuts(np.stack([frame.luma for frame in frames]))
        times = np.array([frame.time for frame in frames])
        if only and not cuts and times[-1] - times[0] <= whole_s:
            yield _clip(source, None, frames, min_frames)
            return
        lengths = dict(min_s=min_s, max_s=max_s, min_frames=min_frames)
        for window in cut_windows(times, cuts, seed=seed, video_id=source.video_id, **lengths):
            yield _clip(source, window, _inside(frames, window), min_frames)
            count += 1
    if not count:
        raise errors.NoWindow(
            f"{source.path}: between its shot cuts no window of {min_s:g} to {max_s:g} s with "
            f"{min_frames} frames fits; lower min_s or remove it"
        )


def walk(
    source: Source,
    window: Window | None = None,
    *,
    store_size: int = STORE_SIZE,
    resize: str = "swscale",
    signal: str = "luma",
) -> Iterator[Frame]:
    """Decode frame by frame, in presentation order; arguments as in `decode`.

    Raises:
        TruncatedVideo: the decoder gave up, or gave clearly fewer frames than there are packets.
        NoTimes: the frames' times are missing or run backwards.
    """
    first, stop = 0, None
    if window is not None and source.pts is not None:
        ms = milliseconds(source.times)
        first, stop = np.searchsorted(ms, window)
        if first == stop:
            return
    shaper = Shaper(store_size, resize)
    before = None
    for index, time, frame in timed_frames(source, int(first)):
        if window is not None and milliseconds(time) >= window[1]:
            return
        if window is None or milliseconds(time) >= window[0]:
            rgb, luma = shaper.rgb(frame), shaper.luma(frame)
            grey = shaper.grey(frame) if signal == "ssim" else luma
            moved = 0 if before is None else _moved(source, before, grey, signal)
            before = grey
            yield Frame(index, time, rgb, luma, moved, *upright(frame))
        if index + 1 == stop:  # do not decode one frame more to see that the window is over
            return


def with_times(source: Source) -> Source:
    """The source with a time for every frame.

    A file whose frames are counted is decoded once: for the times, where its packets do not tell
    them, and else to see that there are as many frames as times.

    Raises:
        TruncatedVideo: fewer frames than times, and none to say which are missing.
        VideoError: as `walk`.
    """
    if not source.counted:
        return source
    times = [time for _, time, _ in timed_frames(source)]
    if source.pts is not None:
        if len(times) != len(source.pts):
            raise errors.TruncatedVideo(
                f"{source.path}: {len(times)} of {len(source.pts)} frames can be decoded, and "
                "nothing says which: fetch it again, or write it anew (ffmpeg -i IN OUT.mp4)"
            )
        return source
    ticks = np.rint(np.array(times) / float(source.time_base)).astype(np.int64)
    sizes = source.packet_bytes[: len(ticks)]
    sizes = np.pad(sizes, (0, len(ticks) - len(sizes)))
    duration = float(times[-1] - times[0]) + float(np.median(np.diff(times) if times[1:] else [0]))
    return dataclasses.replace(source, pts=ticks, packet_bytes=sizes, duration=duration)


def motion_of(source: Source, signal: str = "luma") -> np.ndarray:
    """The motion curve of a whole file, int64 [I-1], without making any RGB.

    Raises: as `walk`.
    """
    shaper = Shaper(None, "swscale")
    shape = shaper.grey if signal == "ssim" else shaper.luma
    greys = (shape(frame) for _, _, frame in timed_frames(source))
    pairs = itertools.pairwise(greys)
    return np.array([_moved(source, a, b, signal) for a, b in pairs], np.int64)


def _moved(source: Source, a: np.ndarray, b: np.ndarray, signal: str) -> int:
    try:
        return change(a, b, signal)
    except errors.VideoError as error:
        raise errors.VideoError(f"{source.path}: {error}") from None


class _BadSeek(Exception):
    """Seeking did not lead to the frame asked for."""


def timed_frames(
    source: Source, first: int = 0, threads: int = _THREADS
) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """(source index, seconds, frame) from at or before frame `first` on, in presentation order.

    Raises: as `walk`.
    """
    previous = -np.inf
    with errors.reading(source.path):
        for index, time, frame in _in_order(source, first, threads):
            if not time >= previous:  # nan included
                shown = "at no known time" if np.isnan(time) else f"at {time} s, after {previous} s"
                raise errors.NoTimes(
                    f"{source.path}: frame {index} is shown {shown}; "
                    "write the file again with sound times (ffmpeg -i IN -fps_mode cfr OUT.mp4)"
                )
            previous = time
            beat()
            yield index, time, frame


def image_frame(source: Source, row: int) -> av.VideoFrame:
    """One picture of a list of images."""
    return av.VideoFrame.from_ndarray(images.load(source.path.parent / source.images[row]), "rgb24")


def _in_order(source: Source, first: int, threads: int):
    if source.images:
        for row in range(first, len(source.images)):
            yield row, float(source.times[row]), image_frame(source, row)
        return
    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        stream.codec_context.thread_count = threads
        try:
            if first and not source.counted:
                container.seek(int(source.pts[first]), stream=stream)
            yield from _sorted(_numbered(source, container, stream, first), first)
        except _BadSeek:
            container.seek(int(source.pts[0]), stream=stream)
            yield from _sorted(_numbered(source, container, stream, 0), 0)


def _sorted(frames: Iterator[tuple], expected: int) -> Iterator[tuple]:
    """Frames by their index, where a file stores them in another order than that of their times."""
    held: list[tuple] = []  # a heap; a frame that never comes holds up `_HELD` others and no more
    for n, (index, time, frame) in enumerate(frames):
        heapq.heappush(held, (index, n, time, frame))
        while held and (held[0][0] <= expected or len(held) > _HELD):
            index, _, time, frame = heapq.heappop(held)
            expected = index + 1
            yield index, time, frame
    for index, _, time, frame in sorted(held, key=lambda item: item[:2]):
        yield index, time, frame


def _from_key(container, stream, begun: bool) -> Iterator[av.VideoFrame]:
    """Frames from the first key frame on: what decoders make of packets before it is grey."""
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe
        if begun or not packet.size:
            yield from packet.decode()


def _numbered(source: Source, container, stream, first: int):
    count, index = 0, first - 1
    unique = source.pts is not None and bool((np.diff(source.pts) > 0).all())
    decoded = _from_key(container, stream, begun=not len(source.keys))
    while True:
        try:
            frame = next(decoded, None)
        except av.error.FFmpegError as error:
            raise errors.TruncatedVideo(
                f"{source.path}: the decoder stopped after frame {index} ({error.strerror}); "
                "the file is damaged: fetch it again or remove it"
            ) from error
        if frame is None:
            break
        count += 1
        if source.counted:
            index = count - 1
            known = source.pts is not None and index < len(source.pts)
            ticks = int(source.pts[index]) if known else frame.pts
        else:
            ticks = frame.pts
            if ticks is not None and ticks < source.pts[first]:
                continue  # between the key frame and the window
            begin = 0 if unique else index + 1  # of frames shown at one time, the next
            at = begin + int(np.searchsorted(source.pts[begin:], ticks or 0))
            if first and index < first and at != first:
                raise _BadSeek
            index = at
        yield index, np.nan if ticks is None else float(ticks * source.time_base), frame
    if source.pts is not None and not first:
        missing = len(source.pts) - count
        if missing > max(2, 0.02 * len(source.pts)):
            raise errors.TruncatedVideo(
                f"{source.path}: {count} of {len(source.pts)} frames can be decoded; "
                "the file is damaged: fetch it again or remove it"
            )


def _clip(source: Source, window: Window | None, frames: list[Frame], min_frames: int) -> Clip:
    if len(frames) < min_frames:
        where = f" in {window[0]}-{window[1]} ms" if window else ""
        raise errors.TooFewFrames(
            f"{source.path}: {len(frames)} frames{where}, at least {min_frames} are needed; "
            "remove it or lower min_frames"
        )
    name = source.video_id if window is None else f"{source.video_id}#{window[0]}-{window[1]}"
    table = FrameTable(
        video_id=name,
        path=str(source.path),
        content_hash=source.content_hash,
        index=np.array([frame.index for frame in frames], np.int32),
        time=np.array([frame.time for frame in frames], np.float64),
        width=frames[0].width,
        height=frames[0].height,
        rotation=frames[0].rotation,
    )
    rgb = np.stack([frame.rgb for frame in frames])
    motion = np.array([frame.change for frame in frames[1:]], np.int64)
    return Clip(table, rgb, motion, group=source.video_id)


def _inside(frames: list[Frame], window: Window) -> list[Frame]:
    ms = milliseconds([frame.time for frame in frames])
    return [frames[k] for k in np.flatnonzero((ms >= window[0]) & (ms < window[1]))]


def _spans(frames: Iterator[Frame]) -> Iterator[tuple[list[Frame], bool]]:
    """Frames in lists of `SPAN_MS`, and whether a list is the whole file."""
    span: list[Frame] = []
    only = True
    for frame in frames:
        if span and milliseconds(frame.time) - milliseconds(span[0].time) >= SPAN_MS:
            only = False
            yield span, only
            span = []
        span.append(frame)
    if span:
        yield span, only
