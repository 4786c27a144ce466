"""The door for parity tests: a model called the way its reference class is called."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from vjax.families.spec import ModelSpec
from vjax.models.video_llm import VideoLLM


def reference_logits(
    model: VideoLLM,
    input_ids: Int[np.ndarray, "B T"],
    attention_mask: Int[np.ndarray, "B T"] | None = None,
    pixel_values: Float[np.ndarray, "V 3 H W"] | None = None,
) -> Float[Array, "B T vocab"]:
    """What LlavaForConditionalGeneration's forward gives for the same arguments, in float32.

    Positions follow that class: 0, 1, 2, ... over the whole row, padding counted. Images fill the
    image tokens in reading order. What padding tokens give has no reference: do not compare it.
    Differentiable with respect to the model's variables.

    Args:
      attention_mask: 1 where a token is real; all where None.
      pixel_values: normalised to [-1, 1].

    Raises:
      ValueError: image tokens and pixel values that do not fit each other.
    """
    spec, (B, T) = model.spec, input_ids.shape
    ones = np.ones((B, T), np.int32)
    batch = {
        "tokens": np.asarray(input_ids, np.int32),
        "vision_index": -ones,
        "images": np.zeros((0, 0, 0, 3), np.float32),
        "positions": np.broadcast_to(np.arange(T, dtype=np.int32), (B, T)),
        "segment_ids": ones if attention_mask is None else np.asarray(attention_mask, np.int32),
    }
    if spec.vision is not None:
        batch |= _vision(spec, input_ids, pixel_values)
    return _logits(*nnx.split(model), batch)


def _vision(spec: ModelSpec, input_ids: np.ndarray, pixel_values: np.ndarray | None) -> dict:
    if pixel_values is None:
        side = spec.vision.image_size
        pixel_values = np.zeros((0, 3, side, side), np.float32)
    slots = input_ids == spec.image_token_id
    have = len(pixel_values) * spec.vision.patches
    if slots.sum() != have:
        raise ValueError(f"{slots.sum()} image tokens for {have} patches of the pixel values")
    index = np.where(slots, np.cumsum(slots).reshape(slots.shape) - 1, -1)
    # the tower scales pixels itself; a model without images still has one in its buffer
    images = (np.asarray(pixel_values, np.float32).transpose(0, 2, 3, 1) + 1) * 127.5
    images = images if len(images) else np.zeros((1, *images.shape[1:]), np.float32)
    return {"vision_index": index.astype(np.int32), "images": images}


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, state, batch: dict[str, Array]) -> Float[Array, "B T vocab"]:
    model = nnx.merge(graphdef, state)
    hidden, _ = model(batch, dtype=jnp.float32)
    return model.decoder.logits(hidden)
