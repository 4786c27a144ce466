"""Images and texts to what CLIP's and SigLIP's towers take.

Reference: transformers' CLIPImageProcessor, SiglipImageProcessor and Siglip2ImageProcessor.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from einops import rearrange
from PIL import Image

from vjax.families.dual import DualSpec
from vjax.families.fields import read_json
from vjax.prompts import tokenizer as tokenizer_lib
from vjax.prompts.chat import SETTINGS
from vjax.prompts.pixels import colours, middle, normalised, resized, settings

FINE = 1e-5  # of the scale that a NaFlex image is brought to
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@dataclasses.dataclass(frozen=True)
class DualPixels:
    """How images become squares of the tower's size, or patches.

    Attributes:
      side: of a square in pixels; 0 where images keep their shape.
      crop: squares are cut from the middle (CLIP); else images are squeezed (SigLIP).
      patch, most: side of a patch in pixels, and patches of an image, where they keep their shape.
      resample: Pillow's filter.
      mean, std: of RGB in 0 ... 1.
    """

    side: int
    crop: bool
    patch: int
    most: int
    resample: Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_folder(cls, folder: str | Path, spec: DualSpec) -> "DualPixels":
        """What a checkpoint folder says.

        Raises:
          ValueError: settings that are not read, or sizes that are not those of the model.
        """
        vision, naflex = spec.vision, spec.vision.position == "resampled"
        given = settings(folder, video=False, resample=None)
        resample = given.get("resample", BILINEAR if naflex else BICUBIC)
        if resample not in ((BICUBIC, BILINEAR) if spec.sigmoid else (BICUBIC,)):
            raise ValueError(f"{folder}: resample is {resample}, which is not read")
        side = 0 if naflex else vision.image_size
        size = given.get("size") or {}
        sizes = {*size.values()} if isinstance(size, dict) else {size}  # old files have a number
        if not spec.sigmoid:
            crop = given.get("crop_size") or {}
            sizes |= {*crop.values()} if isinstance(crop, dict) else {crop}
        if not naflex and sizes - {side}:
            raise ValueError(f"{folder}: images are brought to {size}, the tower takes {side}")
        if naflex and given.get("patch_size", vision.patch_size) != vision.patch_size:
            raise ValueError(
                f"{folder}: patch_size is {given['patch_size']}, that of the tower "
                f"{vision.patch_size}"
            )
        return cls(
            side=side,
            crop=not spec.sigmoid,
            patch=vision.patch_size,
            most=given.get("max_num_patches", 256),
            resample=Image.Resampling(resample),
            **colours(given, vision),
        )

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """uint8 [H, W, 3] each -> arguments of `DualEncoder.see`, or of `see_patches`."""
        if self.side:
            squares = [self._square(image) for image in images]
            return {"images": normalised(np.stack(squares), self.mean, self.std)}
        patches = np.zeros((len(images), self.most, 3 * self.patch**2), np.float32)
        hw = np.zeros((len(images), self.most, 2), np.int32)
        real = np.zeros((len(images), self.most), np.int32)
        for n, image in enumerate(images):
            h, w = self.grid(*image.shape[:2])
            x = resized(image, h * self.patch, w * self.patch, self.resample)
            x = normalised(x, self.mean, self.std)
            patches[n, : h * w] = rearrange(
                x, "(h y) (w x) c -> (h w) (y x c)", y=self.patch, x=self.patch
            )
            hw[n, : h * w] = np.stack(np.divmod(np.arange(h * w), w), -1)
            real[n, : h * w] = 1
        return {"patches": patches, "hw": hw, "real": real}

    def _square(self, image: np.ndarray) -> np.ndarray:
        if self.crop:
            return middle(image, self.side)
        return resized(image, self.side, self.side, self.resample)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches: sides times one scale, rounded up, as large as fits.

        The scale is found by halving, to the reference's own precision.
        """

        def at(scale: float) -> tuple[int, int]:
            h, w = (max(1, math.ceil(side * scale / self.patch)) for side in (height, width))
            return h, w

        low, high = FINE / 10, 100.0
        while high - low >= FINE:
            scale = (low + high) / 2
            h, w = at(scale)
            low, high = (scale, high) if h * w <= self.most else (low, scale)
        return at(low)


class Texts:
    """Texts to token ids of the length that the tower has positions for.

    SigLIP's are in small letters, and their padding is seen by the tower.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, spec: DualSpec, pad: int, *, left: bool):
        self.tokenizer, self.length, self.small = tokenizer, spec.text.length, spec.sigmoid
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(
            length=self.length, pad_id=pad, direction="left" if left else "right"
        )

    @classmethod
    def from_folder(cls, folder: str | Path, spec: DualSpec) -> "Texts":
        """tokenizer.json, and of tokenizer_config.json the token and the side of padding.

        Raises:
          FileNotFoundError: no tokenizer.json; ValueError: one that is not of the model.
        """
        tokenizer, given = tokenizer_lib.load(folder), {}
        if (Path(folder) / SETTINGS).exists():
            given = read_json(Path(folder) / SETTINGS)
        name = given.get("pad_token")
        name = name["content"] if isinstance(name, dict) else name
        pad = tokenizer.token_to_id(name) if name else None
        if tokenizer.get_vocab_size() > spec.text.vocab:
            raise ValueError(
                f"{folder}: tokenizer.json has {tokenizer.get_vocab_size()} tokens, config.json's "
                f"vocab_size is {spec.text.vocab}: they are not of one checkpoint"
            )
        left = given.get("padding_side") == "left"
        return cls(tokenizer, spec, spec.text.pad if pad is None else pad, left=left)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """int32 [B, T]."""
        texts = [text.lower() if self.small else text for text in texts]
        return np.array([found.ids for found in self.tokenizer.encode_batch(texts)], np.int32)
