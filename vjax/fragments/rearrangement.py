"""Rearrangement: the order in time of shuffled frames, as positions shown, earliest first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vjax.fragments.common import (
    Context,
    draw_order,
    finish,
    inverse,
    layout,
    orders,
    reversal_tag,
    shown_frames,
    start,
)
from vjax.fragments.record import Record
from vjax.fragments.sets import FragmentSet
from vjax.prompts import Prompt
from vjax.video.frames import Clip

TEMPLATES = {
    "": (
        "What is the order in time, earliest position first?",
        "Put the positions in time order, earliest first.",
        "Sort the positions shown from earliest to latest.",
        "List the positions in time, earliest first.",
        "In which order were these positions taken, earliest first?",
    )
}
INSTRUCTION = "Answer with numbers and commas."
OPTIONS = 4


def answer_text(order: Sequence[int]) -> str:
    """Positions counted from 1: (1, 2, 0) is `2,3,1`."""
    return ",".join(str(position + 1) for position in order)


def make(ctx: Context, set: FragmentSet, clip: Clip) -> Record:
    """Draws the item of one set, shown in a wrong order, uniform among all of them.

    The answer is the inverse of the order shown: a < b < c shown as (c, a, b), which are positions
    (2, 0, 1) of the set, is `2,3,1`.
    """
    draft = start(ctx, set, clip, "rearrangement")
    M = len(set.rows)
    shown = draw_order(draft.rng, M)
    answer = inverse(shown)
    wrong = draw_wrong(draft.rng, answer) if draft.mcq else ()
    return finish(
        draft,
        templates=TEMPLATES[""],
        options=[answer_text(order) for order in (answer, *wrong)],
        candidates=_texts(M),
        answer=answer_text(answer),
        shown=shown,
        permutes=True,
        tags=reversal_tag(shown),
    )


@lru_cache
def _texts(M: int) -> tuple[str, ...]:
    return tuple(answer_text(order) for order in orders(M))


def draw_wrong(rng: np.random.Generator, answer: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Three wrong orders, the inverse of the answer among them where it differs from the answer.

    The four options must not give the answer away (our choice): an answer beside its inverse and
    two unrelated orders would be known to be one of that pair. So an answer that differs from its
    inverse stands beside another such pair, and one that is its own inverse beside three of its
    kind: then all four are equally likely by their texts. M = 3 has one pair and three of the other
    kind, which allows no exact balance; showing all three of them with probability 1/3 is as near
    as can be (0.267 by the texts alone).
    """
    M, other = len(answer), inverse(answer)
    own, pairs = _kinds(M)
    own = [order for order in own if order != answer]
    if other != answer and M == 3:
        return [other, *_draw(rng, own, 2)]
    if other != answer:
        rest = [pair for pair in pairs if answer not in pair]
        return [other, *_draw(rng, rest, 1)[0]]
    if M > 3:
        return _draw(rng, own, OPTIONS - 1)
    if rng.random() < 1 / 3:
        return [*own, *_draw(rng, pairs[0], 1)]
    return [*_draw(rng, own, 1), *pairs[0]]


@lru_cache
def _kinds(M: int) -> tuple[list, list]:
    """The orders of M frames that are their own inverse, and the others in pairs of inverses."""
    own = [order for order in orders(M) if order == inverse(order)]
    return own, [(order, inverse(order)) for order in orders(M) if order < inverse(order)]


def _draw(rng: np.random.Generator, values: Sequence, n: int) -> list:
    return [values[i] for i in rng.choice(len(values), n, replace=False)]


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record; raises ValueError if `clip` is not the record's."""
    question = TEMPLATES[record.variant][record.template]
    return layout(record, shown_frames(record, clip), question, INSTRUCTION)
