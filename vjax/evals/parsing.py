"""Strict parsing: which candidate a generated text names, or none. It never guesses."""

from __future__ import annotations

import re
from collections.abc import Sequence

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
# "the answer is B", "Answer: (B)", "the best choice is option B"
_CUE = r"\b(?i:answer|option|choice)(?i:\s+is\b\s*:?|\s*:)\s*(?i:(?:option|choice)\s+)?"


def strict(generated: str, candidates: Sequence[str], options: Sequence[str] = ()) -> str | None:
    """The candidate that `generated` names, or None: unparsed, which counts as wrong.

    Multiple choice: the first that applies of
      1. the whole answer is `X` (in either case), or is `(X)`, `X)`, `X.` or `X:`, with or without
         text after it;
      2. "answer is X", also with option, choice or a colon; the last one wins;
      3. a letter in parentheses, `(X)`; the last one wins;
      4. the whole answer is the text of an option; of options with equal texts the first.
    X is one of the item's own letters, in its own case but for a bare X.
    Short form: the whole answer is a candidate, else "answer is CANDIDATE", the last one.
    Texts are compared as `normalise` leaves them. `<think>` blocks are dropped, closed or not.

    Args:
        generated: text of the model, end-of-turn removed.
        candidates: letters (multiple choice) or texts (short form).
        options: texts of the letters, in their order; empty = short form.
    """
    if options and len(options) != len(candidates):
        raise ValueError(f"{len(candidates)} letters {list(candidates)} for {len(options)} options")
    answer = _THOUGHT.sub("", generated)
    # a chat template may have opened the block in the prompt
    answer = re.split(r"</think>", answer, flags=re.IGNORECASE)[-1].strip()
    return _letter(answer, candidates, options) if options else _short(answer, candidates)


def normalise(text: str) -> str:
    """Lower case, single spaces, none beside commas; no quotes, stop or exclamation mark around."""
    text = re.sub(r"\s*,\s*", ",", " ".join(text.split()))
    return text.strip(" .!\"'`").casefold()


def _letter(answer: str, letters: Sequence[str], options: Sequence[str]) -> str | None:
    if len(answer) == 1:
        return {letter.casefold(): letter for letter in letters}.get(answer.casefold()) or _match(
            answer, letters, options
        )
    X = "(" + "|".join(map(re.escape, letters)) + ")"
    if whole := re.match(rf"\({X}\)|{X}[).:]", answer):
        return whole[1] or whole[2]
    for pattern in (rf"{_CUE}\(?{X}(?![\w'’])", rf"\({X}\)"):
        if found := re.findall(pattern, answer):
            return found[-1]
    return _match(answer, letters, options)


def _short(answer: str, candidates: Sequence[str]) -> str | None:
    if (whole := _match(answer, candidates, candidates)) is not None:
        return whole
    if not candidates:
        return None
    texts = {normalise(text): text for text in reversed(candidates)}
    X = "(" + "|".join(map(re.escape, sorted(texts, key=len, reverse=True))) + ")"
    # not the start of a longer word, number or list
    found = re.findall(rf"{_CUE}[(\"'`]?{X}(?!\w|[.,]\d)", normalise(answer))
    return texts[found[-1]] if found else None


def _match(answer: str, candidates: Sequence[str], texts: Sequence[str]) -> str | None:
    answer = normalise(answer)
    matches = (c for c, text in zip(candidates, texts, strict=True) if normalise(text) == answer)
    return next(matches, None)
