"""Prompts in, scores and texts out: batches, buckets and padding are nobody else's business."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from vjax import distributed
from vjax.data.collate import Shape, collate
from vjax.generate.answer import answer
from vjax.models.video_llm import VideoLLM
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded

# candidates of a prompt go to the first bucket that holds them: one compiled program each
BUCKETS = (5, 24, 120)


def logits(model: VideoLLM, prompt: Prompt, chat: Chat, *, image_size: int) -> np.ndarray:
    """Of a question with its answer, float32 [T, vocab]."""
    asked = chat.encode(prompt)
    shape = Shape(1, len(asked.tokens), max(1, len(asked.images)), image_size, chat.patches)
    batch = collate([[asked]], shape, pad_token_id=chat.spec.pad_token_id)
    batch = {name: jnp.asarray(field) for name, field in batch.items() if name != "item"}
    hidden, _ = model(batch)
    return np.asarray(model.decoder.logits(hidden), np.float32)[0]


def ask(
    prompts: Sequence[Prompt],
    model_parts: tuple,
    chat: Chat,
    *,
    image_size: int,
    pad_token_id: int,
    batch_size: int,
    max_new_tokens: int,
    dtype=jnp.float32,
    prefill_chunk: int = 0,
    on_batch: Callable[[int], None] = lambda prompts: None,
    look: Callable[[dict], dict] = lambda batch: batch,
) -> list[tuple[np.ndarray, str]]:
    """Log-probabilities of each prompt's candidates, and the greedy answer, in the order given.

    A letter of a multiple-choice question is judged by its own token; a text with its end of turn,
    or "2" would tie with "2,3".

    Args:
      model_parts: (graphdef, state, ...).
      prefill_chunk: tokens of a prompt that are read at once, see `prefill`; 0 = all.
      on_batch: called with the number of prompts done, for a bar.
      look: what becomes of a batch before the model gets it.
    """
    found: list[tuple[np.ndarray, str]] = [(np.zeros(0), "")] * len(prompts)
    rows = []
    for n, prompt in enumerate(prompts):
        ids = [chat.candidate(text, end=not prompt.options) for text in prompt.candidates]
        bucket = next((size for size in BUCKETS if size >= len(ids)), None)
        if bucket is None:
            raise ValueError(f"prompt {n}: {len(ids)} candidates, at most {BUCKETS[-1]} are scored")
        rows.append((bucket, n, chat.encode(prompt, with_answer=False), ids))
    for bucket in BUCKETS:
        mine = [row for row in rows if row[0] == bucket]
        if not mine:
            continue
        longest = max(len(row[2].tokens) for row in mine)
        images = max(4 * batch_size + 8, *(len(row[2].images) for row in mine))
        shape = Shape(batch_size, -(-longest // 16) * 16, images, image_size, chat.patches)
        A = max((len(ids) for row in mine for ids in row[3]), default=1)
        for part in _batches(mine, shape):
            batch = collate(
                [[encoded] for _, _, encoded, _ in part],
                shape,
                pad_token_id=pad_token_id,
            )
            tokens = np.full((shape.rows, bucket, A), pad_token_id, np.int32)
            mask = np.zeros((shape.rows, bucket, A), bool)
            for b, (*_, candidates) in enumerate(part):
                for c, ids in enumerate(candidates):
                    tokens[b, c, : len(ids)] = ids
                    mask[b, c, : len(ids)] = True
            batch.pop("item")
            # numpy, not jax: of several processes each gives the whole batch
            scores, generated = answer(
                model_parts,
                look(batch),
                (tokens, mask),
                max_new_tokens,
                dtype=dtype,
                prefill_chunk=prefill_chunk,
            )
            scores, generated = distributed.fetch((scores, generated))
            for b, (_, n, _, candidates) in enumerate(part):
                found[n] = scores[b, : len(candidates)], chat.decode(generated[b])
            on_batch(len(part))
    return found


def _batches(rows: list[tuple], shape: Shape) -> list[list[tuple]]:
    """Rows in order, as many a batch as there are rows and picture slots for."""
    batches: list[list[tuple]] = []
    left = 0
    for row in rows:
        encoded: Encoded = row[2]
        if not batches or len(batches[-1]) == shape.rows or left < len(encoded.images):
            batches.append([])
            left = shape.images
        batches[-1].append(row)
        left -= len(encoded.images)
    return batches
