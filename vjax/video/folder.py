"""A folder of videos, whatever its layout."""

from collections import Counter
from pathlib import Path

from vjax.video.images import LIST, is_list

SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)


def list_videos(directory: str | Path) -> list[Path]:
    """Everything below `directory` with a known video suffix, sorted by POSIX path.

    Lists of images (`vjax.video.images`) count as videos.

    Pipes, devices and folders of such a name are listed too: reading them says what they are.

    Raises:
        FileNotFoundError: no such folder, or no video in it; the message says what was seen.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such folder; name one that holds videos")
    found = list(directory.rglob("*"))
    videos = [path for path in found if path.suffix.lower() in SUFFIXES or is_list(path)]
    if not videos:
        files = [path for path in found if path.is_file()]
        seen = Counter(path.suffix.lower() or "(no suffix)" for path in files).most_common(5)
        seen = ", ".join(f"{count} {suffix}" for suffix, count in seen) or "nothing at all"
        known = " ".join(sorted(SUFFIXES))
        raise FileNotFoundError(
            f"{directory}: no video found among {len(files)} files ({seen}); known: {known} {LIST}"
        )
    return sorted(videos, key=lambda path: path.relative_to(directory).as_posix())
