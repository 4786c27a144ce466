"""One picture of a report, for a README: scores before and after, and a question of each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from vjax.evals.report import Strip

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

BEFORE, AFTER, CHANCE = "#b3bcc9", "#2b6cb0", "#d97706"


def write_picture(path: str | Path, results: Mapping, strips: Sequence[Strip], suite: str):
    """Draws a PNG.

    Args:
      results: content of results.json.
      strips: the first of each task of `suite` is drawn; those that may not be shown are left out.
      suite: whose scores and questions.
    """
    tasks = list(results["after"][suite])
    shown = {
        strip.task: strip for strip in reversed(strips) if strip.showable and strip.suite == suite
    }
    fig = plt.figure(figsize=(11, 1.15 * len(tasks) + 0.9), layout="constrained")
    bars, films = fig.subfigures(1, 2, width_ratios=(0.34, 0.66))
    _scores(bars, results, suite, tasks)
    axes = films.subplots(len(tasks), 1, squeeze=False)[:, 0]
    for axis, task in zip(axes, tasks, strict=True):
        axis.axis("off")
        if task in shown:
            _film(axis, shown[task])
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _scores(fig, results: Mapping, suite: str, tasks: Sequence[str]):
    axis = fig.subplots()
    for row, task in enumerate(tasks):
        for offset, colour, when in ((-0.19, BEFORE, "before"), (0.19, AFTER, "after")):
            score = results[when].get(suite, {}).get(task)
            if score is None:
                continue
            value = score["accuracy"]
            error = [[value - score["low"]], [score["high"] - value]]
            axis.barh(row + offset, value, 0.36, color=colour, xerr=error, ecolor="#444")
        chance = results["after"][suite][task]["chance"]
        axis.plot([chance, chance], [row - 0.42, row + 0.42], color=CHANCE, linestyle=":", lw=2)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_xlim(0, 1)
    axis.invert_yaxis()
    axis.set_title(f"{suite}: before, after, chance (dotted)", fontsize=9)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(left=False, labelsize=9)


def _film(axis, strip: Strip):
    """Frames side by side, a gap before query pictures, the question beside them."""
    side = strip.images[0].shape[0]
    gap = np.full((side, side // 12, 3), 255, np.uint8)
    wide = np.full((side, side // 3, 3), 255, np.uint8)
    parts = []
    for n, image in enumerate(strip.images):
        if parts:
            parts.append(wide if n in strip.queries else gap)
        parts.append(image)
    film = np.concatenate(parts, axis=1)
    axis.imshow(film)
    axis.set_xlim(0, 11 * side)
    text = (
        f"{strip.question}\nright: {strip.answer}   before: {strip.before}   after: {strip.after}"
    )
    axis.text(film.shape[1] + side / 4, side / 2, text, fontsize=6.5, va="center")
