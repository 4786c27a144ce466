"""Counting: how many frames are shown."""

from __future__ import annotations

from vjax.fragments.common import Context, finish, layout, shown_frames, start
from vjax.fragments.config import SET_SIZES
from vjax.fragments.record import Record
from vjax.fragments.sets import FragmentSet
from vjax.prompts import Prompt
from vjax.video.frames import Clip

TEMPLATES = {
    "": (
        "How many frames are shown?",
        "How many frames do you see?",
        "Count the frames.",
        "What is the number of frames?",
        "How many frames does this clip have?",
    )
}
INSTRUCTION = "Answer with a number."
NUMERALS = tuple(str(M) for M in SET_SIZES)


def make(ctx: Context, set: FragmentSet, clip: Clip) -> Record:
    """Draws the item of one set. The answer is M; options are 3, 4, 5 whatever M is."""
    return finish(
        start(ctx, set, clip, "counting"),
        templates=TEMPLATES[""],
        options=NUMERALS,
        candidates=NUMERALS,
        answer=str(len(set.rows)),
    )


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record; raises ValueError if `clip` is not the record's."""
    question = TEMPLATES[record.variant][record.template]
    return layout(record, shown_frames(record, clip), question, INSTRUCTION)
