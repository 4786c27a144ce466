"""Needle in a haystack: what answers come to, by length and depth; the table on screen."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vjax import console
from vjax.data.needles import Needle
from vjax.evals.findings import verdict
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
        lengths and depths in order; tokens, the most of each length; cells, one for each length and
        depth, and controls, one for each length, of n, right, accuracy, low, high (Wilson), chance,
        accuracy_parsed and parsed (share that could be parsed) of the texts; found and control, the
        same of all cells and of all controls, low and high over needles (a bootstrap, since one
        needle is asked about in every cell); needles, {id: n, right}, the control left out.

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
    return {
        "lengths": lengths,
        "depths": depths,
        "tokens": [max(one.tokens for one in answers if one.length == n) for n in lengths],
        "cells": [
            {"length": n, "depth": depth} | _share(by_cell[n, depth])
            for n in lengths
            for depth in depths
        ],
        "controls": [{"length": n} | _share(by_cell[n, None]) for n in lengths],
        "found": _over_needles(found, samples),
        "control": _over_needles(control, samples),
        "needles": {
            name: {"n": len(some), "right": sum(one.right for one in some)}
            for name in dict.fromkeys(one.needle for one in found)
            for some in [[one for one in found if one.needle == name]]
        },
    }


def _share(answers: Sequence[Answer]) -> dict:
    n, right = len(answers), sum(one.right for one in answers)
    low, high = wilson(right, n)
    return {
        "n": n,
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
    """The longest haystack in which every depth is clear of chance, shorter ones too; 0 = none."""
    longest = 0
    for length in results["lengths"]:
        if any(verdict(c) != "above" for c in results["cells"] if c["length"] == length):
            break
        longest = length
    return longest


def sentences(results: Mapping) -> list[str]:
    """What was found, and how far."""
    found, control, lengths = results["found"], results["control"], results["lengths"]
    said = [
        f"{found['right']} of {found['n']} questions were answered right ({found['accuracy']:.1%}, "
        f"{found['low']:.1%} to {found['high']:.1%} over needles), {_guess(found)}; "
        f"{control['accuracy']:.1%} of {control['n']} where the needle was left out."
    ]
    far = reach(results)
    if far == lengths[-1]:
        said.append(f"Every depth is clear of chance, up to {far:,} frames.")
    elif far:
        at = lengths[lengths.index(far) + 1]
        said.append(f"Every depth is clear of chance up to {far:,} frames, and not at {at:,}.")
    else:
        said.append(f"Already at {lengths[0]:,} frames some depth is not clear of chance.")
    return said


def _guess(row: Mapping) -> str:
    return f"chance {row['chance']:.1%}" if row["chance"] else "any text may be the answer"


def warnings(results: Mapping) -> list[str]:
    """What a reader must know before believing the numbers, the gravest first."""
    said = []
    control, n = results["control"], results["cells"][0]["n"]
    if control["low"] > control["chance"] and control["chance"]:
        said.append(
            f"without the needle {control['accuracy']:.1%} are right (interval "
            f"{control['low']:.1%} to {control['high']:.1%}, chance {control['chance']:.1%}): "
            "questions give their answers away, or haystacks show them"
        )
    elif control["right"] and not control["chance"]:
        said.append(f"without the needle {control['accuracy']:.1%} are right all the same")
    if n < FEW:
        said.append(f"{n} answers a cell: its interval is wide (more needles or needle.haystacks)")
    if results["found"]["parsed"] < LOW_PARSED:
        said.append(
            f"{results['found']['parsed']:.0%} of the texts that were written name an answer"
        )
    return said


def table(results: Mapping) -> str:
    """Shares right by depth and length. `*`: the interval is clear of chance."""
    rows = [
        (f"{depth:.0%}", *(_starred(cell) for cell in results["cells"] if cell["depth"] == depth))
        for depth in results["depths"]
    ]
    rows.append(("no needle", *map(_starred, results["controls"])))
    heads = (f"{n} frames" for n in results["lengths"])
    note = f"* 95 % interval of {results['cells'][0]['n']} answers clear of chance"
    return console.table(("depth", *heads), rows) + f"\n{note} ({_guess(results['found'])})"


def _starred(row: Mapping) -> str:
    return f"{row['accuracy']:.3f}{'*' if verdict(row) == 'above' else ' '}"


def markdown(results: Mapping, command: str) -> str:
    """A page for docs/results, beside the picture needle.svg."""
    lines = [
        "# Needle in a haystack",
        "",
        "Made by",
        "",
        *(f"    {line}" for line in command.splitlines()),
        "",
        "![Share of right answers by length and depth](needle.svg)",
        "",
        *(line for sentence in sentences(results) for line in (sentence, "")),
        "```",
        table(results),
        "```",
        "",
        *(f"- {warning}" for warning in warnings(results)),
    ]
    return "\n".join(lines).rstrip() + "\n"
