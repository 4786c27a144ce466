"""Scored items nobody scored: a model that is right with a given probability."""

from __future__ import annotations

import numpy as np

from vjax.evals.items import ItemResult, score

OPTIONS = {
    "counting": lambda M: ["3", "4", "5"],
    "consistency": lambda M: ["Yes", "No"],
    "localization": lambda M: [str(p + 1) for p in range(M)],
    "disorder": lambda M: ["Yes", "No"],
    "rearrangement": lambda M: ["2,1,3", "1,3,2", "3,1,2", "2,3,1"],
    "action": lambda M: ["pushes", "pulls", "covers", "drops"],
    "effect": lambda M: ["melts", "grows", "fades", "breaks"],
    "speed": lambda M: ["frozen", "slow", "normal", "fast"],
}


def item(**changes) -> ItemResult:
    """One item, right by default."""
    fields = dict(
        id="clips/a.mp4/0/counting/0",
        suite="fragments/procedural",
        task="counting",
        form="short",
        M=3,
        group="a",
        frames=[4, 9, 12],
        candidates=["3", "4", "5"],
        answer="3",
        scores=[-0.1, -2.0, -3.0],
        generated="3",
    )
    return score(**fields | changes)


def items(
    task: str, n: int, right: float | None, *, seed=0, suite="fragments/procedural", clips=100
) -> list[ItemResult]:
    """n items with answers and forms at random; right=None: scores are noise, so is the answer.

    Items of one task, n, suite and clips are the same whatever `right` and `seed` are.
    """
    fixed = np.random.default_rng([n, *task.encode(), *suite.encode()])
    rng = np.random.default_rng([seed, n, *task.encode(), *suite.encode()])
    made = []
    for i in range(n):
        M = int(fixed.integers(3, 6))
        texts = OPTIONS[task](M)
        texts = [texts[j] for j in fixed.permutation(len(texts))]
        mcq = suite.startswith("scene/") or fixed.random() < 0.5
        candidates = list("ABCDE"[: len(texts)]) if mcq else texts
        k = int(fixed.integers(len(texts)))
        scores = rng.normal(size=len(texts)) - 9
        if right is not None:
            scores[k] = 0.0 if rng.random() < right else -99.0
        generated = candidates[int(scores.argmax())] if rng.random() < 0.97 else "a ball"
        made.append(
            item(
                id=f"{suite}/{task}/{i}",
                suite=suite,
                task=task,
                variant=("query-frame", "patch-first")[i % 2] if task == "localization" else "",
                form="mcq" if mcq else "short",
                M=M,
                group=f"clip{i % clips}",
                options=texts if mcq else [],
                candidates=candidates,
                answer=candidates[k],
                scores=scores,
                generated=generated,
                tags=["reversal"] if task == "disorder" and i % 6 == 0 else [],
            )
        )
    return made
