"""ItemResult: what scoring one question gave; one JSON line of `eval/SUITE.jsonl`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from vjax.evals.files import write_text
from vjax.evals.parsing import normalise, strict
from vjax.fragments.record import Record


@dataclass(frozen=True)
class ItemResult:
    """One scored item. `score` and `score_record` make it from what the model gave.

    Attributes:
        id: the item's, unique in its suite.
        suite, task, variant: what is reported together; variant "" where a task has none.
        form: `mcq` or `short`.
        template: index of the paraphrase.
        M: frames shown in the set.
        group: source clip, the unit of bootstrap clusters.
        frames: source frame indices of the set, in the order shown.
        options: texts of the letters; [] for the short form.
        candidates, answer, chance: as in the fragment record.
        scores: log-probability of each candidate, end-of-turn included in the short form.
        likelihood: the candidate with the highest score; of equal ones the first.
        generated: greedy text, end-of-turn removed.
        parsed: the candidate that `parsing.strict` found in it, or None.
        tags: the record's.

    Raises:
        ValueError: an answer that is no candidate, or scores that are not one finite number each.
    """

    id: str
    suite: str
    task: str
    variant: str
    form: str
    template: int
    M: int
    group: str
    frames: list[int]
    options: list[str]
    candidates: list[str]
    answer: str
    chance: float
    scores: list[float]
    likelihood: str
    generated: str
    parsed: str | None
    tags: list[str]

    def __post_init__(self):
        for name in ("answer", "likelihood"):
            if getattr(self, name) not in self.candidates:
                raise ValueError(
                    f"{self.id}: {name} {getattr(self, name)!r} is none of {self.candidates}"
                )
        if len(self.scores) != len(self.candidates):
            raise ValueError(
                f"{self.id}: {len(self.scores)} scores for {len(self.candidates)} candidates"
            )
        if not all(map(math.isfinite, self.scores)):
            raise ValueError(
                f"{self.id}: scores {self.scores} are not all finite; did the model overflow?"
            )

    def text(self, candidate: str) -> str:
        """What a candidate says: of `B` the text of option B, of a short answer itself."""
        if not self.options:
            return candidate
        return self.options[self.candidates.index(candidate)]

    @property
    def label(self) -> str:
        """Text of the right answer in either form."""
        return self.text(self.answer)

    @property
    def correct(self) -> bool:
        """Likelihood correctness, the headline. Letters of equal option texts are equally right."""
        return self._says_label(self.likelihood)

    @property
    def correct_parsed(self) -> bool:
        """Correctness of the greedy text; unparsed is wrong."""
        return self.parsed is not None and self._says_label(self.parsed)

    def _says_label(self, candidate: str) -> bool:
        if candidate == self.answer or not self.options:
            return candidate == self.answer
        return normalise(self.text(candidate)) == normalise(self.label)

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal result."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> ItemResult:
        """Reads what `to_json` wrote. Raises ValueError on anything else, saying what is wrong."""
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        names = {f.name for f in dataclasses.fields(cls)}
        if names != value.keys():
            missing, unknown = sorted(names - value.keys()), sorted(value.keys() - names)
            raise ValueError(f"missing fields {missing}, unknown fields {unknown}")
        return cls(**value)


def score(
    *,
    id: str,
    suite: str,
    task: str,
    form: str,
    M: int,
    group: str,
    frames: Sequence[int],
    candidates: Sequence[str],
    answer: str,
    scores: ArrayLike,
    generated: str,
    options: Sequence[str] = (),
    chance: float | None = None,
    variant: str = "",
    template: int = 0,
    tags: Sequence[str] = (),
) -> ItemResult:
    """Scores one item: the likelihood answer from `scores`, the parsed one from `generated`.

    Args:
        scores: float [number of candidates], log-probabilities in nats.
        generated: greedy text, end-of-turn removed.
        chance: 1 / number of candidates if None.
    """
    scores = [float(s) for s in scores]
    if not scores or len(scores) != len(candidates):
        raise ValueError(f"{id}: {len(scores)} scores for {len(candidates)} candidates")
    return ItemResult(
        id=id,
        suite=suite,
        task=task,
        variant=variant,
        form=form,
        template=int(template),
        M=int(M),
        group=group,
        frames=[int(index) for index in frames],
        options=list(options),
        candidates=list(candidates),
        answer=answer,
        chance=1 / len(candidates) if chance is None else float(chance),
        scores=scores,
        likelihood=candidates[scores.index(max(scores))],
        generated=generated,
        parsed=strict(generated, candidates, options),
        tags=list(tags),
    )


def score_record(record: Record, *, suite: str, scores: ArrayLike, generated: str) -> ItemResult:
    """`score` for a fragment record."""
    return score(
        id=record.id,
        suite=suite,
        task=record.task,
        variant=record.variant,
        form=record.form,
        template=record.template,
        M=record.M,
        group=record.group,
        frames=[record.index[position] for position in record.shown],
        options=record.options,
        candidates=record.candidates,
        answer=record.answer,
        chance=record.chance,
        scores=scores,
        generated=generated,
        tags=record.tags,
    )


def write_items(path: str | Path, items: Iterable[ItemResult]) -> None:
    """Writes one result a line, replacing `path` in one step."""
    write_text(path, "".join(item.to_json() + "\n" for item in items))


def read_items(path: str | Path) -> list[ItemResult]:
    """Reads what `write_items` wrote. Raises ValueError naming file and line."""
    items = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                items.append(ItemResult.from_json(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a scored item ({error}); run --job=eval again"
                ) from error
    return items
