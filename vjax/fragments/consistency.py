"""Consistency: were two frames taken at the same instant."""

from __future__ import annotations

from vjax.fragments.common import (
    Context,
    draw_jitter,
    finish,
    jittered,
    layout,
    shown_frames,
    start,
)
from vjax.fragments.record import Record
from vjax.fragments.sets import FragmentSet
from vjax.prompts import Prompt
from vjax.video.frames import Clip

TEMPLATES = {
    "": (
        "Were these frames taken at the same instant?",
        "Do these frames show the same instant?",
        "Are these frames from the same moment?",
        "Is it the same moment in each frame?",
        "Did the camera take these frames at the same moment?",
    )
}
INSTRUCTION = "Answer yes or no."


def make(ctx: Context, set: FragmentSet, clip: Clip) -> Record:
    """Draws the item of one set.

    Yes: one frame of the set twice. No: two of its frames, at least 2 tau apart, in either order.
    Both frames are jittered independently in both classes, so that equal pixels say nothing.
    """
    draft = start(ctx, set, clip, "consistency")
    rng = draft.rng
    same = bool(rng.random() < 0.5)
    if same:
        shown = [int(rng.integers(len(set.rows)))] * 2
    else:
        shown = rng.permutation(set.far[rng.integers(len(set.far))]).tolist()
    return finish(
        draft,
        templates=TEMPLATES[""],
        options=("Yes", "No"),
        candidates=("Yes", "No"),
        answer="Yes" if same else "No",
        shown=shown,
        edits={"jitter": [draw_jitter(rng), draw_jitter(rng)]},
    )


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record; raises ValueError if `clip` is not the record's."""
    frames = zip(shown_frames(record, clip), record.edits["jitter"], strict=True)
    question = TEMPLATES[record.variant][record.template]
    return layout(record, [jittered(f, jitter) for f, jitter in frames], question, INSTRUCTION)
