"""The door for parity tests: a model called the way its reference class is called."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from vjax.families.spec import ModelSpec
from vjax.models.video_llm import VideoLLM
from vjax.models.vit import patch_grid
from vjax.prompts.positions import mrope_positions
from vjax.prompts.tiles import NEWLINE, plain, tile_count, tile_tokens

TILES = (
    "pixel_values", "pixel_values_videos", "image_sizes", "image_sizes_videos", "batch_num_images",
)  # fmt: skip
GRIDS = (
    "pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw", "mm_token_type_ids",
    "position_ids",
)  # fmt: skip


def reference_logits(
    model: VideoLLM, *, dtype=jnp.float32, **inputs: np.ndarray
) -> Float[Array, "B T vocab"]:
    """What the reference class's forward gives for the same arguments.

    Differentiable with respect to the model's variables. What padding tokens give has no reference:
    do not compare it.

    Args:
      dtype: of the computation; logits are float32.
      inputs: the arguments of that forward, as numpy arrays.
        input_ids [B, T]; attention_mask [B, T], 1 where a token is real, all where absent.
        LlavaForConditionalGeneration: pixel_values [V, 3, H, W]. LlavaOnevision...: pixel_values
        [V, tiles, 3, H, W] or [V, 3, H, W], image_sizes [V, 2], batch_num_images [B];
        pixel_values_videos [V, frames, 3, H, W]. Qwen2VL...: pixel_values and
        pixel_values_videos [patches, C t h w], image_grid_thw and video_grid_thw [V, 3],
        mm_token_type_ids [B, T], which the ids give where absent; position_ids [3, B, T], by rule
        `hf5` where absent, as there.
        Pixels are normalised, and fill their tokens in reading order.

    Raises:
      ValueError: an argument that the family does not take, or vision tokens and pixel values that
        do not fit each other.
    """
    spec = model.spec
    given = {name: np.asarray(value) for name, value in inputs.items() if value is not None}
    ids = given.pop("input_ids")
    mask = given.pop("attention_mask", np.ones(ids.shape, np.int32))
    if ids.size and not 0 <= ids.min() <= ids.max() < spec.text.vocab:
        raise ValueError(
            f"token ids {ids.min()} ... {ids.max()} of a vocabulary of {spec.text.vocab}"
        )
    take, known = _images, ("pixel_values",)
    if spec.vision is None:
        take, known = _text, ()
    elif spec.vision.position == "rope2d":
        take, known = _grids, GRIDS
    elif spec.tiles is not None:
        take, known = _tiles, TILES
    if odd := given.keys() - {*known}:
        raise ValueError(f"{spec.family}: arguments that are not taken: {', '.join(sorted(odd))}")
    batch = {
        "tokens": ids.astype(np.int32),
        "positions": np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape),
        "segment_ids": mask.astype(np.int32),
    } | take(spec, ids, mask, given)
    return _logits(*nnx.split(model), batch, dtype)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _logits(graphdef, state, batch: dict[str, Array], dtype) -> Float[Array, "B T vocab"]:
    model = nnx.merge(graphdef, state)
    hidden, _ = model(batch, dtype=dtype)
    return model.decoder.logits(hidden)


def _text(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    return {}


def _images(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Images of one size. Positions are 0, 1, 2, ... over the whole row, padding counted."""
    side = spec.vision.image_size
    pixels = given.pop("pixel_values", np.zeros((0, 3, side, side)))
    index = _slots(ids, {spec.image_token_id: len(pixels) * spec.vision.patches})
    images = rearrange(pixels, "v c h w -> v h w c").astype(np.float32)
    # a model without images still has one in its buffer
    images = images if len(images) else np.zeros((1, side, side, 3), np.float32)
    return {"images": images, "vision_index": index}


def _tiles(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Frames of one size and stills in tiles; positions as `_images`."""
    side, tile = spec.vision.image_size // spec.vision.patch_size, spec.vision.image_size
    none = np.zeros((0, 1, 3, tile, tile))
    videos, pixels = given.pop("pixel_values_videos", none), given.pop("pixel_values", none)
    sizes = given.pop("image_sizes", np.zeros((0, 2), np.int64)).tolist()
    together = given.pop("batch_num_images", np.ones(len(sizes), np.int64))
    alone = np.repeat(together == 1, together)  # a still among others of its row is not cut
    pixels = pixels[:, None] if pixels.ndim == 4 else pixels
    V, F = videos.shape[:2]
    frame, first = spec.frame_side**2, V * F * spec.frame_side**2
    counts = [
        tile_count(h, w, spec.tiles, tile) if cut else 1
        for (h, w), cut in zip(sizes, alone, strict=True)
    ]
    newline = first + sum(counts) * side * side
    still_index, still_weight = [], []
    for (h, w), cut, count in zip(sizes, alone, counts, strict=True):
        if cut:
            index, weight = tile_tokens(h, w, spec.tiles, tile, side)
        else:
            index, weight = plain(np.r_[np.arange(side * side), NEWLINE])
        still_index.append(np.where(index == NEWLINE, newline, first + index))
        still_weight.append(weight)
        first += count * side * side
    ends = np.full((V, 1), newline)
    video_index = np.concatenate([np.arange(V * F * frame).reshape(V, F * frame), ends], 1)
    tokens = {spec.video_token_id: plain(video_index.reshape(-1))}
    if still_index:
        tokens[spec.image_token_id] = np.concatenate(still_index), np.concatenate(still_weight)
    index = np.full((*ids.shape, 4), -1, np.int32)
    weight = np.zeros((*ids.shape, 4), np.float32)
    for token, (of, by) in tokens.items():
        at = ids == token
        if at.sum() != len(of):
            raise ValueError(f"{at.sum()} tokens of id {token} for {len(of)} vision tokens")
        index[at], weight[at] = of, by
    batch = {"vision_index": index, "vision_weight": weight}
    pictures = [row[:count] for row, count in zip(pixels, counts, strict=True)]
    for name, values in (("images", videos.reshape(-1, *videos.shape[2:])), ("stills", pictures)):
        if len(values):
            values = values if name == "images" else np.concatenate(values)
            batch[name] = rearrange(values, "v c h w -> v h w c").astype(np.float32)
    return batch


def _grids(spec: ModelSpec, ids: np.ndarray, mask: np.ndarray, given: dict) -> dict:
    """Images and videos of any size, packed into one row of patches, frame by frame."""
    vision, no_grid = spec.vision, np.zeros((0, 3), np.int64)
    width = 3 * vision.temporal_patch * vision.patch_size**2
    pixels = [given.pop(k, np.zeros((0, width))) for k in ("pixel_values", "pixel_values_videos")]
    grids = [given.pop(k, no_grid) for k in ("image_grid_thw", "video_grid_thw")]
    for name, values, of in zip(("image", "video"), pixels, grids, strict=True):
        if len(values) != of.prod(-1).sum():
            raise ValueError(f"{len(values)} patches of pixels for {name} grids {of.tolist()}")
    block = vision.merge**2
    tokens = {spec.image_token_id: len(pixels[0]), spec.video_token_id: len(pixels[1])}
    index = _slots(ids, {token: n // block for token, n in tokens.items()})
    kinds = np.where(ids == spec.image_token_id, 1, np.where(ids == spec.video_token_id, 2, 0))
    types = given.pop("mm_token_type_ids", kinds)
    rope = given.pop("position_ids", None)
    batch = {"vision_index": index}
    if rope is None and (len(grids[0]) or len(grids[1])):
        rope = _rope(vision.merge, types, mask, grids)
    if rope is not None:
        batch["rope_positions"] = rearrange(rope, "three b t -> b t three").astype(np.int32)
    frames = [(h, w) for of in grids for t, h, w in of.tolist() for _ in range(t)]
    if not frames:  # a model without images still has a block of patches in its buffer
        frames, pixels = [(vision.merge, vision.merge)], [np.zeros((block, width))]
    patches = rearrange(
        np.concatenate(pixels), "s (c t y x) -> s (t y x c)",
        c=3, t=vision.temporal_patch, y=vision.patch_size,
    )  # fmt: skip
    sizes = [h * w for h, w in frames]
    return batch | {
        "patches": patches.astype(np.float32),
        "patch_hw": np.concatenate([patch_grid(h, w, vision.merge) for h, w in frames]),
        "patch_segments": np.repeat(np.arange(1, len(frames) + 1, dtype=np.int32), sizes),
    }


def _rope(merge: int, types: np.ndarray, mask: np.ndarray, grids: list[np.ndarray]) -> np.ndarray:
    """[3, B, T] as transformers 5 numbers it: padding is skipped and stands at 0."""
    left = {1: iter(grids[0].tolist()), 2: iter(grids[1].tolist())}
    rope = np.zeros((3, *types.shape), np.int32)
    for row, (of, real) in enumerate(zip(types, mask > 0, strict=True)):
        of = of[real]
        runs = of[np.flatnonzero(np.diff(of, prepend=0) != 0)]
        mine = [next(left[kind]) for kind in runs.tolist() if kind]
        rope[:, row, real] = mrope_positions(of, mine, merge=merge, rule="hf5").T
    return rope


def _slots(ids: np.ndarray, tokens: dict[int, int]) -> np.ndarray:
    """vision_index of a batch: each kind of token counts on through its own vision tokens."""
    index, first = np.full(ids.shape, -1, np.int32), 0
    for token, count in tokens.items():
        at = ids == token
        if at.sum() != count:
            raise ValueError(f"{at.sum()} tokens of id {token} for {count} vision tokens")
        index[at] = first + np.arange(count)
        first += count
    return index
