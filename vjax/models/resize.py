"""A tower made for one picture size, asked for another."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from vjax.families.spec import ModelSpec
from vjax.models.video_llm import VideoLLM


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
    if image_size % spec.vision.patch_size:
        raise ValueError(
            f"{image_size} pixels are no whole number of patches of {spec.vision.patch_size}"
        )
    model = nnx.clone(model)
    model.spec = resized_spec(spec, image_size)
    vision = model.tower.spec = model.spec.vision
    if vision.position == "table":
        first, table = jnp.split(model.tower.position[...], [int(vision.class_token)])
        side, new = math.isqrt(spec.vision.patches), image_size // vision.patch_size
        if side**2 != len(table):
            raise ValueError(f"a position table of {len(table)} patches is no square")
        grid = rearrange(table.astype(jnp.float32), "(h w) d -> h w d", h=side)
        grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "cubic", antialias=True)
        axes = model.tower.position.get_metadata()["axes"]
        resized = rearrange(grid, "h w d -> (h w) d").astype(table.dtype)
        model.tower.position = nnx.Param(jnp.concatenate([first, resized]), axes=axes)
    return model


def resized_spec(spec: ModelSpec, image_size: int) -> ModelSpec:
    """The spec for pictures of `image_size` pixels; stills are cut into as many tiles, of it."""
    tiles = spec.tiles
    if tiles is not None:
        old = spec.vision.image_size
        sizes = tuple((h * image_size // old, w * image_size // old) for h, w in tiles.sizes)
        tiles = dataclasses.replace(tiles, sizes=sizes)
    vision = dataclasses.replace(spec.vision, image_size=image_size)
    return dataclasses.replace(spec, vision=vision, tiles=tiles)
