"""What the five tasks share: keyed draws, permutations, jitter, and the layout of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from PIL import Image

from vjax.fragments.config import FragmentConfig
from vjax.fragments.difference import Grey
from vjax.fragments.record import LETTERS, SCHEMA, Record
from vjax.fragments.sets import FragmentSet
from vjax.prompts import Prompt
from vjax.video.frames import Clip
from vjax.video.rng import philox

WHOLE = (0.0, 0.0, 1.0, 1.0)
MCQ_INSTRUCTION = "Answer with the letter."


@dataclass(frozen=True)
class Context:
    """What every item of one clip is made with."""

    cfg: FragmentConfig
    epoch: int
    grey: Grey


@dataclass
class Draft:
    """One item as its task fills it in, from `start` to `finish`.

    `rng` is keyed by (seed, epoch, video id, set, task, attempt) and nothing else.
    """

    ctx: Context
    set: FragmentSet
    clip: Clip
    task: str
    rng: np.random.Generator
    mcq: bool


def start(ctx: Context, set: FragmentSet, clip: Clip, task: str) -> Draft:
    """Opens an item: its stream of random numbers and its form."""
    key = (ctx.cfg.seed, ctx.epoch, clip.table.video_id, set.number, task, set.attempt)
    rng = philox(*key)
    return Draft(ctx, set, clip, task, rng, mcq=bool(rng.random() < ctx.cfg.mcq_share))


def finish(
    draft: Draft,
    *,
    templates: Sequence[str],
    options: Sequence[str],
    candidates: Sequence[str],
    answer: str,
    variant: str = "",
    shown: Sequence[int] | None = None,
    permutes: bool = False,
    edits: dict | None = None,
    tags: Sequence[str] = (),
) -> Record:
    """Closes an item.

    Args:
        templates: paraphrases to draw one of.
        options: texts of the multiple-choice form, put in a drawn order under letters.
        candidates: texts of the short form.
        answer: text of the right answer, one of both.
        shown: positions of the set in the order shown; all of them in true order if None.
        permutes: the task is about order, so `permutation` is filled.
    """
    clip, set, cfg, rng = draft.clip, draft.set, draft.ctx.cfg, draft.rng
    shown = list(range(len(set.rows))) if shown is None else [int(p) for p in shown]
    if draft.mcq:
        options = [options[i] for i in rng.permutation(len(options))]
        answer = LETTERS[options.index(answer)]
        candidates = LETTERS[: len(options)]
    else:
        options = []
    rows = list(set.rows)
    video_id = clip.table.video_id
    return Record(
        schema=SCHEMA,
        id=f"{video_id}/{set.number}/{draft.task}/{draft.ctx.epoch}",
        task=draft.task,
        variant=variant,
        form="mcq" if draft.mcq else "short",
        template=int(rng.integers(len(templates))),
        video_id=video_id,
        content_hash=clip.table.content_hash,
        group=clip.group,
        window=[ms / 1000 for ms in clip.table.window] if clip.table.window else None,
        set=set.number,
        M=len(rows),
        epoch=draft.ctx.epoch,
        attempt=set.attempt,
        index=clip.table.index[rows].tolist(),
        time=clip.table.time[rows].tolist(),
        shown=shown,
        permutation=shown if permutes else None,
        options=options,
        candidates=list(candidates),
        answer=answer,
        chance=1 / len(candidates),
        edits=edits or {},
        tags=[*tags, *(["fallback"] if set.fallback else [])],
        sampler=cfg.sampler,
        power=cfg.power,
        tau=cfg.tau,
        seed=cfg.seed,
    )


def lettered(options: Sequence[str]) -> str:
    """The options, a line each under its letter; a line break comes before each."""
    letters = LETTERS[: len(options)]
    return "".join(f"\n{a}. {text}" for a, text in zip(letters, options, strict=True))


def layout(
    record: Record,
    frames: Sequence[np.ndarray],
    question: str,
    short_instruction: str,
    query: np.ndarray | None = None,
) -> Prompt:
    """The question as it is asked: frames, question, query image, options, how to answer.

    No index, time, duration or count is written anywhere but in options.
    """
    parts: list[tuple[str, int | str]] = [("frame", i) for i in range(len(frames))]
    parts.append(("text", question))
    if query is not None:
        parts.append(("image", len(frames)))
        frames = [*frames, query]
    if record.form == "mcq":
        parts.append(("text", lettered(record.options)))
    instruction = MCQ_INSTRUCTION if record.form == "mcq" else short_instruction
    parts.append(("text", "\n" + instruction))
    return Prompt(
        tuple(parts), tuple(frames), record.answer, tuple(record.candidates), tuple(record.options)
    )


def shown_frames(record: Record, clip: Clip) -> list[np.ndarray]:
    """The frames in the order shown, uint8 [S, S, 3], views of the clip.

    Raises:
        ValueError: the clip is not the one the record was made from.
    """
    table = clip.table
    if (table.video_id, table.content_hash) != (record.video_id, record.content_hash):
        raise ValueError(
            f"{record.id}: made from {record.video_id} with content {record.content_hash}, but the "
            f"clip is {table.video_id} with content {table.content_hash}; make the records anew"
        )
    row_of = {int(index): row for row, index in enumerate(table.index)}
    missing = [index for index in record.index if index not in row_of]
    if missing:
        raise ValueError(
            f"{record.id}: source frames {missing} are not among the {len(row_of)} frames kept of "
            f"{table.path}; make the records anew"
        )
    return [clip.frames[row_of[record.index[position]]] for position in record.shown]


# Orders of M frames. An order is a tuple of positions; its answer counts from 1.


@lru_cache
def orders(M: int) -> tuple[tuple[int, ...], ...]:
    """All M! - 1 orders of M frames but the true one."""
    return tuple(permutations(range(M)))[1:]


def draw_order(rng: np.random.Generator, M: int) -> tuple[int, ...]:
    """One of `orders(M)`, uniform."""
    return orders(M)[rng.integers(len(orders(M)))]


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The inverse permutation: where each of the positions 0..M-1 stands in `order`."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def reversal_tag(order: Sequence[int]) -> list[str]:
    """["reversal"] if the order is the exact reverse of the true one, which is reported apart."""
    return ["reversal"] if list(order) == list(range(len(order)))[::-1] else []


# Jitter: brightness and contrast within 15 %, a crop of at least 85 % of the area; never a flip.


def draw_jitter(rng: np.random.Generator) -> dict:
    """Parameters of one jitter; `box` is left, top, right, bottom in parts of the side."""
    brightness, contrast = rng.uniform(0.85, 1.15, 2).tolist()
    side = float(np.sqrt(rng.uniform(0.85, 1)))
    left, top = rng.uniform(0, 1 - side, 2).tolist()
    box = [left, top, left + side, top + side]
    return {"brightness": brightness, "contrast": contrast, "box": box}


def jittered(frame: np.ndarray, jitter: dict, crop: Sequence[float] = WHOLE) -> np.ndarray:
    """Cuts, resizes and recolours: uint8 [S, S, 3] -> uint8 [S, S, 3].

    Args:
        frame: RGB.
        jitter: what `draw_jitter` gave; its box is inside `crop`.
        crop: left, top, right, bottom in parts of the frame's side.
    """
    S = frame.shape[0]
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    left, top, right, bottom = jitter["box"]
    box = (
        S * (crop[0] + left * width),
        S * (crop[1] + top * height),
        S * min(crop[0] + right * width, 1.0),
        S * min(crop[1] + bottom * height, 1.0),
    )
    image = Image.fromarray(frame).resize((S, S), Image.Resampling.BICUBIC, box=box)
    luma = np.asarray(image.convert("L"))
    # One look-up table does both, in float64 from an integer mean: the same bits on every machine.
    mean = jitter["brightness"] * int(luma.sum(dtype=np.int64)) / luma.size
    level = np.arange(256) * jitter["brightness"]
    table = np.rint((level - mean) * jitter["contrast"] + mean).clip(0, 255).astype(np.uint8)
    return table[np.asarray(image)]
