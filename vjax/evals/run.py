"""Scoring a model on suites: items to prompts, prompts to batches, answers to item results."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from vjax.data.collate import Shape, collate
from vjax.data.items import FragmentItem, SceneItem
from vjax.evals.items import ItemResult, score, score_record
from vjax.generate import answer
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded
from vjax.video.frames import Clip

NEW_TOKENS = 12
BLANK_UNITS = 4
# candidates of an item go to the first bucket that holds them: one compiled program each
BUCKETS = (5, 24, 120)

Item = FragmentItem | SceneItem


def blank(prompt: Prompt) -> Prompt:
    """The control that must leave every task at chance: grey pictures, always as many frames.

    Grey frames alone would leave their number to be counted.
    """
    grey = np.full_like(prompt.images[0], 127)
    parts = [("frame", n) for n in range(BLANK_UNITS)]
    for kind, value in prompt.parts:
        if kind != "frame":
            parts.append((kind, BLANK_UNITS) if kind == "image" else (kind, value))
    return dataclasses.replace(prompt, parts=tuple(parts), images=(grey,) * (BLANK_UNITS + 1))


def no_order(prompt: Prompt) -> Prompt:
    """The control that must leave disorder and rearrangement at chance: frames as a set.

    Pictures lose their boundary tokens and come in an order that their content alone decides.
    """
    frames = [value for kind, value in prompt.parts if kind == "frame"]
    by_content = sorted(frames, key=lambda n: hashlib.blake2b(prompt.images[n].tobytes()).digest())
    rest = [part for part in prompt.parts if part[0] != "frame"]
    return dataclasses.replace(prompt, parts=(*(("image", n) for n in by_content), *rest))


CONTROLS: dict[str, Callable[[Prompt], Prompt]] = {
    "none": lambda prompt: prompt,
    "blank": blank,
    "no_order": no_order,
}


def evaluate(
    suites: Mapping[str, Sequence[Item]],
    model_parts: tuple,
    chat: Chat,
    clip_of: Callable[[str], Clip],
    *,
    image_size: int,
    pad_token_id: int,
    batch_size: int,
    control: str = "none",
    dtype=jnp.float32,
    on_batch: Callable[[int], None] = lambda items: None,
) -> dict[str, list[ItemResult]]:
    """Scores every item by likelihood and by its greedy answer.

    Args:
      suites: items by suite name.
      model_parts: (graphdef, state, ...).
      control: a key of CONTROLS.
      on_batch: called with the number of items done, for a bar.

    Returns:
      Item results by suite, in the order of the items.
    """
    rows = []
    for suite, items in suites.items():
        for item in items:
            prompt = CONTROLS[control](item.prompt(clip_of))
            letters = is_choice(item)
            # a letter is judged by its own token; a text with its end of turn, or "2" would tie
            # with "2,3"
            candidates = [chat.candidate(text, end=not letters) for text in prompt.candidates]
            bucket = next(size for size in BUCKETS if size >= len(candidates))
            rows.append(
                (bucket, suite, item, prompt, chat.encode(prompt, with_answer=False), candidates)
            )
    results: dict[str, dict[str, ItemResult]] = {suite: {} for suite in suites}
    for bucket in BUCKETS:
        mine = [row for row in rows if row[0] == bucket]
        if not mine:
            continue
        longest = max(len(row[4].tokens) for row in mine)
        shape = Shape(
            batch_size, -(-longest // 16) * 16, 4 * batch_size + 8, image_size, chat.patches
        )
        A = max(len(ids) for row in mine for ids in row[5])
        for part in _batches(mine, shape):
            batch = collate(
                [[row[4]] for row in part],
                shape,
                image_token_id=chat.image_token_id,
                pad_token_id=pad_token_id,
            )
            tokens = np.full((shape.rows, bucket, A), pad_token_id, np.int32)
            mask = np.zeros((shape.rows, bucket, A), bool)
            for b, row in enumerate(part):
                for c, ids in enumerate(row[5]):
                    tokens[b, c, : len(ids)] = ids
                    mask[b, c, : len(ids)] = True
            batch.pop("item")
            batch = {name: jnp.asarray(field) for name, field in batch.items()}
            scores, generated = answer(
                model_parts,
                batch,
                (jnp.asarray(tokens), jnp.asarray(mask)),
                NEW_TOKENS,
                dtype=dtype,
            )
            scores, generated = np.asarray(scores), np.asarray(generated)
            for b, (_, suite, item, prompt, _, candidates) in enumerate(part):
                text = chat.decode(generated[b])
                results[suite][item.id] = result(
                    item, suite, prompt, clip_of(item.key), scores[b, : len(candidates)], text
                )
            on_batch(len(part))
    return {suite: [results[suite][item.id] for item in items] for suite, items in suites.items()}


def is_choice(item: Item) -> bool:
    """Whether the answer is a letter."""
    return isinstance(item, SceneItem) or item.record.form == "mcq"


def result(
    item: Item, suite: str, prompt: Prompt, clip: Clip, scores: np.ndarray, generated: str
) -> ItemResult:
    """What scoring one item gave."""
    if isinstance(item, FragmentItem):
        return score_record(item.record, suite=suite, scores=scores, generated=generated)
    rows = item.rows(clip)
    return score(
        id=item.id,
        suite=suite,
        task=item.task,
        form="mcq",
        M=len(rows),
        group=item.scene.video_id,
        frames=clip.table.index[rows].tolist(),
        options=prompt.options,
        candidates=prompt.candidates,
        answer=prompt.answer,
        scores=scores,
        generated=generated,
    )


def _batches(rows: list[tuple], shape: Shape) -> list[list[tuple]]:
    """Rows in order, as many a batch as there are rows and picture slots for."""
    batches: list[list[tuple]] = []
    left = 0
    for row in rows:
        encoded: Encoded = row[4]
        if not batches or len(batches[-1]) == shape.rows or left < len(encoded.images):
            batches.append([])
            left = shape.images
        batches[-1].append(row)
        left -= len(encoded.images)
    return batches
