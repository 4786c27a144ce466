"""Fragment batches: batch number to numpy arrays, by way of plan, prompt, tokens and packing."""

import dataclasses
from collections.abc import Callable

import numpy as np

from vjax.data.collate import Shape, collate, fingerprint, joined, stacked
from vjax.data.items import FragmentItem
from vjax.data.packing import pack
from vjax.data.plan import TrainPlan, deal
from vjax.data.rehearsal import Rehearsal
from vjax.prompts.chat import Chat, Encoded
from vjax.video.frames import Clip
from vjax.video.rng import philox, pick

ROW_TOKENS = 128
ROW_STEP, ROW_SPARE = 64, 16  # of longer rows: a multiple, with room for wordings yet to be drawn


def row_tokens(plan: TrainPlan) -> int:
    """Length of a row that holds any item of the plan."""
    longest = max(plan.length_of(i) for batch in plan.epoch(0).batches for i in batch if i)
    if longest <= ROW_TOKENS:
        return ROW_TOKENS
    return -(-(longest + ROW_SPARE) // ROW_STEP) * ROW_STEP


def with_rehearsal(shape: Shape, rehearsal: Rehearsal, count: int) -> Shape:
    """The shape that also holds `count` rehearsed examples, in rows of their own at worst."""
    if rehearsal.longest > shape.length:
        raise ValueError(
            f"a rehearsed example of {rehearsal.longest} tokens does not fit a row of "
            f"{shape.length}: fewer rehearsal.frames, or shorter questions"
        )
    rows = -(-count // (shape.length // rehearsal.longest))
    images = count * rehearsal.images
    return dataclasses.replace(shape, rows=shape.rows + rows, images=shape.images + images)


class Lengths:
    """Tokens of an item: of its wording, known from rendering one of a kind, and of its answer."""

    def __init__(self, chat: Chat, clip_of: Callable[[str], Clip]):
        self.chat, self.clip_of = chat, clip_of
        self.questions: dict[tuple, int] = {}
        self.answers: dict[str, int] = {}

    def __call__(self, item: FragmentItem) -> int:
        r = item.record
        kind = (r.task, r.variant, r.form, r.template, r.M, len(r.options))
        if kind not in self.questions:
            asked = self.chat.encode(item.prompt(self.clip_of), with_answer=False)
            self.questions[kind] = len(asked.tokens)
        if r.answer not in self.answers:
            self.answers[r.answer] = len(self.chat.candidate(r.answer))
        return self.questions[kind] + self.answers[r.answer]


@dataclasses.dataclass(frozen=True)
class FragmentBatches:
    """`batches(i)` is batch i of the plan, or a share of it: a pure function of i.

    Attributes:
      plan: which items.
      chat: prompts to tokens.
      shape: static shape of a block of a micro-batch.
      pad_token_id: of the model spec.
      accumulate: micro-batches a step; with more than one, every field has them as leading axis.
      shuffle_labels: the control that must not learn: answers are replaced by a random candidate.
      rehearsal: what the base model answered; `rehearsed` of these examples join a micro-batch.
      blocks, of: which blocks of a micro-batch, of how many; every process has its own.
    """

    plan: TrainPlan
    chat: Chat
    shape: Shape
    pad_token_id: int
    accumulate: int = 1
    shuffle_labels: bool = False
    rehearsal: Rehearsal | None = None
    rehearsed: int = 0
    blocks: tuple[int, ...] = (0,)
    of: int = 1

    @property
    def share(self) -> tuple[tuple[int, ...], int]:
        """As `vjax.data.device.put` takes it."""
        return self.blocks, self.of

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """Batch i; `plan`, uint8 [16], says what it is made of, the same in every share."""
        numbers = range(i * self.accumulate, (i + 1) * self.accumulate)
        batch = stacked([self._micro(n) for n in numbers])
        ids = [item and item.id for n in numbers for item in self.plan.batch(n)]
        return batch | {"plan": fingerprint(ids)}

    def _micro(self, i: int) -> dict[str, np.ndarray]:
        dealt = deal(self.plan.batch(i), self.of)
        rehearsed = []
        if self.rehearsal is not None:
            rng = philox("rehearsed", self.plan.cfg.seed, i)
            rehearsed = self.rehearsal.draw(rng, self.rehearsed)
        made = [self._block(i, dealt[n], rehearsed[n :: self.of]) for n in self.blocks]
        return joined(made, self.shape, self.blocks, self.of)

    def _block(self, i: int, items: list[tuple[int, FragmentItem]], rehearsed: list[Encoded]):
        encoded = [self.chat.encode(self._prompt(item)) for _, item in items] + rehearsed
        rows = pack([len(example.tokens) for example in encoded], self.shape.length)
        numbers = [i * self.plan.batch_size + n for n, _ in items] + [-1] * len(rehearsed)
        return collate(
            [[encoded[n] for n in row] for row in rows],
            self.shape,
            pad_token_id=self.pad_token_id,
            items=[numbers[row[0]] for row in rows],
        )

    def _prompt(self, item: FragmentItem):
        prompt = item.prompt(self.plan.clip_of)
        if self.shuffle_labels:
            rng = philox("shuffle_labels", self.plan.cfg.seed, item.id)
            answer = pick(rng, prompt.candidates)
            prompt = dataclasses.replace(prompt, answer=answer)
        return prompt
