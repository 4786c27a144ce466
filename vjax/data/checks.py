"""What holds for every batch, told from its arrays alone."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

NUMBERED = "segments are numbered from 1, padding comes last"
RESTARTED = "positions count from 0 in every segment"
SHIFTED = "targets are the tokens, shifted by one inside each segment"
MASKED = "no loss on picture tokens, on padding or across segments"
LEARNT = "every segment has a token to learn"
POINTED = "picture tokens, and they alone, point at pictures"
OWN = "rows point at their own pictures"
ONCE = "every picture shown is there once, whole and in order"
BLANK = "slots that no token points at are blank"
SHOWN = 3  # violations that are told of


class Segment(NamedTuple):
    """Tokens start:stop of a row."""

    row: int
    number: int
    start: int
    stop: int


def segments(segment_ids: np.ndarray) -> list[Segment]:
    """The segments of a batch in reading order, from int [B, T]; padding is none."""
    found = []
    for row, ids in enumerate(segment_ids):
        edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
        runs = zip(edges[:-1], edges[1:], strict=True)
        found += [Segment(row, int(ids[a]), a, b) for a, b in runs if ids[a]]
    return found


def slots(batch: Mapping[str, np.ndarray], patches: int) -> np.ndarray:
    """Which slot of the vision buffer each token shows, int [B, T]; -1 for none.

    The model's newline, one past the bank of vision tokens, is of no slot.
    """
    index = batch["vision_index"]
    inside = (index >= 0) & (index < len(batch["images"]) * patches)
    return np.where(inside, index // patches, -1)


def violations(
    batch: Mapping[str, np.ndarray],
    *,
    patches: int,
    placeholders: Iterable[int],
    newline: bool = False,
    row_images: int = 0,
    whole: bool = True,
) -> dict[str, list[str]]:
    """What violates each check, by its name: empty lists where all is well.

    Args:
      batch: a micro-batch, the batch dict of WORKSPACE.md.
      patches: P, vision tokens of a picture.
      placeholders: ids of the tokens that stand for vision tokens.
      newline: whether the model has a newline, one past the bank of vision tokens.
      row_images: slots of the vision buffer that belong to each row; 0 where rows share them all.
      whole: every picture is shown whole and once; a few families repeat frames.
    """
    ids, tokens, weights = batch["segment_ids"], batch["tokens"], batch["loss_weights"]
    index, slot = batch["vision_index"], slots(batch, patches)
    B, T = ids.shape
    at = np.arange(T)
    before = np.pad(ids[:, :-1], ((0, 0), (1, 0)))
    real, first = ids > 0, (ids > 0) & (ids != before)
    last = real & (ids != np.pad(ids[:, 1:], ((0, 0), (0, 1))))
    start = np.maximum.accumulate(np.where(first, at, 0), axis=1)
    picture = np.isin(tokens, [*placeholders]) & real

    numbered = (ids == before) | (ids == 0) | (ids == before + 1) & ((before > 0) | (at == 0))
    restarted = ~real | (batch["positions"] == at - start)
    if "rope_positions" in batch:
        restarted &= ~first | (batch["rope_positions"] == 0).all(axis=2)
    following = np.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    shifted = ~real | last | (batch["targets"] == following)
    picture_next = np.isin(batch["targets"], [*placeholders])
    masked = (weights == 0) | (weights > 0) & real & ~last & ~picture_next

    learnt = np.ones((B, T), bool)
    for row, _, a, b in segments(ids):
        learnt[row, a] = (weights[row, a:b] > 0).any()

    bank = len(batch["images"]) * patches
    pointed = (picture == (index >= 0)) & (index < bank + newline) & (index >= -1)
    own = np.ones((B, T), bool)
    if row_images:
        own = (slot < 0) | (slot // row_images == np.arange(B)[:, None])

    # as the bank is read: picture tokens one after another, newlines left out
    shown = slot >= 0
    used = index[shown]
    times = np.bincount(used, minlength=bank)
    present = (times.reshape(-1, patches) > 0).sum(axis=1)
    previous = np.concatenate([[-1], used])[:-1]
    once = np.ones((B, T), bool)
    once[shown] = (times[used] == 1) & (present[used // patches] == patches)
    once[shown] &= (used % patches == 0) | (used == previous + 1)
    once |= not whole

    def told(good: np.ndarray, *fields: str) -> list[str]:
        lines = [
            f"row {b}, token {t}, segment {ids[b, t]}: "
            + ", ".join(f"{name} {batch[name][b, t]}" for name in fields)
            for b, t in np.argwhere(~good).tolist()
        ]
        return brief(lines)

    stray = np.flatnonzero((present == 0) & batch["images"].any(axis=(1, 2, 3))).tolist()
    return {
        NUMBERED: told(numbered, "segment_ids"),
        RESTARTED: told(restarted, "positions", *{"rope_positions"} & set(batch)),
        SHIFTED: told(shifted, "tokens", "targets"),
        MASKED: told(masked, "loss_weights", "targets"),
        LEARNT: told(learnt, "loss_weights"),
        POINTED: told(pointed, "tokens", "vision_index"),
        **({OWN: told(own, "vision_index")} if row_images else {}),
        ONCE: told(once, "vision_index"),
        BLANK: brief([f"slot {n} holds a picture" for n in stray]),
    }


def brief(lines: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return lines[:SHOWN] + ([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
