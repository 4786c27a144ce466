"""What processors of pictures share: their settings, resizing, normalising; numpy and Pillow."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from vjax.families.fields import read_json
from vjax.families.spec import TowerSpec

IMAGE_FILE, VIDEO_FILE = "preprocessor_config.json", "video_preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"


UNTIMED_FPS = 24  # of frames that nobody gives times, as transformers takes them


class Picture(NamedTuple):
    """An image, or the frames of a video, of one size.

    Attributes:
      kind: of a prompt's part.
      frames: uint8 [H, W, 3] each.
      times: seconds of each; () where nobody says.
      duration: seconds of the video that they are from; None where nobody says.
      run: which run of neighbours of its kind and video, nothing between them, it belongs to.
    """

    kind: str
    frames: tuple[np.ndarray, ...]
    times: tuple[float, ...] = ()
    duration: float | None = None
    run: int = 0

    @property
    def seconds(self) -> np.ndarray:
        """float64 [frames]; at 24 a second where nobody says."""
        return np.array(self.times or np.arange(len(self.frames)) / UNTIMED_FPS, np.float64)


@dataclasses.dataclass(frozen=True)
class Laid:
    """What one picture or video becomes.

    Attributes:
      tokens: how many, a newline included.
      grid: (t, h, w) in patches, where positions follow it.
      newline: the last of them is the model's newline, and no part of the picture.
      step: what its time counts from one t of the grid to the next; see `prompts/positions.py`.
      places: which of its tokens in the bank these are; all of them, in their order, if None.
      blocks: of a video that stands in several places, such as one for each of its times: each with
        what is said above.
      text: that is written for it then, with its placeholder once a block.
      instead_of: what the template shows, that `text` takes the place of; the placeholder if "".
      by_rule: the position rule under which it does so; "" = every one.
    """

    tokens: int
    grid: tuple[int, int, int] = (1, 1, 1)
    newline: bool = False
    step: float = 1.0
    places: tuple[int, ...] | None = None
    blocks: tuple["Laid", ...] = ()
    text: str = ""
    instead_of: str = ""
    by_rule: str = ""


class Pixels(Protocol):
    """How a family's processor takes images, or videos; a module of prompts/processors has
    `from_folder(folder, spec, *, video)`, which reads one from a checkpoint folder.

    Where the class's forward takes images and videos as one argument, there is
    `together(pixels, pictures)` instead of `arguments`: of all pictures of a conversation.
    """

    def lay(self, picture: Picture, *, alone: bool) -> Laid:
        """What an image, one frame, or a video becomes; `alone`: the only one of its kind."""

    def arguments(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them (float32, normalised)."""


def settings(
    folder: str | Path,
    *,
    video: bool,
    resample: Image.Resampling | None = Image.Resampling.BICUBIC,
) -> Mapping:
    """What a checkpoint folder's processor files say; {} where it has none.

    A folder without a file for videos uses the one for images, as older ones do.

    Args:
      resample: how pictures are resized, which the files may say and not change; None: they may.

    Raises:
      ValueError: settings that are not read.
    """
    whole, found = Path(folder) / PROCESSOR_FILE, None
    given: Mapping = {}
    if whole.exists():  # transformers 5 keeps both in one file
        nested = read_json(whole)
        kinds = ("video_processor", "image_processor") if video else ("image_processor",)
        given = next((nested[kind] for kind in kinds if nested.get(kind)), {})
        found = whole
    if not given:
        files = (VIDEO_FILE, IMAGE_FILE) if video else (IMAGE_FILE,)
        found = next((path for f in files if (path := Path(folder) / f).exists()), None)
        given = read_json(found) if found else {}
    if resample is not None and given.get("resample", resample) != resample:
        name = f"{int(resample)} ({resample.name.lower()})"
        raise ValueError(f"{found}: resample is {given['resample']}, not {name}")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not given.get(name, True):
            raise ValueError(f"{found}: {name} is off, which is not read")
    return given


def colours(given: Mapping, vision: TowerSpec) -> dict[str, tuple[float, float, float]]:
    """`mean` and `std` of RGB in 0 ... 1, as processor settings say, or else the tower's spec."""
    return {
        "mean": tuple(given.get("image_mean", vision.mean)),
        "std": tuple(given.get("image_std", vision.std)),
    }


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], as torchvision's anti-aliased bicubic does."""
    return resized(image, height, width, Image.Resampling.BICUBIC)


def lanczos(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same with a Lanczos kernel of three lobes."""
    return resized(image, height, width, Image.Resampling.LANCZOS)


def resized(image: np.ndarray, height: int, width: int, how: Image.Resampling) -> np.ndarray:
    """The same with any of Pillow's kernels."""
    # rows first, as there; Pillow alone takes the cheaper order, rounding between
    rows = Image.fromarray(image).resize((width, image.shape[0]), how)
    return np.asarray(rows.resize((width, height), how))


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size, size, 3]: the shorter side brought to `size`, the rest of the
    longer cut off on both ends, as CLIP's processor does."""
    H, W, _ = image.shape
    short = min(H, W)
    x = bicubic(image, int(size * H / short), int(size * W / short))
    top, left = (x.shape[0] - size) // 2, (x.shape[1] - size) // 2
    return x[top : top + size, left : left + size]


def to_model_size(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [size, size, 3]: mean over whole factors, else Pillow bicubic."""
    H, W, _ = image.shape
    if (H, W) == (size, size):
        return image
    if H % size == 0 and W % size == 0:
        a, b = H // size, W // size
        total = np.zeros((size, size, 3), np.uint32)
        for i in range(a):  # strided views: 4 to 8 times as fast as one sum over axes 1 and 3
            for j in range(b):
                total += image[i::a, j::b]
        return ((total + a * b // 2) // (a * b)).astype(np.uint8)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def normalised(x: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """RGB of 0 ... 255 -> float32, by mean and deviation of RGB in 0 ... 1."""
    return (x.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)


def padded(image: np.ndarray, height: int, width: int, colour: Sequence[int]) -> np.ndarray:
    """uint8 [H, W, 3] in the middle of uint8 [height, width, 3]."""
    H, W, _ = image.shape
    x = np.full((height, width, 3), colour, np.uint8)
    top, left = (height - H) // 2, (width - W) // 2
    x[top : top + H, left : left + W] = image
    return x
