"""Disorder: does the order of the frames need adjusting."""

from __future__ import annotations

from vjax.fragments.common import (
    Context,
    draw_order,
    finish,
    layout,
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
        "Does the order of the frames need adjusting?",
        "Are the frames out of order?",
        "Is the order of the frames wrong?",
        "Should the frames be put in another order?",
        "Do the frames need another order?",
    )
}
INSTRUCTION = "Answer yes or no."


def make(ctx: Context, set: FragmentSet, clip: Clip) -> Record:
    """Draws the item of one set: half of them in a wrong order, uniform among all."""
    draft = start(ctx, set, clip, "disorder")
    M = len(set.rows)
    wrong = bool(draft.rng.random() < 0.5)
    shown = draw_order(draft.rng, M) if wrong else tuple(range(M))
    return finish(
        draft,
        templates=TEMPLATES[""],
        options=("Yes", "No"),
        candidates=("Yes", "No"),
        answer="Yes" if wrong else "No",
        shown=shown,
        permutes=True,
        tags=reversal_tag(shown),
    )


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record; raises ValueError if `clip` is not the record's."""
    question = TEMPLATES[record.variant][record.template]
    return layout(record, shown_frames(record, clip), question, INSTRUCTION)
