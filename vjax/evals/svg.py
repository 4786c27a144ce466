"""The drawings of the pages as SVG text: made of numbers alone, so nothing needs escaping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

POINTS = 300  # more cannot be told apart at the width of the page


def loss_curve(steps: Sequence[int], loss: Sequence[float], width=860, height=240) -> str:
    """Loss over steps: every value (thinned to means of bins) pale, a running mean dark.

    Args:
        steps: [N], rising.
        loss: [N], finite, in nats per token.
    """
    x, y = _thin(np.asarray(steps, float)), _thin(np.asarray(loss, float))
    left, right, top, bottom = 46, width - 24, 12, height - 30
    x0, x1 = x[0], max(x[-1], x[0] + 1)
    y0, y1 = min(0.0, y.min()), y.max() * 1.05 or 1.0

    def px(value):
        return left + (value - x0) / (x1 - x0) * (right - left)

    def py(value):
        return bottom - (value - y0) / (y1 - y0) * (bottom - top)

    def line(ys, kind):
        points = " ".join(f"{px(a):.1f},{py(b):.1f}" for a, b in zip(x, ys, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    parts = [
        f'<svg class="loss" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Training loss from {y[0]:.3g} to {y[-1]:.3g}">'
    ]
    for tick in _ticks(y0, y1):
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{py(tick):.1f}" '
                     f'y2="{py(tick):.1f}"/><text x="{left - 8}" y="{py(tick) + 4:.1f}" '
                     f'text-anchor="end">{tick:g}</text>')  # fmt: skip
    for tick in _ticks(x0, x1):
        parts.append(f'<text x="{px(tick):.1f}" y="{bottom + 18}" text-anchor="middle">'
                     f"{tick:g}</text>")  # fmt: skip
    parts += [line(y, "pale"), line(_running_mean(y), "dark"), "</svg>"]
    return "".join(parts)


def bars(before: Mapping, after: Mapping, width=240, height=30) -> str:
    """Accuracy before (grey) and after (blue) on 0..1, interval whiskers, chance as a line.

    Args:
        before, after: rows of a summary.
    """

    def px(share):
        return f"{1 + share * (width - 2):.1f}"

    parts = [
        f'<svg class="bars" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="before {before["accuracy"]:.3f}, after {after["accuracy"]:.3f}, '
        f'chance {after["chance"]:.3f}">'
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{px(share)}" x2="{px(share)}" y1="0" y2="{height}"/>')
    for kind, row, y, h in (("before", before, 4, 8), ("after", after, 14, 12)):
        middle = y + h / 2
        parts.append(f'<rect class="{kind}" x="1" y="{y}" height="{h}" '
                     f'width="{row["accuracy"] * (width - 2):.1f}"/>'
                     f'<line class="whisker" x1="{px(row["low"])}" x2="{px(row["high"])}" '
                     f'y1="{middle}" y2="{middle}"/>')  # fmt: skip
    chance = px(after["chance"])
    parts.append(f'<line class="chance" x1="{chance}" x2="{chance}" y1="0" y2="{height}"/></svg>')
    return "".join(parts)


def row_bar(length: int, segments: Sequence[Mapping], height=34) -> str:
    """A row of a batch from its first token to its last: segments above, what they hold below.

    Args:
        length: tokens of the row; those of no segment are hatched.
        segments: number, start, stop and id (of what it links to) of each, and its runs: start,
            stop and kind, which is the class of the drawing.
    """

    def box(kind, start, stop, y, h):
        x, width = 100 * start / length, 100 * (stop - start) / length
        return (f'<rect class="{kind}" x="{x:.2f}%" y="{y}" width="{width:.2f}%" '
                f'height="{h}"/>')  # fmt: skip

    sizes = [one["stop"] - one["start"] for one in segments]
    parts = [
        f'<svg class="row" height="{height}" role="group" aria-label="{len(sizes)} segments, '
        f'{sum(sizes)} of {length} tokens">{box("padding", 0, length, 0, height)}'
    ]
    for one, size in zip(segments, sizes, strict=True):
        number, start, stop = one["number"], one["start"], one["stop"]
        parts.append(f'<a href="#{one["id"]}"><title>segment {number}: {size} tokens</title>'
                     + box("segment", start, stop, 0, height - 12))  # fmt: skip
        if size > 0.02 * length:
            parts.append(f'<text x="{50 * (start + stop) / length:.2f}%" y="15" '
                         f'text-anchor="middle">{number}</text>')  # fmt: skip
        parts.append("</a>")
        parts += [
            box(run["kind"], run["start"], run["stop"], height - 10, 10) for run in one["runs"]
        ]
    return "".join([*parts, "</svg>"])


def _thin(values: np.ndarray) -> np.ndarray:
    """Means of at most POINTS bins of equal length."""
    return np.array([part.mean() for part in np.array_split(values, min(POINTS, len(values)))])


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a centred window of a fifteenth of the curve, cut off at its ends."""
    half = len(values) // 30
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between low and high."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= rough)
    return [float(n * step) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
