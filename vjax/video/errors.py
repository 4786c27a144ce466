"""What can be wrong with a video. Every message names the file, the number and what to do."""

import contextlib
from collections.abc import Iterator


class VideoError(ValueError):
    """A video that cannot be used."""


class EmptyFile(VideoError):
    """The file has zero bytes."""


class NotAVideo(VideoError):
    """The bytes are no video container, whatever the file is called."""


class NoVideoStream(VideoError):
    """A media file without moving pictures, such as audio alone."""


class TruncatedVideo(VideoError):
    """Fewer frames can be read than the container promises."""


class NoTimes(VideoError):
    """The file carries no usable presentation times."""


class TooFewFrames(VideoError):
    """The video has fewer frames than asked for."""


class NoWindow(VideoError):
    """No stretch without a shot cut is long enough for a window."""


class TimedOut(VideoError):
    """Reading took longer than the deadline; the process that read was ended."""


class Crashed(VideoError):
    """The process that read the file died: a fault in the decoder, or no memory left."""


class TooManyBad(VideoError):
    """More clips than allowed cannot be read."""


class Unreadable(VideoError):
    """The system would not give the file: it is gone, there is no permission, or no memory left."""


class Changed(VideoError):
    """The file is another one than the one that was indexed."""


class DamagedRecord(VideoError):
    """A record of a frame store is not what was written."""


# by name, what may be otherwise the next time, with more patience or another machine
TRANSIENT = ("TimedOut", "Crashed", "Unreadable", "Changed")


@contextlib.contextmanager
def reading(path) -> Iterator[None]:
    """Inside, what the system refuses becomes `Unreadable`, naming the file."""
    try:
        yield
    except VideoError:
        raise
    except (OSError, MemoryError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreadable(f"{path}: {said}; see that it can be read") from error
