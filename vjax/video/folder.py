"""A folder of videos, whatever its layout."""

import os
from collections import Counter
from pathlib import Path

from vjax.video.images import LIST, is_list

SUFFIXES = frozenset(
    ".3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg .mpg .mts .ogv "
    ".ts .vob .webm .wmv".split()
)


def list_videos(directory: str | Path) -> list[Path]:
    """Everything below `directory` with a known video suffix, sorted by POSIX path.

    Lists of images (`vjax.video.images`) count as videos, and so do pipes, devices and folders of
    such a name: reading them says what they are. Links to folders are followed.

    Raises:
        FileNotFoundError: no such folder, or no video in it; the message says what was seen.
        PermissionError: a folder that may not be looked into; any other OSError that listing gives.
    """
    return scan(directory)[0]


def scan(directory: str | Path) -> tuple[list[Path], Counter[str]]:
    """`list_videos`, and the suffixes of the files passed over."""
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such folder; name one that holds videos")
    videos, others, seen = [], Counter(), set()
    for folder, folders, files in os.walk(directory, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES or is_list(path):
                videos.append(path)
            elif name in files:
                others[path.suffix.lower() or "(no suffix)"] += 1
    if not videos:
        known = " ".join(sorted(SUFFIXES))
        raise FileNotFoundError(
            f"{directory}: no video found among {others.total()} files ({told(others)}); "
            f"known: {known} {LIST}"
        )
    return sorted(videos, key=lambda path: path.relative_to(directory).as_posix()), others


def told(others: Counter[str]) -> str:
    """Suffixes in words, the commonest first."""
    return ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5)) or "nothing at all"


def _raise(error: OSError):
    raise error
