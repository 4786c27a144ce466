"""Record: everything one fragment question needs to be rendered again, without pixels (JSONL)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SCHEMA = 1
LETTERS = "ABCDE"


@dataclass(frozen=True)
class Record:
    """One item. The fields are the table "Fragment record" of WORKSPACE.md."""

    schema: int
    id: str
    task: str
    variant: str
    form: str
    template: int
    video_id: str
    content_hash: str
    group: str
    window: list[float] | None
    set: int
    M: int
    epoch: int
    attempt: int
    index: list[int]
    time: list[float]
    shown: list[int]
    permutation: list[int] | None
    options: list[str]
    candidates: list[str]
    answer: str
    chance: float
    edits: dict
    tags: list[str]
    sampler: str
    power: float
    tau: float
    seed: int

    @property
    def label(self) -> str:
        """Text of the right answer in either form: of `B`, what option B says."""
        return self.options[LETTERS.index(self.answer)] if self.options else self.answer

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal record."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """Reads what `to_json` wrote. Raises ValueError on anything else, saying what is wrong."""
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        if value.get("schema") != SCHEMA:
            raise ValueError(f"schema is {value.get('schema')!r}, this version reads {SCHEMA}")
        names = {f.name for f in dataclasses.fields(cls)}
        if names != value.keys():
            missing, unknown = sorted(names - value.keys()), sorted(value.keys() - names)
            raise ValueError(f"missing fields {missing}, unknown fields {unknown}")
        return cls(**value)


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Writes one record a line (UTF-8), replacing `path`."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(record.to_json() + "\n" for record in records)


def read_records(path: str | Path) -> list[Record]:
    """Reads what `write_records` wrote. Raises ValueError naming file and line."""
    records = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(Record.from_json(line))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: not a fragment record ({error}); make the file anew"
                ) from error
    return records


def label_histogram(records: Iterable[Record]) -> dict[str, dict[str, dict[str, int]]]:
    """Counts right answers: {task: {"label": {text: n}, "letter": {letter: n}}}, sorted.

    Answers are balanced in expectation only, so the counts are printed for every set of items.
    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for record in records:
        task = counts.setdefault(record.task, {"label": {}, "letter": {}})
        task["label"][record.label] = task["label"].get(record.label, 0) + 1
        if record.options:
            task["letter"][record.answer] = task["letter"].get(record.answer, 0) + 1
    return {
        task: {kind: dict(sorted(n.items())) for kind, n in kinds.items()}
        for task, kinds in sorted(counts.items())
    }
