"""batch.html: one batch as a person sees it, drawn from the arrays that the step gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from vjax.data.checks import Segment, segments, slots
from vjax.evals import svg
from vjax.evals.files import write_text
from vjax.evals.page import MAX_BYTES, data_uri, environment

SIDES = (160, 112, 80, 56, 40, 24)  # of pictures in pixels: the largest that fits is taken
AXES = ("time", "height", "width")
Batch = Mapping[str, np.ndarray]
Decode = Callable[[list[int]], str]


class Row(NamedTuple):
    """What a row holds; `learnt` are its tokens with loss."""

    segments: int
    tokens: int
    pictures: int
    learnt: int


def count(batch: Batch, patches: int) -> list[Row]:
    """The rows of a micro-batch, padding left out."""
    slot, learnt = slots(batch, patches), _weights(batch) > 0
    found = [segment.row for segment in segments(batch["segment_ids"])]
    return [
        Row(found.count(b), int((ids > 0).sum()), len({*slot[b]} - {-1}), int(learnt[b].sum()))
        for b, ids in enumerate(batch["segment_ids"])
    ]


def write_page(
    path: str | Path,
    batches: Sequence[Batch],
    *,
    title: str,
    facts: Mapping[str, str],
    checks: Mapping[str, Sequence[str]],
    decode: Decode,
    patches: int,
    sources: Mapping[tuple[int, int, int], str],
) -> int:
    """Writes the page, under 3 MB, in one step; pictures are made smaller until it is.

    Args:
        batches: the micro-batches of a step, the batch dict of WORKSPACE.md each.
        facts: of the batch as a whole.
        checks: what violates each check.
        decode: token ids to text, special tokens included.
        patches: P, vision tokens of a picture.
        sources: where segments are from, by (micro-batch, row, segment number).

    Returns:
        Rows on the page; those for which there is no room are counted on it.
    """
    views = [view for m, batch in enumerate(batches) for view in _views(m, batch, patches, decode)]
    page = {
        "title": title,
        "facts": facts,
        "checks": checks,
        "fields": [(name, x.shape, x.dtype) for name, x in batches[0].items()],
        "several": len(batches) > 1,
        "overview": views,
        "sources": sources,
    }
    template = environment().get_template("batch.jinja")
    used = {(view["batch"], n) for view in views for part in view["parts"] for n in part["slots"]}
    for side in SIDES:
        uris = {(m, n): data_uri(batches[m]["images"][n], side) for m, n in used}
        text = template.render(page, rows=views, uris=uris)
        if len(text.encode()) < MAX_BYTES:
            break
    shown = len(views)
    while shown and len(text.encode()) >= MAX_BYTES:
        shown = shown * 3 // 4
        text = template.render(page, rows=views[:shown], uris=uris)
    write_text(path, text)
    return shown


def _weights(batch: Batch) -> np.ndarray:
    """Loss weight of each token as the one that is predicted, float [B, T]; 0 for a first one."""
    ids, weights = batch["segment_ids"], batch["loss_weights"]
    learnt = np.zeros_like(weights)
    inside = (ids[:, 1:] > 0) & (ids[:, 1:] == ids[:, :-1])
    learnt[:, 1:] = np.where(inside, weights[:, :-1], 0)
    return learnt


def _views(m: int, batch: Batch, patches: int, decode: Decode) -> list[dict]:
    """The rows of micro-batch m as the template takes them."""
    held = {**batch, "weights": _weights(batch), "slots": slots(batch, patches)}
    length = batch["tokens"].shape[1]
    views = []
    for b, row in enumerate(count(batch, patches)):
        found = [segment for segment in segments(batch["segment_ids"]) if segment.row == b]
        parts = [_part(held, segment, f"b{m}r{b}s{segment.number}", decode) for segment in found]
        bar = Markup(svg.row_bar(length, parts))
        views.append({"batch": m, "number": b, "item": int(batch["item"][b]), "row": row,
                      "full": row.tokens / length, "parts": parts, "bar": bar})  # fmt: skip
    return views


def _part(held: Batch, segment: Segment, name: str, decode: Decode) -> dict:
    """A segment as the template takes it, its tokens in runs of one kind."""
    row, number, start, stop = segment
    here = {field: held[field][row, start:stop] for field in
            ("tokens", "weights", "slots", "vision_index", "positions")}  # fmt: skip
    tokens, slot, weights = (here[field].tolist() for field in ("tokens", "slots", "weights"))
    kinds = np.where(here["vision_index"] >= 0, "picture", "text").tolist()
    alike = list(zip(kinds, slot, weights, strict=True))
    edges = [0, *(n for n in range(1, len(alike)) if alike[n] != alike[n - 1]), len(alike)]
    runs = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        kind, shown, weight = alike[a]
        if kind == "picture":
            tokens_of = f"{b - a} token{'s' if b - a > 1 else ''} of picture {shown}"
            text = f"[{tokens_of if shown >= 0 else 'newline'}]"
        else:
            kind = "learnt" if weight > 0 else "text"
            # as a part of the whole: some decoders drop a space where a text begins
            text = decode(tokens[:b])[len(decode(tokens[:a])) :]
        runs.append({"kind": kind, "start": start + a, "stop": start + b, "text": text,
                     "weight": weight})  # fmt: skip
    ranges = [("positions", here["positions"])]
    if "rope_positions" in held:
        ranges += zip(AXES, held["rope_positions"][row, start:stop].T, strict=True)
    return {
        "id": name,
        "number": number,
        "start": start,
        "stop": stop,
        "learnt": sum(weight > 0 for weight in weights),
        "ranges": [(field, int(x[0]), int(x[-1])) for field, x in ranges],
        "slots": [n for n in dict.fromkeys(slot) if n >= 0],
        "runs": runs,
    }
