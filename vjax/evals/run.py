"""Scoring a model on suites: items to prompts, prompts to batches, answers to item results."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from vjax.data.items import FragmentItem, SceneItem
from vjax.evals.items import ItemResult, score, score_record
from vjax.generate import ask
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat
from vjax.video.frames import Clip

NEW_TOKENS = 12
BLANK_UNITS = 4

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
    prefill_chunk: int = 0,
    on_batch: Callable[[int], None] = lambda items: None,
    look: Callable[[dict], dict] = lambda batch: batch,
) -> dict[str, list[ItemResult]]:
    """Scores every item by likelihood and by its greedy answer.

    Args:
      suites: items by suite name.
      model_parts: (graphdef, state, ...).
      control: a key of CONTROLS.
      prefill_chunk: tokens of a prompt that are read at once; 0 = all.
      on_batch: called with the number of items done, for a bar.
      look: as in `generate.ask`.

    Returns:
      Item results by suite, in the order of the items.
    """
    asked = [(suite, item) for suite, items in suites.items() for item in items]
    prompts = [CONTROLS[control](item.prompt(clip_of)) for _, item in asked]
    answers = ask(
        prompts,
        model_parts,
        chat,
        image_size=image_size,
        pad_token_id=pad_token_id,
        batch_size=batch_size,
        max_new_tokens=NEW_TOKENS,
        dtype=dtype,
        prefill_chunk=prefill_chunk,
        on_batch=on_batch,
        look=look,
    )
    results: dict[str, list[ItemResult]] = {suite: [] for suite in suites}
    for (suite, item), prompt, (scores, text) in zip(asked, prompts, answers, strict=True):
        results[suite].append(result(item, suite, prompt, clip_of, scores, text))
    return results


def result(
    item: Item,
    suite: str,
    prompt: Prompt,
    clip_of: Callable[[str], Clip],
    scores: np.ndarray,
    generated: str,
) -> ItemResult:
    """What scoring one item gave."""
    if isinstance(item, FragmentItem):
        return score_record(item.record, suite=suite, scores=scores, generated=generated)
    clip = clip_of(item.key)
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
