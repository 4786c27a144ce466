"""A folder of videos, whatever its layout."""

from collections import Counter
from pathlib import Path

SUFFIXES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)


def list_videos(directory: str | Path) -> list[Path]:
    """Every file below `directory` with a known video suffix, sorted by POSIX path.

    Raises:
        FileNotFoundError: no such folder, or no video in it; the message says what was seen.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such folder; name one that holds videos")
    files = [path for path in directory.rglob("*") if path.is_file()]
    videos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not videos:
        seen = Counter(path.suffix.lower() or "(no suffix)" for path in files).most_common(5)
        seen = ", ".join(f"{count} {suffix}" for suffix, count in seen) or "nothing at all"
        known = " ".join(sorted(SUFFIXES))
        raise FileNotFoundError(
            f"{directory}: no video found among {len(files)} files ({seen}); known: {known}"
        )
    return sorted(videos, key=lambda path: path.relative_to(directory).as_posix())
