"""What a run's scores become: item files, counts of what was left out, examples for a report."""

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vjax import __version__
from vjax.evals.items import ItemResult, read_items, write_items
from vjax.evals.report import Strip, make_strip
from vjax.jobs._corpus import Corpus

STRIPS_PER_TASK = 3
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av")


def file_of(workdir: Path, suite: str, what: str) -> Path:
    """Where item results of a suite lie: eval/SUITE.WHAT.jsonl, with a dash for each slash."""
    return workdir / "eval" / f"{suite.replace('/', '-')}.{what}.jsonl"


def read(workdir: Path, suites: Iterable[str], what: str) -> dict[str, list[ItemResult]]:
    """Item results by suite; raises FileNotFoundError where one was not scored."""
    return {suite: read_items(file_of(workdir, suite, what)) for suite in suites}


def write(workdir: Path, found: Mapping[str, Sequence[ItemResult]], what: str):
    """The other way round."""
    for suite, items in found.items():
        file = file_of(workdir, suite, what)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_items(file, items)


def dropped(corpus: Corpus, drops: dict) -> dict:
    """What was left out and why, one by one: files by decoding, clips without a decidable set."""
    out = {
        "files": {
            "n": len(corpus.dropped),
            "of": sum(corpus.files.values()),
            "reasons": dict(Counter(drop.error for drop in corpus.dropped)),
            "list": [f"{drop.path}: {drop.reason}" for drop in corpus.dropped],
        }
    }
    of = {
        "train": sum(len(keys) for keys in corpus.train.values()),
        "held-out": sum(len(keys) for keys in corpus.heldout.values()),
    }
    for what, lost in drops.items():
        reasons = Counter(drop.reason for drop in lost)
        out[f"{what} clips"] = {
            "n": len(lost),
            "of": of[what],
            "reasons": dict(reasons),
            "list": [str(drop) for drop in lost],
        }
    return out


def versions() -> dict[str, str]:
    """Versions of what computed the scores."""
    return {name: importlib.metadata.version(name) for name in PACKAGES} | {"vjax": __version__}


def strips(suites, corpus: Corpus, before, after) -> list[Strip]:
    """Examples for the report: of each suite and task, items that changed first."""
    chosen = []
    for suite, items in suites.items():
        old = {item.id: item for item in before[suite]}
        new = {item.id: item for item in after[suite]}
        tasks: dict[str, list] = {}
        for item in items:
            tasks.setdefault(new[item.id].task, []).append(item)
        for group in tasks.values():
            group.sort(key=lambda item: (old[item.id].correct - new[item.id].correct, item.id))
            picks = group[: STRIPS_PER_TASK - 1] + group[-1:]
            for item in picks:
                credit, showable = corpus.credits.get(
                    new[item.id].group, (new[item.id].group, False)
                )
                prompt = item.prompt(corpus.clip_of)
                chosen.append(
                    make_strip(prompt, old[item.id], new[item.id], showable=showable, source=credit)
                )
    return chosen
