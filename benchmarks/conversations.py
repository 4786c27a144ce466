"""Rows of conversations for benchmarks, generated: captions, several turns, several media, text."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

WORDS = (
    "the a red blue green small large square circle ball dog person hand cup table road car moves "
    "pushes falls turns opens stops slowly quickly left right up down before after then while near "
    "behind in front of two three again and what which how many does happen first last frame shows"
).split()
SHARES = {"video": 0.55, "turns": 0.2, "text": 0.15, "two": 0.1}  # kinds of rows


def rows(count: int, videos: Sequence[str], seed: int = 0) -> Iterator[dict]:
    """LLaVA-style rows that name the videos again and again.

    More than half have a video and one question, a fifth several turns about one video, a tenth
    two videos, and the rest text alone; the length of what is said is log-normal.
    """
    rng = random.Random(seed)
    for n in range(count):
        (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
        shown = [rng.choice(videos) for _ in range({"text": 0, "two": 2}.get(kind, 1))]
        turns = rng.randint(2, 5) if kind == "turns" else 1
        said = []
        for turn in range(turns):
            asked = "<video>\n" * len(shown) * (turn == 0) + _said(rng, 2.6)
            said.append({"from": "human", "value": asked + "?"})
            said.append({"from": "gpt", "value": _said(rng, 3.4) + "."})
        row = {"id": f"row-{n}", "conversations": said}
        if shown:
            row["video"] = shown if len(shown) > 1 else shown[0]
        yield row


def write(path: Path, made: Iterator[dict]):
    """As a JSON array or, by the suffix, as JSONL."""
    lines = (json.dumps(row) for row in made)
    with open(path, "w", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(line + "\n" for line in lines)
            return
        file.write("[" + next(lines))
        file.writelines(",\n" + line for line in lines)
        file.write("]\n")


def _said(rng: random.Random, log_words: float) -> str:
    count = min(max(1, round(rng.lognormvariate(log_words, 0.7))), 300)
    return " ".join(rng.choices(WORDS, k=count))
