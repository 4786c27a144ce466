"""A tower made for one picture size, asked for another."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from vjax.families.spec import ModelSpec
from vjax.models.dual import DualEncoder
from vjax.models.video_llm import VideoLLM
from vjax.models.vit import Tower


def resize_positions(model: VideoLLM, image_size: int) -> VideoLLM:
    """The model for pictures of `image_size` pixels; its position table, if any, is resampled.

    Bicubic with anti-aliasing, in float32, as timm's `resample_abs_pos_embed` does. A tower with
    rotary or fractional positions takes any size as it is.

    Raises:
      ValueError: a size that is no whole number of patches, or a table that is no square.
    """
    spec = model.spec
    if image_size == spec.vision.image_size:
        return model
    model = nnx.clone(model)
    model.spec = resized_spec(spec, image_size)
    for tower in (model.tower, model.still_tower):
        if tower is not None:
            _resize(tower, image_size, "cubic")
    return model


def resize_dual(model: DualEncoder, image_size: int) -> DualEncoder:
    """The model for images of `image_size` pixels, to be trained on with: its position table is
    resampled bilinear with anti-aliasing, in float32, as SigLIP 2 went on to larger images (arXiv
    2502.14786, section 2.4.1). A NaFlex tower takes any size as it is.

    Raises as `resize_positions`.
    """
    if image_size == model.spec.vision.image_size or model.spec.vision.position != "table":
        return model
    model = nnx.clone(model)
    _resize(model.tower, image_size, "linear")
    model.spec = dataclasses.replace(model.spec, vision=model.tower.spec)
    return model


def _resize(tower: Tower, image_size: int, kernel: str):
    if image_size % tower.spec.patch_size:
        raise ValueError(
            f"{image_size} pixels are no whole number of patches of {tower.spec.patch_size}"
        )
    old, tower.spec = tower.spec, dataclasses.replace(tower.spec, image_size=image_size)
    if old.position != "table":
        return
    first, table = jnp.split(tower.position[...], [int(old.class_token)])
    side, new = math.isqrt(old.patches), image_size // old.patch_size
    if side**2 != len(table):
        raise ValueError(f"a position table of {len(table)} patches is no square")
    grid = rearrange(table.astype(jnp.float32), "(h w) d -> h w d", h=side)
    grid = jax.image.resize(grid, (new, new, grid.shape[-1]), kernel, antialias=True)
    axes = tower.position.get_metadata()["axes"]
    resized = rearrange(grid, "h w d -> (h w) d").astype(table.dtype)
    tower.position = nnx.Param(jnp.concatenate([first, resized]), axes=axes)


def resized_spec(spec: ModelSpec, image_size: int) -> ModelSpec:
    """The spec for pictures of `image_size` pixels; stills are cut into as many tiles, of it."""
    tiles = spec.tiles
    if tiles is not None:
        old = spec.vision.image_size
        sizes = tuple((h * image_size // old, w * image_size // old) for h, w in tiles.sizes)
        tiles = dataclasses.replace(tiles, sizes=sizes)
    towers = {"vision": spec.vision, "still_vision": spec.still_vision}
    towers = {
        name: tower and dataclasses.replace(tower, image_size=image_size)
        for name, tower in towers.items()
    }
    return dataclasses.replace(spec, tiles=tiles, **towers)
