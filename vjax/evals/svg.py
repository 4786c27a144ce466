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


def heat_map(results: Mapping) -> str:
    """Share of right answers by length (across) and depth (down), the control below; its own style.

    A dot marks what is not clear of chance, or, of needles without choices, of the control.

    Args:
        results: what `needle.summarise` gives; `trained`, if not 0, are the frames of the longest
            rows of training, and a line.
    """
    lengths, depths = results["lengths"], results["depths"]
    w, h, left, top = max(44, min(92, 760 // len(lengths))), 40, 84, 46
    right, below = left + w * len(lengths), top + h * len(depths) + 12
    width, height = max(right + 24, 560), below + h + 98
    x_of = {length: left + w * n for n, length in enumerate(lengths)}
    y_of = {depth: top + h * n for n, depth in enumerate(depths)} | {None: below}
    parts = [
        f'<svg class="heat" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Share of right answers, '
        f'{len(lengths)} lengths by {len(depths)} depths">{_HEAT}'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    ]

    def text(x, y, said, kind="", more=""):
        parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}"{more}>{said}</text>')

    text(left - 10, top - 10, "depth", "side")
    for depth, y in y_of.items():
        said = "no needle" if depth is None else f"{depth:.0%}"
        text(left - 10, y + h / 2 + 4, said, "side")
    for cell in [*results["cells"], *results["controls"]]:
        depth, share = cell.get("depth"), cell["accuracy"]
        x, y = x_of[cell["length"]], y_of[depth]
        where = "no needle" if depth is None else f"depth {depth:.0%}"
        parts.append(
            f"<g><title>{cell['length']} frames, {where}: {cell['right']} of {cell['n']} right "
            f'({cell["low"]:.0%} to {cell["high"]:.0%})</title><rect x="{x + 1}" y="{y + 1}" '
            f'width="{w - 2}" height="{h - 2}" rx="2" fill="{_shade(share)}"/>'
        )
        text(x + w / 2, y + h / 2 + 5, f"{100 * share:.0f}", "pale" if share > 0.55 else "")
        if depth is not None and not cell["clear"]:
            parts.append(f'<circle cx="{x + w - 9}" cy="{y + 10}" r="3"/>')
        parts.append("</g>")
    text(left - 10, below + h + 18, "frames", "side")
    text(left - 10, below + h + 34, "tokens", "small side")
    for length, tokens in zip(lengths, results["tokens"], strict=True):
        text(x_of[length] + w / 2, below + h + 18, _short(length))
        text(x_of[length] + w / 2, below + h + 34, _short(tokens), "small")
    if trained := results.get("trained"):
        x = left + w * sum(length <= trained for length in lengths)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{top - 22}" y2="{below + h}"/>')
        anchor, shift = ("end", -6) if 2 * x > left + right else ("start", 6)
        said, more = f"trained on up to {trained} frames", f' style="text-anchor:{anchor}"'
        text(x + shift, top - 14, said, "small", more)
    y, scale, steps = height - 34, min(300, width - left - 30), 50
    text(left - 10, y + 9, "right", "small side")
    for n in range(steps):
        parts.append(
            f'<rect x="{left + n * scale / steps:g}" y="{y}" height="10" '
            f'width="{scale / steps + 0.5:g}" fill="{_shade(n / (steps - 1))}"/>'
        )
    for share in (0, 0.5, 1):
        text(left + share * scale, y + 24, f"{share:.0%}", "small")
    free = results["open"]
    x = left + results["control" if free else "found"]["accuracy" if free else "chance"] * scale
    parts.append(f'<line x1="{x:g}" x2="{x:g}" y1="{y - 4}" y2="{y + 14}"/>')
    text(x, y - 8, "no needle" if free else "chance", "small")
    x = left + scale + 26
    if not all(cell["clear"] for cell in results["cells"]):
        parts.append(f'<circle cx="{x}" cy="{y + 5}" r="3"/>')
        said = f"not clear of {'the control' if free else 'chance'}"
        text(x + 9, y + 9, said, "small", ' style="text-anchor:start"')
    return "".join([*parts, "</svg>"])


# in the drawing, so that it can be a file of its own
_HEAT = (
    "<style>.heat text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;"
    "text-anchor:middle;fill:#22262b}.heat .pale{fill:#fff}.heat .side{text-anchor:end;"
    "fill:#6a727c}.heat .small{font-size:11px;fill:#6a727c}.heat line{stroke:#d9730d;"
    "stroke-width:2;stroke-dasharray:3 2}.heat circle{fill:#d9730d;stroke:#fff}</style>"
)
_LOW, _HIGH = np.array([232, 237, 243]), np.array([31, 84, 148])


def _shade(share: float) -> str:
    """The colour of a share, 0 to 1."""
    return "#" + "".join(f"{round(value):02x}" for value in _LOW + share * (_HIGH - _LOW))


def _short(count: int) -> str:
    """12, 1.2K, 1M."""
    for size, unit in ((1_000_000, "M"), (1000, "K")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


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
