"""The five tasks and the two calls everything else needs: `make_records` and `render`."""

from __future__ import annotations

from types import ModuleType

from vjax.fragments import consistency, counting, disorder, localization, rearrangement
from vjax.fragments.common import Context
from vjax.fragments.config import FragmentConfig
from vjax.fragments.difference import Grey
from vjax.fragments.record import Record
from vjax.fragments.sets import Drop, draw_sets
from vjax.prompts import Prompt
from vjax.video.frames import Clip

# A task is a module with TEMPLATES, INSTRUCTION, make(ctx, set, clip) and render(record, clip).
TASKS: dict[str, ModuleType] = {
    "counting": counting,
    "consistency": consistency,
    "localization": localization,
    "disorder": disorder,
    "rearrangement": rearrangement,
}


def make_records(
    clip: Clip, cfg: FragmentConfig, epoch: int = 0
) -> tuple[list[Record], Drop | None]:
    """Every item of one clip: one of each task for each of its sets, set by set.

    A pure function of (cfg, epoch, clip): the order in which clips come does not matter.

    Returns:
        The records and None, or no records and why the clip was dropped; the caller counts and
        lists drops.
    """
    grey = Grey(clip.frames, cfg.model_size)
    sets = draw_sets(clip, cfg, epoch=epoch, grey=grey)
    if isinstance(sets, Drop):
        return [], sets
    ctx = Context(cfg, epoch, grey)
    return [task.make(ctx, set, clip) for set in sets for task in TASKS.values()], None


def render(record: Record, clip: Clip) -> Prompt:
    """The prompt of a record, the same to the bit every time.

    Raises:
        ValueError: a task this version does not have, or a clip that is not the record's.
    """
    if record.task not in TASKS:
        raise ValueError(f"{record.id}: task {record.task!r} is none of {', '.join(TASKS)}")
    return TASKS[record.task].render(record, clip)
