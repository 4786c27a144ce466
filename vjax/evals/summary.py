"""From scored items to results.json and the one table on screen."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vjax import console
from vjax.evals.files import write_text
from vjax.evals.findings import sentences, verdict, warnings
from vjax.evals.items import ItemResult
from vjax.evals.statistics import cluster_bootstrap, paired, wilson

SCHEMA_VERSION = 1


def summarise(items: Sequence[ItemResult], *, samples: int = 1000, seed: int = 0) -> dict:
    """{suite: {task: row}} in the order in which suites and tasks first occur.

    A row holds: accuracy (likelihood), low, high (Wilson), cluster_low, cluster_high (bootstrap
    over source clips), accuracy_parsed and parsed (share that could be parsed) of the greedy text,
    chance (mean over items), majority (share of the commonest right answer by its text: what a
    constant answer would get), n, clips, and by_M, by_form, where there are any by_variant and
    by_reversal, each {name: {accuracy, low, high, chance, n}}.
    """
    return _each_task(items, lambda group: _row(group, samples, seed))


def compare(
    before: Sequence[ItemResult],
    after: Sequence[ItemResult],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """{suite: {task: {delta, p, low, high}}}: likelihood correctness, after less before.

    p is two-sided exact McNemar, the interval a bootstrap over source clips. Items are matched by
    suite and id; their order does not matter.

    Raises:
        ValueError: an item of one side that the other lacks or has twice, or with another answer.
    """
    was, now = _by_id(before, "before"), _by_id(after, "after")
    for one, other, side in ((was, now, "after"), (now, was, "before")):
        for key in one:
            if key not in other:
                raise ValueError(
                    f"{key[0]}, item {key[1]}: not scored {side} tuning; score the same items twice"
                )
    for key, item in now.items():
        if (item.task, item.label) != (was[key].task, was[key].label):
            raise ValueError(
                f"{key[0]}, item {key[1]}: {was[key].task} with answer {was[key].label!r} before, "
                f"{item.task} with {item.label!r} after; score the same items twice"
            )

    def change(group: list[ItemResult]) -> dict:
        old = [was[item.suite, item.id].correct for item in group]
        new = [item.correct for item in group]
        clips = [item.group for item in group]
        return dataclasses.asdict(paired(old, new, clips, samples=samples, seed=seed))

    return _each_task(after, change)


def results(
    before: Sequence[ItemResult],
    after: Sequence[ItemResult],
    *,
    dropped: Mapping,
    config: Mapping,
    versions: Mapping[str, str],
    seconds: Mapping[str, float],
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """The content of results.json.

    Args:
        before, after: the same items, scored before and after tuning; before may be empty.
        dropped: {what: {"n": dropped, "of": all, "reasons": {why: n}, "list": [which and why]}}.
        config: the run's config as nested dict.
        versions: {package: version}.
        seconds: {phase: wall seconds}, phases that do not overlap.
        samples, seed: of the bootstrap.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "before": summarise(before, samples=samples, seed=seed),
        "after": summarise(after, samples=samples, seed=seed),
        "paired": compare(before, after, samples=samples, seed=seed) if before else {},
        "dropped": dict(dropped),
        "config": dict(config),
        "versions": dict(versions),
        "seconds": dict(seconds),
    }


def write_results(path: str | Path, values: Mapping) -> None:
    """Writes results.json in one step. Raises ValueError for a number that JSON does not have."""
    try:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; a result is NaN or infinite") from error
    write_text(path, text + "\n")


def read_results(path: str | Path) -> dict:
    """Reads what `write_results` wrote. Raises ValueError naming the file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a results file ({error}); run --job=eval again") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; "
            "run --job=eval again"
        )
    return values


def markdown(values: Mapping, command: str) -> str:
    """A page for docs/results: the sentences, the table, the warnings, and how it was made."""
    versions = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in values["seconds"].items())
    total = sum(values["seconds"].values()) / 60
    lines = [
        f"# {values['config']['name']}-{values['config']['preset']}",
        "",
        "Made by",
        "",
        *(f"    {line}" for line in command.splitlines()),
        "",
        *(line for sentence in sentences(values) for line in (sentence, "")),
        "```",
        table(values),
        "```",
        "",
        *(f"- {warning}" for warning in warnings(values)),
        "",
        f"{total:.1f} minutes of wall time: {phases}.",
        f"Versions: {versions}.",
    ]
    return "\n".join(lines) + "\n"


def table(values: Mapping) -> str:
    """The one table on screen. `*`: the interval is clear of chance; else it says so in words.

    Rearrangement of M = 3 has a row of its own; its items are in the row above too.
    """
    headers = ("suite", "task", "before", "after", "points", "p", "chance", "n", "clips", "parsed")
    rows = []
    for suite, tasks in values["after"].items():
        for task, now in tasks.items():
            was = values["before"].get(suite, {}).get(task)
            change = values["paired"].get(suite, {}).get(task, {})
            rows.append([suite, task, *_cells(was, now, change)])
            if task == "rearrangement" and "3" in now["by_M"]:
                was = was and was["by_M"]["3"]
                rows.append([suite, "  of M = 3", *_cells(was, now["by_M"]["3"], {})])
    return console.table([*headers, ""], rows) + "\n* 95 % interval clear of chance"


def _cells(was: Mapping | None, now: Mapping, change: Mapping) -> list:
    """Cells of the table from `before` on; what is not known is None."""
    delta = now["accuracy"] - was["accuracy"] if was else None
    return [
        _starred(was) if was else None,
        _starred(now),
        None if delta is None else f"{100 * delta:+6.1f}",
        p_text(change["p"]) if change else None,
        now["chance"],
        now["n"],
        now.get("clips"),
        now.get("parsed"),
        "" if verdict(now) == "above" else f"{verdict(now)} chance",
    ]


def p_text(p: float) -> str:
    """A p-value as people write it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _starred(row: Mapping) -> str:
    return f"{row['accuracy']:.3f}" + ("*" if verdict(row) == "above" else "")


def _row(items: list[ItemResult], samples: int, seed: int) -> dict:
    n, clips = len(items), [item.group for item in items]
    correct = [item.correct for item in items]
    cluster_low, cluster_high = cluster_bootstrap(correct, clips, samples=samples, seed=seed)
    row = {
        **_share(items),
        "cluster_low": cluster_low,
        "cluster_high": cluster_high,
        "accuracy_parsed": sum(item.correct_parsed for item in items) / n,
        "parsed": sum(item.parsed is not None for item in items) / n,
        "clips": len(set(clips)),
        "majority": max(Counter(item.label for item in items).values()) / n,
        "by_M": _split(items, lambda item: str(item.M)),
        "by_form": _split(items, lambda item: item.form),
    }
    if any(item.variant for item in items):
        row["by_variant"] = _split(items, lambda item: item.variant)
    if any("reversal" in item.tags for item in items):
        row["by_reversal"] = _split(
            items, lambda item: "reversal" if "reversal" in item.tags else "other"
        )
    return row


def _share(items: list[ItemResult]) -> dict:
    n, right = len(items), sum(item.correct for item in items)
    low, high = wilson(right, n)
    chance = math.fsum(item.chance for item in items) / n
    return {"accuracy": right / n, "low": low, "high": high, "chance": chance, "n": n}


def _split(items: list[ItemResult], key: Callable[[ItemResult], str]) -> dict:
    parts: dict[str, list[ItemResult]] = {}
    for item in items:
        parts.setdefault(key(item), []).append(item)
    return {name: _share(parts[name]) for name in sorted(parts)}


def _each_task(items: Sequence[ItemResult], value: Callable[[list[ItemResult]], dict]) -> dict:
    groups: dict[str, dict[str, list[ItemResult]]] = {}
    for item in items:
        groups.setdefault(item.suite, {}).setdefault(item.task, []).append(item)
    return {
        suite: {task: value(group) for task, group in tasks.items()}
        for suite, tasks in groups.items()
    }


def _by_id(items: Sequence[ItemResult], side: str) -> dict[tuple[str, str], ItemResult]:
    found: dict[tuple[str, str], ItemResult] = {}
    for item in items:
        if (item.suite, item.id) in found:
            raise ValueError(f"{item.suite}, item {item.id}: scored twice {side} tuning")
        found[item.suite, item.id] = item
    return found
