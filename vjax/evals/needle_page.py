"""needle.html: a needle in a haystack by length and depth, one page without outside resources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from vjax.evals import needle, svg
from vjax.evals.files import write_text
from vjax.evals.page import data_uri, environment
from vjax.prompts import Prompt

SIDE = 208  # pixels of a picture, which the page shows at half of that
AROUND = 4  # frames shown on either side of the needle in the example
MOST = 100  # needles shown
# how answers are judged: of needles with choices, of some with and some without, of others
JUDGED = (", by likelihood", ", by likelihood where there are choices", "")


def write_page(
    path: str | Path,
    results: Mapping,
    *,
    title: str,
    pictures: Mapping[str, np.ndarray],
    example: Prompt,
    place: int,
    said: needle.Answer,
):
    """Writes the page in one step.

    Args:
        results: content of needle.json.
        pictures: uint8 [H, W, 3] of each needle, by id.
        example: a question that was asked, its needle the picture number `place`.
        said: the answer to it.
    """
    last = len(example.images) - 1
    first = max(0, min(place - AROUND, last - 2 * AROUND))
    film = [
        {
            "uri": data_uri(example.images[n], SIDE),
            "label": "needle" if n == place else f"picture {n + 1}",
            "needle": n == place,
        }
        for n in range(first, min(last, first + 2 * AROUND) + 1)
    ]
    shown = list(results["needles"].items())[:MOST]
    cards = [{"id": name, "uri": data_uri(pictures[name], SIDE), **of} for name, of in shown]
    page = environment().get_template("needle.jinja")
    text = page.render(
        title=title,
        results=results,
        sentences=needle.sentences(results),
        warnings=needle.warnings(results),
        heat=Markup(svg.heat_map(results)),
        judged=JUDGED[min(results["open"], 1) + (results["open"] == len(results["needles"]))],
        level=needle.level(results),
        film=film,
        pictures=last + 1,
        question="".join(value for kind, value in example.parts if kind == "text"),
        said=said,
        cards=cards,
        omitted=len(results["needles"]) - len(cards),
        settings=json.dumps(results["config"], indent=2, ensure_ascii=False),
    )
    write_text(path, text)
