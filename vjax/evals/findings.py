"""What a results.json says in plain words, and what in it should worry its reader."""

from __future__ import annotations

from collections.abc import Mapping

LEARNT_P = 0.01
LEAK = 0.10  # an untrained model this far above chance knows something it should not
FEW_CLIPS = 20  # below it the bootstrap over clips is too narrow
LOW_PARSED = 0.9
MANY_DROPS = 0.1
SCENE_LOSS = 0.03

CONTROLS = {  # eval.control: what it does, tasks that must then sit at chance (None = all)
    "blank": ("all frames are blanked", None),
    "no_order": (
        "frames are shown without boundary or position",
        frozenset({"disorder", "rearrangement"}),
    ),
}


def verdict(row: Mapping) -> str:
    """`above`, `at` or `below`: where the Wilson interval of a row lies against its chance."""
    if row["low"] > row["chance"]:
        return "above"
    return "below" if row["high"] < row["chance"] else "at"


def control(values: Mapping) -> str | None:
    """Which control of evaluation a results.json is of, if any."""
    name = values["config"].get("eval", {}).get("control", "none")
    return None if name == "none" else name


def sentences(values: Mapping) -> list[str]:
    """What was learnt and what was not, one sentence a suite."""
    return [_sentence(values, suite) for suite in values["after"]]


def outcome(values: Mapping, suite: str, task: str) -> str:
    """`learnt`: above chance and better than before with p < 0.01; `worse`: the same with less;
    `chance`: not above chance; else `unclear`."""
    change = values["paired"][suite][task]
    clear = change["p"] < LEARNT_P
    if clear and change["delta"] < 0:
        return "worse"
    if verdict(values["after"][suite][task]) != "above":
        return "chance"
    return "learnt" if clear else "unclear"


def _sentence(values: Mapping, suite: str) -> str:
    if suite.startswith("scene/"):
        was, now, n = pooled(values, suite)
        return (
            f"On {suite}, right answers went from {was:.1%} to {now:.1%} "
            f"({100 * (now - was):+.1f} points on {n} questions)."
        )
    tasks: dict[str, list[str]] = {}
    for task in values["after"][suite]:
        was, now = (values[side][suite][task]["accuracy"] for side in ("before", "after"))
        text = f"{task} ({was:.0%} to {now:.0%})"
        tasks.setdefault(outcome(values, suite, task), []).append(text)
    said = [
        f"{words} {_and(tasks[kind])}"
        for kind, words in (
            ("learnt", "learnt"),
            ("unclear", "is above chance but not clearly better than before at"),
            ("chance", "did not learn"),
            ("worse", "got worse at"),
        )
        if kind in tasks
    ]
    return f"On {suite}, the model {'; it '.join(said)}."


def pooled(values: Mapping, suite: str) -> tuple[float, float, int]:
    """Accuracy before and after over all items of a suite, and their number."""
    n = sum(row["n"] for row in values["after"][suite].values())
    was, now = (
        sum(row["accuracy"] * row["n"] for row in values[side][suite].values()) / n
        for side in ("before", "after")
    )
    return was, now, n


def warnings(values: Mapping) -> list[str]:
    """What a reader must know before believing the numbers, the gravest first."""
    found: list[str] = []
    name = control(values)
    for suite, tasks in values["after"].items():
        if suite.startswith("scene/") and not name:
            was, now, n = pooled(values, suite)
            if was - now > SCENE_LOSS:
                lost = f"{100 * (was - now):.1f} points lost on {n} questions"
                found.append(f"{suite}: {lost}; more than {100 * SCENE_LOSS:.0f} is too many")
        for task, row in tasks.items():
            before = values["before"][suite][task]
            texts = _of_task(suite, task, before, row, name)
            found += [f"{suite}, {task}: {text}" for text in texts]
        clips = min(row["clips"] for row in tasks.values())
        if clips < FEW_CLIPS:
            found.append(
                f"{suite}: only {clips} source clips; intervals say little about other clips"
            )
        parsed = {task: row["parsed"] for task, row in tasks.items()}
        low = [f"{task} {share:.0%}" for task, share in parsed.items() if share < LOW_PARSED]
        if low:
            found.append(f"{suite}: few answers could be parsed after tuning: {_and(low)}")
    for what, drop in values["dropped"].items():
        if drop["n"] > MANY_DROPS * drop["of"]:
            reasons = ", ".join(f"{why}: {n}" for why, n in drop.get("reasons", {}).items())
            reasons = f" ({reasons})" if reasons else ""
            found.append(f"{what}: {drop['n']} of {drop['of']} dropped{reasons}")
    return found


def _of_task(suite: str, task: str, before: Mapping, after: Mapping, name: str | None):
    """Warnings on one task."""
    interval = f"{after['accuracy']:.1%}, interval {after['low']:.1%} to {after['high']:.1%}"
    chance = f"chance {after['chance']:.1%}"
    side = verdict(after)
    if name and _must_fail(name, task):
        if side != "at":
            yield f"{side} chance ({interval}, {chance}) though {CONTROLS[name][0]}: items leak"
        return
    if side == "at":
        yield f"at chance after tuning ({interval}, {chance})"
    elif side == "below":
        yield f"below chance after tuning ({interval}, {chance})"
    elif after["cluster_low"] <= after["chance"]:
        low = f"from {after['cluster_low']:.1%}"
        yield f"not clear of chance when whole clips are resampled ({low}, {chance})"
    elif after["accuracy"] <= after["majority"]:
        yield (
            f"no better than always giving the commonest answer ({after['accuracy']:.1%} against "
            f"{after['majority']:.1%})"
        )
    if not suite.startswith("scene/") and before["low"] > before["chance"] + LEAK:
        yield (
            f"already at {before['accuracy']:.1%} before tuning ({chance}): do the items leak, or "
            "was the base trained on them?"
        )


def _must_fail(name: str, task: str) -> bool:
    tasks = CONTROLS[name][1]
    return tasks is None or task in tasks


def _and(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
