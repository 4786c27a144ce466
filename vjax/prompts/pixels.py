"""Pictures of any size to what a tower takes, as the reference processors do; numpy and Pillow.

Reference: transformers' Qwen2VL... and LlavaOnevisionImageProcessor and ...VideoProcessor.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from vjax.families.fields import read_json
from vjax.families.spec import ModelSpec, TilesSpec
from vjax.prompts.tiles import best_size

MOST_LONG = 200  # sides to one, beyond which a picture is refused
IMAGE_FILE, VIDEO_FILE = "preprocessor_config.json", "video_preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
# (least, most) pixels where a folder says nothing: those of the reference classes
IMAGE_PIXELS = (56 * 56, 28 * 28 * 1280)
VIDEO_PIXELS = (128 * 28 * 28, 28 * 28 * 768)


def settings(folder: str | Path, *, video: bool) -> Mapping:
    """What a checkpoint folder's processor files say; {} where it has none.

    A folder without a file for videos uses the one for images, as older ones do.

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
    if given.get("resample", Image.Resampling.BICUBIC) != Image.Resampling.BICUBIC:
        raise ValueError(f"{found}: resample is {given['resample']}, not 3 (bicubic)")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not given.get(name, True):
            raise ValueError(f"{found}: {name} is off, which is not read")
    return given


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], as torchvision's anti-aliased bicubic does."""
    # rows first, as there; Pillow alone takes the cheaper order, rounding between
    rows = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(rows.resize((width, height), Image.Resampling.BICUBIC))


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


@dataclasses.dataclass(frozen=True)
class GridPixels:
    """How pictures become patches.

    Attributes:
      patch: side of a patch in pixels; temporal: frames it spans.
      merge: side of the blocks of patches that follow each other.
      least, most: pixels of a frame after resizing.
      mean, std: of RGB in 0 ... 1.
    """

    patch: int
    temporal: int
    merge: int
    least: int
    most: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_folder(cls, folder: str | Path, spec, *, video: bool) -> "GridPixels":
        """What a checkpoint folder says of images or videos; `spec` is its TowerSpec.

        Raises:
          ValueError: settings that are not read.
        """
        given = settings(folder, video=video)
        size = given.get("size") or {}
        least, most = VIDEO_PIXELS if video else IMAGE_PIXELS
        return cls(
            patch=given.get("patch_size", spec.patch_size),
            temporal=given.get("temporal_patch_size", spec.temporal_patch),
            merge=given.get("merge_size", spec.merge),
            least=given.get("min_pixels", size.get("shortest_edge", least)),
            most=given.get("max_pixels", size.get("longest_edge", most)),
            mean=tuple(given.get("image_mean", spec.mean)),
            std=tuple(given.get("image_std", spec.std)),
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides in pixels: whole blocks, as near the picture's shape as `least` and `most` allow.

        Raises:
          ValueError: a picture too long for its width.
        """
        if max(height, width) > MOST_LONG * min(height, width):
            raise ValueError(
                f"a picture of {height} x {width}: one side is over 200 times the other"
            )
        block = self.patch * self.merge
        h, w = (round(side / block) * block for side in (height, width))
        if h * w > self.most:
            shrink = math.sqrt(height * width / self.most)
            h, w = (max(block, math.floor(s / shrink / block) * block) for s in (height, width))
        elif h * w < self.least:
            grow = math.sqrt(self.least / (height * width))
            h, w = (math.ceil(side * grow / block) * block for side in (height, width))
        return h, w

    def resized(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [F, H, W, 3] -> uint8 [F, h, w, 3] of `size` (Pillow bicubic)."""
        h, w = self.size(*frames[0].shape[:2])
        return np.stack([bicubic(frame, h, w) for frame in frames])

    def __call__(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[int, int, int]]:
        """A video, or an image as its one frame.

        Args:
          frames: uint8 [H, W, 3] each; the last is repeated up to whole patches.

        Returns:
          Normalised patches, float32 [t * h * w, C], each (frame, row, column, channel); and the
          grid (t, h, w) in patches.
        """
        x = self.resized(frames)
        x = np.concatenate([x, np.repeat(x[-1:], -len(x) % self.temporal, axis=0)])
        x = normalised(x, self.mean, self.std)
        grid = (len(x) // self.temporal, x.shape[1] // self.patch, x.shape[2] // self.patch)
        patches = rearrange(
            x, "(t f) (h a y) (w b x) c -> (t h w a b) (f y x c)",
            f=self.temporal, a=self.merge, b=self.merge, y=self.patch, x=self.patch,
        )  # fmt: skip
        return patches, grid

    def arguments(
        self, pictures: Sequence[Sequence[np.ndarray]], *, video: bool
    ) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them: patches and grids."""
        patches, grids = zip(*(self(frames) for frames in pictures), strict=True)
        x = rearrange(
            np.concatenate(patches), "s (t y x c) -> s (c t y x)",
            t=self.temporal, y=self.patch, x=self.patch,
        )  # fmt: skip
        if video:
            return {"pixel_values_videos": x, "video_grid_thw": np.array(grids)}
        return {"pixel_values": x, "image_grid_thw": np.array(grids)}


@dataclasses.dataclass(frozen=True)
class TilePixels:
    """How pictures become squares of a tower's size, stills also cut into tiles of it.

    Attributes:
      side: of a square in pixels.
      tiles: sizes that a still is fitted to; see `vjax.prompts.tiles`.
      mean, std: of RGB in 0 ... 1.
    """

    side: int
    tiles: TilesSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_folder(cls, folder: str | Path, spec: ModelSpec, *, video: bool) -> "TilePixels":
        """What a checkpoint folder says of images or videos.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        given, side = settings(folder, video=video), spec.vision.image_size
        size = given.get("size") or {"height": side, "width": side}
        if set(size.values()) != {side}:
            raise ValueError(f"{folder}: size is {dict(size)}, the tower takes {side} x {side}")
        fitted = given.get("image_grid_pinpoints") or spec.tiles.sizes
        if tuple(map(tuple, fitted)) != spec.tiles.sizes:
            raise ValueError(f"{folder}: image_grid_pinpoints are not those of config.json")
        mean, std = (
            given.get("image_mean", spec.vision.mean),
            given.get("image_std", spec.vision.std),
        )
        return cls(side, spec.tiles, tuple(mean), tuple(std))

    def frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [F, side, side, 3], normalised; aspect is not kept."""
        x = np.stack([bicubic(frame, self.side, self.side) for frame in frames])
        return normalised(x, self.mean, self.std)

    def still(self, image: np.ndarray, *, alone: bool = True) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [1 + tiles, side, side, 3], normalised: all of it, its tiles.

        Args:
          alone: a still among others of its conversation is not cut, but padded to a square.
        """
        S, (H, W, _) = self.side, image.shape
        if not alone:
            colour = [int(255 * c) for c in self.mean]
            return self.frames([padded(image, max(H, W), max(H, W), colour)])
        h, w = best_size(H, W, self.tiles)
        by = min(w / W, h / H)
        fitted = (h, min(math.ceil(W * by), w)) if h / H <= w / W else (math.ceil(H * by), w)
        x = padded(bicubic(image, min(fitted[0], h), fitted[1]), h, w, (0, 0, 0))
        tiles = rearrange(x, "(a y) (b x) c -> (a b) y x c", y=S, x=S)
        return normalised(np.stack([bicubic(image, S, S), *tiles]), self.mean, self.std)

    def arguments(
        self, pictures: Sequence[Sequence[np.ndarray]], *, video: bool
    ) -> dict[str, np.ndarray]:
        """Images or videos as the reference class's forward takes them; tiles padded to the most.

        Raises:
          ValueError: videos of different lengths, which that class does not take together.
        """
        if video:
            lengths = [len(frames) for frames in pictures]
            if len(set(lengths)) > 1:
                raise ValueError(f"videos of {lengths} frames together: as many of each are taken")
            x = np.stack([self.frames(frames) for frames in pictures])
            return {"pixel_values_videos": rearrange(x, "v f h w c -> v f c h w")}
        stills = [self.still(image, alone=len(pictures) == 1) for (image,) in pictures]
        x = np.zeros((len(stills), max(map(len, stills)), self.side, self.side, 3), np.float32)
        for row, still in zip(x, stills, strict=True):
            row[: len(still)] = still
        return {
            "pixel_values": rearrange(x, "v t h w c -> v t c h w"),
            "image_sizes": np.array([image.shape[:2] for (image,) in pictures]),
            "batch_num_images": np.array([len(pictures)]),
        }


def padded(image: np.ndarray, height: int, width: int, colour: Sequence[int]) -> np.ndarray:
    """uint8 [H, W, 3] in the middle of uint8 [height, width, 3]."""
    H, W, _ = image.shape
    x = np.full((height, width, 3), colour, np.uint8)
    top, left = (height - H) // 2, (width - W) // 2
    x[top : top + H, left : left + W] = image
    return x
