"""Needle in a haystack: what answers come to, by length and depth; the table on screen."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vjax import console
from vjax.data.needles import Needle, place
from vjax.evals.parsing import strict
from vjax.evals.statistics import cluster_bootstrap, wilson
from vjax.prompts import Prompt

SCHEMA_VERSION = 1
FEW = 10  # answers of a cell, below which its interval is too wide to tell much
LOW_PARSED = 0.8


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was said to one question.

    Attributes:
        length: frames of the haystack; the needle comes on top of them.
        depth: of the needle, 0 to 1; None in the control, which shows the haystack alone.
        haystack: its number.
        needle: its id.
        tokens: of the question with its answer.
        key: of the prompt: two answers that share it are one, of a question that was asked once.
        answer: the right one, a text.
        chance: of a guess; 0 where any text may be the answer.
        scores: log-probability of each option or candidate; [] where there are none.
        said: the option or candidate of the highest score; without such, the answer if the text
            that was written names it, else None.
        generated: that text, end of turn removed.
        parsed: the option, candidate or answer that it names, or None.
    """

    length: int
    depth: float | None
    haystack: int
    needle: str
    tokens: int
    key: str
    answer: str
    chance: float
    scores: list[float]
    said: str | None
    generated: str
    parsed: str | None

    @property
    def right(self) -> bool:
        """The headline: by likelihood wherever there are choices."""
        return self.said == self.answer


def judge(
    needle: Needle,
    asked: Prompt,
    scores: Sequence[float],
    generated: str,
    *,
    length: int,
    depth: float | None,
    haystack: int,
    tokens: int,
    key: str,
) -> Answer:
    """Scores one answer.

    Args:
        asked: the prompt that it answers.
        scores: float [candidates of the prompt], log-probabilities in nats.

    Raises:
        ValueError: scores that are not one finite number for each candidate.
    """
    scores = [float(score) for score in scores]
    if len(scores) != len(asked.candidates) or not all(map(math.isfinite, scores)):
        raise ValueError(
            f"needle {needle.id!r}, {length} frames: scores {scores} for {asked.candidates}; "
            "did the model overflow?"
        )
    named = strict(generated, asked.candidates or (asked.answer,), asked.options)
    texts = dict(zip(asked.candidates, needle.options or needle.candidates, strict=True))
    parsed = texts.get(named, named)
    said = texts[asked.candidates[int(np.argmax(scores))]] if scores else parsed
    return Answer(
        length=length,
        depth=depth,
        haystack=haystack,
        needle=needle.id,
        tokens=tokens,
        key=key,
        answer=needle.answer,
        chance=needle.chance,
        scores=scores,
        said=said,
        generated=generated,
        parsed=parsed,
    )


def summarise(answers: Sequence[Answer], *, samples: int = 1000) -> dict:
    """What the answers come to.

    Returns:
        lengths and depths in order; tokens, the most of each length, and places, how many different
        ones its depths are; cells, one for each length and depth, and controls, one for each
        length, of n, prompts (different ones), right, accuracy, low, high (Wilson), chance, clear,
        accuracy_parsed and parsed (share that could be parsed) of the texts; found and control, the
        same but for clear of all cells and of all controls, low and high over needles (a bootstrap,
        since one needle is asked about in every cell); needles, {id: n, right}, the control left
        out; open, how many of them any text may answer; named, the share of the others' texts that
        name one of their choices, None without such.

    A cell is clear if its interval lies above chance and, where there are open needles, above the
    interval of the control of its length too: what a guess at any text is worth, only the control
    tells. A control is clear if it lies above chance, and never where there are open needles.

    Raises:
        ValueError: a cell or a control without the answers that another has.
    """
    lengths = sorted({one.length for one in answers})
    depths = sorted({one.depth for one in answers if one.depth is not None})
    by_cell: dict[tuple, list[Answer]] = {}
    for one in answers:
        by_cell.setdefault((one.length, one.depth), []).append(one)
    asked = {
        cell: Counter((one.needle, one.haystack) for one in by_cell.get(cell, ()))
        for cell in ((length, depth) for length in lengths for depth in (*depths, None))
    }
    if len({frozenset(some.items()) for some in asked.values()}) > 1:
        raise ValueError(f"cells hold {sorted({len(some) for some in asked.values()})} answers")
    found = [one for one in answers if one.depth is not None]
    control = [one for one in answers if one.depth is None]
    free = {one.needle for one in found if not one.chance}
    named = [one.parsed is not None for one in found if one.chance]
    controls = {n: _share(by_cell[n, None]) for n in lengths}
    cells = {cell: _share(some) for cell, some in by_cell.items() if cell[1] is not None}
    for (length, _), row in cells.items():
        least = max(row["chance"], controls[length]["high"] if free else 0.0)
        row["clear"] = row["low"] > least
    for row in controls.values():
        row["clear"] = not free and row["low"] > row["chance"]
    return {
        "lengths": lengths,
        "depths": depths,
        "tokens": [max(one.tokens for one in answers if one.length == n) for n in lengths],
        "places": [len({place(depth, n) for depth in depths}) for n in lengths],
        "cells": [
            {"length": n, "depth": depth} | cells[n, depth] for n in lengths for depth in depths
        ],
        "controls": [{"length": n} | controls[n] for n in lengths],
        "found": _over_needles(found, samples),
        "control": _over_needles(control, samples),
        "needles": {
            name: {"n": len(some), "right": sum(one.right for one in some)}
            for name in dict.fromkeys(one.needle for one in found)
            for some in [[one for one in found if one.needle == name]]
        },
        "open": len(free),
        "named": sum(named) / len(named) if named else None,
    }


def _share(answers: Sequence[Answer]) -> dict:
    n, right = len(answers), sum(one.right for one in answers)
    low, high = wilson(right, n)
    return {
        "n": n,
        "prompts": len({one.key for one in answers}),
        "right": right,
        "accuracy": right / n,
        "low": low,
        "high": high,
        "chance": math.fsum(one.chance for one in answers) / n,
        "accuracy_parsed": sum(one.parsed == one.answer for one in answers) / n,
        "parsed": sum(one.parsed is not None for one in answers) / n,
    }


def _over_needles(answers: Sequence[Answer], samples: int) -> dict:
    right = [one.right for one in answers]
    low, high = cluster_bootstrap(right, [one.needle for one in answers], samples=samples)
    return _share(answers) | {"low": low, "high": high}


def reach(results: Mapping) -> int:
    """The longest haystack in which every depth is clear, shorter ones too; 0 = none."""
    longest = 0
    for length in results["lengths"]:
        if not all(cell["clear"] for cell in results["cells"] if cell["length"] == length):
            break
        longest = length
    return longest


def level(results: Mapping) -> str:
    """What a cell has to be clear of, in words."""
    return "the control" if results["open"] else "chance"


def sentences(results: Mapping) -> list[str]:
    """What was found, and how far."""
    found, control, lengths = results["found"], results["control"], results["lengths"]
    said = [
        f"{found['right']} of {found['n']} questions{_different(found)} were answered right "
        f"({found['accuracy']:.1%}, {found['low']:.1%} to {found['high']:.1%} over needles), "
        f"{_guess(results)}; {control['accuracy']:.1%} of {control['n']}{_different(control)} "
        "where the needle was left out."
    ]
    far, clear = reach(results), f"clear of {level(results)}"
    if far == lengths[-1]:
        said.append(f"Every depth is {clear}, up to {console.many(far, 'frame')}.")
    elif far:
        at = lengths[lengths.index(far) + 1]
        said.append(
            f"Every depth is {clear} up to {console.many(far, 'frame')}, and not at {at:,}."
        )
    else:
        said.append(f"Already at {console.many(lengths[0], 'frame')} some depth is not {clear}.")
    return said


def _different(row: Mapping) -> str:
    """How many prompts the answers are to, where some share one."""
    return f" ({row['prompts']} different)" if row["prompts"] < row["n"] else ""


def _guess(results: Mapping) -> str:
    free, total = results["open"], len(results["needles"])
    if free == total:
        return "any text may be the answer"
    said = f"chance {results['found']['chance']:.1%}"
    return f"{said} (0 for the {free} of {total} needles without choices)" if free else said


def warnings(results: Mapping) -> list[str]:
    """What a reader must know before believing the numbers, the gravest first."""
    said = []
    control, n = results["control"], results["cells"][0]["n"]
    if not results["open"] and control["low"] > control["chance"]:
        said.append(
            f"without the needle {control['accuracy']:.1%} are right (interval "
            f"{control['low']:.1%} to {control['high']:.1%}, chance {control['chance']:.1%}): "
            "questions give their answers away, or haystacks show them"
        )
    elif results["open"] and control["accuracy"] > control["chance"]:
        said.append(f"without the needle {control['accuracy']:.1%} are right all the same")
    if n < FEW:
        some = f"{n} answers a cell" if n > 1 else "1 answer a cell"
        said.append(f"{some}: its interval is wide (more needles or needle.haystacks)")
    depths = len(results["depths"])
    for length, places in zip(results["lengths"], results["places"], strict=True):
        if places < depths:
            said.append(
                f"at {console.many(length, 'frame')} {depths} depths are "
                f"{console.many(places, 'place')}: depths of one place show the same answers"
            )
    if results["named"] is not None and results["named"] < LOW_PARSED:
        said.append(
            f"{1 - results['named']:.0%} of the texts that the model wrote name no choice, and "
            "count as wrong under 'greedy text' (right here means by likelihood)"
        )
    return said


def table(results: Mapping) -> str:
    """Shares right by depth and length. `*`: the interval is clear of `level`."""
    rows = [
        (f"{depth:.0%}", *(_starred(cell) for cell in results["cells"] if cell["depth"] == depth))
        for depth in results["depths"]
    ]
    rows.append(("no needle", *map(_starred, results["controls"])))
    heads = (console.many(n, "frame") for n in results["lengths"])
    note = (
        f"* 95 % interval of {console.many(results['cells'][0]['n'], 'answer')} clear of "
        f"{level(results)} ({_guess(results)})"
    )
    if results["open"]:
        note += "\n  that is above the interval of `no needle` at this length, and above chance"
    return console.table(("depth", *heads), rows) + f"\n{note}"


def _starred(row: Mapping) -> str:
    return f"{row['accuracy']:.3f}{'*' if row['clear'] else ' '}"


def markdown(results: Mapping, command: str) -> str:
    """A page for docs/results, beside the picture needle.svg."""
    lines = [
        "# Needle in a haystack",
        "",
        "Made by",
        "",
        *(f"    {line}" for line in command.splitlines()),
        "",
        f"Asked: {results['model']}.",
        "",
        "![Share of right answers by length and depth](needle.svg)",
        "",
        f"In the picture a dot marks a cell that is not clear of {level(results)}, in the table a "
        "`*` one that is.",
        "",
        *(line for sentence in sentences(results) for line in (sentence, "")),
        "```",
        table(results),
        "```",
        "",
        *(f"- {warning}" for warning in warnings(results)),
    ]
    return "\n".join(lines).rstrip() + "\n"
