"""One call for evals and chat: scores of the candidates and the greedy answer."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from vjax.generate.greedy import greedy
from vjax.generate.prefill import prefill
from vjax.generate.score import candidate_logprobs

AnyArray = Array | np.ndarray
# fields of a batch that a model does not look at
UNREAD = ("targets", "loss_weights", "item", "work", "plan")


def answer(
    model_parts: tuple,
    batch: Mapping[str, AnyArray],
    candidates: tuple[Int[AnyArray, "B C A"], Bool[AnyArray, "B C A"]],
    max_new_tokens: int,
    *,
    dtype=jnp.float32,
    prefill_chunk: int = 0,
) -> tuple[Float[Array, "B C"], Int[Array, "B max_new_tokens"]]:
    """Reads each prompt once, then scores its candidates and writes its answer.

    Compiled once per shape of the arguments (and per model and mesh, and per static argument).

    Args:
      model_parts: (graphdef, state, ...) as `nnx.split` gives them, in any number of states.
      batch: the batch dict of WORKSPACE.md, one prompt a row, padded right.
      candidates: tokens and mask, see `candidate_logprobs`; a letter of an MCQ is one token.
      max_new_tokens: 0 for scores only.
      prefill_chunk: tokens of a prompt that are read at once, see `prefill`; 0 = all.

    Returns:
      log-probabilities of the candidates, float32, and the greedy tokens (see `greedy`).
    """
    graphdef, *states = model_parts
    prompts = {name: field for name, field in batch.items() if name not in UNREAD}
    static = graphdef, max_new_tokens, dtype, prefill_chunk
    return _answer(*static, states, prompts, *candidates)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _answer(graphdef, max_new_tokens, dtype, prefill_chunk, states, batch, tokens, mask):
    model = nnx.merge(graphdef, *states)
    prompt = prefill(model, batch, dtype=dtype, chunk=prefill_chunk, room=max_new_tokens)
    scores = candidate_logprobs(model, prompt, tokens, mask)
    return scores, greedy(model, prompt, max_new_tokens)
