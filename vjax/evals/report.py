"""report.html: one page without scripts or outside resources that shows what a run did."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from vjax.evals import findings, svg
from vjax.evals.files import write_text
from vjax.evals.items import ItemResult
from vjax.evals.page import MAX_BYTES, data_uri, environment
from vjax.evals.summary import p_text
from vjax.prompts import Prompt

MAX_SIDE = 224  # pixels; larger pictures are made smaller


@dataclass(frozen=True, eq=False)
class Strip:
    """One question as people see it.

    Attributes:
        suite, task: what it is from.
        images: uint8 [H, W, 3] RGB each, in reading order.
        queries: positions in `images` that are query pictures; the others are frames of the set.
        question: text of the prompt, options included.
        answer: the right answer.
        before, after: likelihood answers of the two models.
        showable: False where the clip's licence does not allow it to be published.
        source: clip and licence, as a caption.
    """

    suite: str
    task: str
    images: Sequence[np.ndarray]
    queries: Sequence[int]
    question: str
    answer: str
    before: str
    after: str
    showable: bool
    source: str = ""


def make_strip(
    prompt: Prompt, before: ItemResult, after: ItemResult, *, showable: bool, source: str = ""
) -> Strip:
    """The strip of a prompt and what was answered to it before and after tuning."""

    def said(item: ItemResult, candidate: str) -> str:
        text = item.text(candidate)
        return f"{candidate}. {text}" if item.options else text

    pictures = [(kind, value) for kind, value in prompt.parts if kind != "text"]
    return Strip(
        suite=after.suite,
        task=after.task,
        images=[prompt.images[value] for _, value in pictures],
        queries=[i for i, (kind, _) in enumerate(pictures) if kind == "image"],
        question="".join(value for kind, value in prompt.parts if kind == "text"),
        answer=said(after, after.answer),
        before=said(before, before.likelihood),
        after=said(after, after.likelihood),
        showable=showable,
        source=source,
    )


def write_report(
    path: str | Path, results: Mapping, metrics: Sequence[Mapping], strips: Sequence[Strip]
) -> int:
    """Writes the page, under 3 MB, in one step.

    Args:
        results: content of results.json.
        metrics: rows of metrics.jsonl; those with `step` and `loss` are drawn.
        strips: questions to show, the most telling first: those for which there is no room left
            are counted on the page.

    Returns:
        How many strips are on it.

    Raises:
        ValueError: nothing was scored before tuning, or the page passes 3 MB without any strip.
    """
    if not results["before"]:
        raise ValueError(f"{path}: nothing was scored before tuning; score the base model too")
    curve = [(row["step"], row["loss"]) for row in metrics if {"step", "loss"} <= row.keys()]
    finite = [(step, loss) for step, loss in curve if loss is not None and math.isfinite(loss)]
    warnings = findings.warnings(results)
    if len(finite) < len(curve):
        warnings.insert(0, f"the loss was not finite at {len(curve) - len(finite)} logged steps")
    page = {
        "results": results,
        "name": _name(results["config"]),
        "sentences": findings.sentences(results),
        "warnings": warnings,
        "control": _control(results),
        "steps": max((row.get("step", 0) for row in metrics), default=0),
        "minutes": sum(results["seconds"].values()) / 60,
        "loss": Markup(svg.loss_curve(*zip(*finite, strict=True))) if len(finite) > 1 else None,
        "settings": json.dumps(results["config"], indent=2, ensure_ascii=False),
        "verdict": findings.verdict,
        "bars": lambda *rows: Markup(svg.bars(*rows)),
        "p_text": p_text,
    }
    template = environment().get_template("report.jinja")
    drawn: list[dict] = []
    # room for the note on strips left out
    left = MAX_BYTES - 1000 - len(template.render(page, strips=[], omitted=0).encode())
    if left < 0:
        raise ValueError(f"{path}: {-left} bytes over {MAX_BYTES}; is the config that large?")
    for strip in strips:
        view = _view(strip)
        left -= view["bytes"]
        if left < 0:
            break
        drawn.append(view)
    omitted = len(strips) - len(drawn)
    write_text(path, template.render(page, strips=drawn, omitted=omitted))
    return len(drawn)


def _name(config: Mapping) -> str:
    return "-".join(str(config[key]) for key in ("name", "preset") if config.get(key)) or "vjax"


def _control(results: Mapping) -> str | None:
    name = findings.control(results)
    return findings.CONTROLS[name][0] if name else None


def _view(strip: Strip) -> dict:
    """A strip as the template takes it; `bytes` is about what it adds to the page."""
    images = [
        {"uri": data_uri(image, MAX_SIDE), "query": position in strip.queries}
        for position, image in enumerate(strip.images)
    ]
    number = 0
    for image in images:
        number += not image["query"]
        image["label"] = "query" if image["query"] else str(number)
    text = (strip.question, strip.answer, strip.before, strip.after, strip.source)
    size = sum(len(html.escape(t).encode()) for t in text) + sum(len(i["uri"]) for i in images)
    return {"strip": strip, "images": images, "bytes": size + 200 * len(images) + 1500}
