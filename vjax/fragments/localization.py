"""Localization: at which position a view occurs, or a pasted patch is first or last visible."""

from __future__ import annotations

import numpy as np

from vjax.fragments.common import (
    WHOLE,
    Context,
    Draft,
    draw_jitter,
    finish,
    jittered,
    layout,
    shown_frames,
    start,
)
from vjax.fragments.difference import GRID, differences, motion_peaks
from vjax.fragments.record import Record
from vjax.fragments.sets import FragmentSet
from vjax.prompts import Prompt
from vjax.video.frames import Clip
from vjax.video.rng import philox

# A whole frame and a crop are asked for in the same words.
_VIEW = (
    "At which position does this view occur?",
    "Which frame shows this view?",
    "Where among the frames is this view?",
    "Find the position of this view.",
    "Which of the frames has this view?",
)
TEMPLATES = {
    "query-frame": _VIEW,
    "query-crop": _VIEW,
    "patch-first": (
        "In which frame is the noise patch first visible?",
        "Where does the noise patch first appear?",
        "Which is the first frame with the noise patch?",
        "Find the first frame with the noise patch.",
        "At which position does the noise patch appear first?",
    ),
    "patch-last": (
        "In which frame is the noise patch last visible?",
        "Where does the noise patch last appear?",
        "Which is the last frame with the noise patch?",
        "Find the last frame with the noise patch.",
        "At which position does the noise patch appear last?",
    ),
}
INSTRUCTION = "Answer with a number."
PATCH_SIDE = 1 / 6
PATCH_CELLS = 8
PEAKS = 8


def make(ctx: Context, set: FragmentSet, clip: Clip) -> Record:
    """Draws the item of one set: a view to be found, or else a patch in some of the frames."""
    draft = start(ctx, set, clip, "localization")
    if draft.rng.random() < 0.5:
        variant, position, edits, tags = _draw_view(draft)
    else:
        variant, position, edits, tags = _draw_patch(draft)
    positions = [str(p + 1) for p in range(len(set.rows))]
    return finish(
        draft,
        variant=variant,
        templates=TEMPLATES[variant],
        options=positions,
        candidates=positions,
        answer=positions[position],
        edits=edits,
        tags=tags,
    )


def _draw_view(draft: Draft) -> tuple[str, int, dict, list[str]]:
    """A uniform position and, with probability 1/2 each, its whole frame or a crop of it.

    A frame with no telling crop is asked for whole and tagged `no-crop`. Another frame is not
    tried: frames at the ends of a set have such crops more often, and positions are uniform.
    """
    rng = draft.rng
    position = int(rng.integers(len(draft.set.rows)))
    edits = {"position": position, "crop": list(WHOLE), "jitter": draw_jitter(rng)}
    if rng.random() < 0.5:
        return "query-frame", position, edits, []
    crop = find_crop(draft.ctx.grey(draft.set.rows), position, 2 * draft.ctx.cfg.tau)
    if crop is None:
        return "query-frame", position, edits, ["no-crop"]
    return "query-crop", position, edits | {"crop": crop}, []


def find_crop(grey: np.ndarray, position: int, apart: float) -> list[float] | None:
    """The crop of half the side around the strongest motion that tells a frame from all others.

    Args:
        grey: the set, float [M, h, h] in 0..255.
        position: the frame.
        apart: how far, of 1, the same crop of every other frame must be.

    Returns:
        left, top, right, bottom in parts of the side, or None when no crop around the `PEAKS`
        blocks that move most does.
    """
    half, h = GRID // 2, grey.shape[-1]
    others = [p for p in range(len(grey)) if p != position]
    tried = []
    for block in motion_peaks(grey, position)[:PEAKS]:
        top, left = (min(max(b - half // 2, 0), half) for b in block)
        if (top, left) in tried:
            continue
        tried.append((top, left))
        y0, y1, x0, x1 = (b * h // GRID for b in (top, top + half, left, left + half))
        # Half the side on half the grid: blocks as large, and noise as weak, as in a whole frame.
        if differences(grey[:, y0:y1, x0:x1], half)[position, others].min() >= apart:
            return [left / GRID, top / GRID, (left + half) / GRID, (top + half) / GRID]
    return None


def _draw_patch(draft: Draft) -> tuple[str, int, dict, list[str]]:
    """A patch in the frames first..last, and the question for one end of them, 1/2 each.

    The end asked for is uniform over the positions and the other end uniform over what it leaves.
    (Uniform over all pairs would make 1 the right answer to `first` 2 times in M + 1.)
    """
    rng, M = draft.rng, len(draft.set.rows)
    end = int(rng.integers(M))
    if rng.random() < 0.5:
        variant, first, last = "patch-first", end, int(rng.integers(end, M))
    else:
        variant, first, last = "patch-last", int(rng.integers(end + 1)), end
    return variant, end, {"patch": {"first": first, "last": last} | draw_patch(rng)}, []


def draw_patch(rng: np.random.Generator) -> dict:
    """Place (left, top, in parts of the side) and noise seed of a patch."""
    left, top = rng.uniform(0, 1 - PATCH_SIDE, 2).tolist()
    return {"left": left, "top": top, "noise": int(rng.integers(2**32))}


def paste(frame: np.ndarray, patch: dict) -> np.ndarray:
    """The frame with a square of random colours: 8 x 8 cells, so that it outlives downsizing."""
    S = frame.shape[0]
    side = round(S * PATCH_SIDE)
    left, top = (min(int(patch[name] * S), S - side) for name in ("left", "top"))
    cells = np.frombuffer(philox("patch", patch["noise"]).bytes(PATCH_CELLS**2 * 3), np.uint8)
    cells = cells.reshape(PATCH_CELLS, PATCH_CELLS, 3)
    cell_of = np.arange(side) * PATCH_CELLS // side
    frame = frame.copy()
    frame[top : top + side, left : left + side] = cells[cell_of[:, None], cell_of]
    return frame


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record; raises ValueError if `clip` is not the record's."""
    frames = shown_frames(record, clip)
    edits, query = record.edits, None
    if "patch" in edits:
        patch = edits["patch"]
        for position in range(patch["first"], patch["last"] + 1):
            frames[position] = paste(frames[position], patch)
    else:
        query = jittered(frames[edits["position"]], edits["jitter"], edits["crop"])
    question = TEMPLATES[record.variant][record.template]
    return layout(record, frames, question, INSTRUCTION, query)
