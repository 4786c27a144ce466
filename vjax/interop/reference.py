"""The door for parity tests: a model called the way its reference class is called."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vjax.models.video_llm import VideoLLM


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
        Of pictures those of the module of `vjax.interop.arguments` that `spec.pictures` names.
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
    takes = None
    if spec.vision is not None:
        takes = importlib.import_module(f"vjax.interop.arguments.{spec.pictures}")
    if odd := given.keys() - {*(takes.NAMES if takes else ())}:
        raise ValueError(f"{spec.family}: arguments that are not taken: {', '.join(sorted(odd))}")
    batch = {
        "tokens": ids.astype(np.int32),
        "positions": np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape),
        "segment_ids": mask.astype(np.int32),
    }
    if takes:
        batch |= takes.take(spec, ids, mask, given)
    return _logits(*nnx.split(model), batch, dtype)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _logits(graphdef, state, batch: dict[str, Array], dtype) -> Float[Array, "B T vocab"]:
    model = nnx.merge(graphdef, state)
    hidden, _ = model(batch, dtype=dtype)
    return model.decoder.logits(hidden)
