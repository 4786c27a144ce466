"""Batches of drawn conversations, packed into rows: what vjax-tiny is pretrained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vjax.data import words
from vjax.data.collate import Shape, collate, stacked
from vjax.data.conversations import IS_SPOTTED, SPOT
from vjax.data.fragments import ROW_TOKENS
from vjax.data.items import scene_prompt
from vjax.fragments.consistency import INSTRUCTION as YES_NO_INSTRUCTION
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded
from vjax.video.rng import philox
from vjax.video.world import differences, questions
from vjax.video.world.scene import Scene

REDRAWS = 20  # of a conversation, before rows count as too short
IMAGES_A_ROW = 6.25  # slots of the vision buffer
MISSES = 6  # conversations in a row that find no room: the batch is full


def batch_shape(rows: int, image_size: int, patches: int) -> Shape:
    """The static shape of `rows` rows of conversations."""
    return Shape(rows, ROW_TOKENS, round(IMAGES_A_ROW * rows), image_size, patches)


@dataclasses.dataclass(frozen=True)
class ConversationBatches:
    """`batches(i)` is batch i: conversations packed into rows, a pure function of (seed, i).

    Attributes:
      draw: a conversation, from a generator of its own.
      letter_weight: loss weight of letters, Yes and No: one token is all the signal of a question.
      accumulate: micro-batches a step; with more than one, every field has them as leading axis.
    """

    draw: Callable[[np.random.Generator], list[Prompt]]
    chat: Chat
    shape: Shape
    pad_token_id: int
    seed: int
    letter_weight: float = 3.0
    accumulate: int = 1

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        first = i * self.accumulate
        return stacked([self._micro(first + n) for n in range(self.accumulate)])

    def _micro(self, i: int) -> dict[str, np.ndarray]:
        rng = philox("conversations", self.seed, i)
        rows: list[list[Encoded]] = [[] for _ in range(self.shape.rows)]
        left = [self.shape.length] * self.shape.rows
        room = self.shape.images
        tries = misses = 0
        while misses < MISSES:
            example = self.chat.encode(self.draw(rng))
            if len(example.tokens) > self.shape.length:
                tries += 1  # drawn again: long captions with long questions
                if tries > REDRAWS * self.shape.rows:
                    raise ValueError(
                        f"batch {i}: {tries} conversations, the last of {len(example.tokens)} "
                        f"tokens, do not fit a row of {self.shape.length} tokens; make rows longer"
                    )
                continue
            row = next((n for n, free in enumerate(left) if free >= len(example.tokens)), None)
            if row is None or len(example.images) > room:
                misses += 1
                continue
            misses = 0
            rows[row].append(example)
            left[row] -= len(example.tokens)
            room -= len(example.images)
        batch = collate(
            rows,
            self.shape,
            pad_token_id=self.pad_token_id,
        )
        short = [self.chat.candidate(text, end=False)[0] for text in (*LETTERS, "Yes", "No")]
        weights = batch["loss_weights"]
        weights[np.isin(batch["targets"], short) & (weights > 0)] = self.letter_weight
        return batch


def vocabulary(scenes: Mapping[str, Scene] | Sequence[Scene], seed: int = 0) -> list[str]:
    """Texts that the world's captions and questions are made of, to train a tokenizer on."""
    scenes = list(scenes.values()) if isinstance(scenes, Mapping) else list(scenes)
    texts = 100 * [
        *words.FIND,
        *words.SAY,
        *SPOT,
        *IS_SPOTTED,
        *"12345",
        "1 + 1?",
        YES_NO_INSTRUCTION,
        "Which is",
    ]
    for scene in scenes:
        rng = philox("vocabulary", seed, scene.video_id)
        texts += questions.caption(scene, rng)
        texts += differences.vocabulary(scene)
        for task in questions.tasks(scene):
            prompt = scene_prompt(questions.scene_question(scene, task, rng), ())
            texts += [value for kind, value in prompt.parts if kind == "text"]
    return texts
