"""Prompt: one question to a model, before any tokenizer or image processor has seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Prompt:
    """One question: text and pictures in order, the right answer and the answers to be scored.

    Attributes:
        parts: (kind, value) in reading order. `frame` is a boundary token and an image, `image` an
            image alone; their value is a position in `images`. The value of `text` is a str, that
            of `video` (for families that have such) a tuple of positions.
            Texts are joined as they are: line breaks are in them.
        images: uint8 [H, W, 3] RGB each; views of the clip wherever nothing was edited.
        answer: the right answer.
        candidates: every answer for likelihood scoring; empty means free text only.
        options: texts of a multiple-choice question, in the order of its letters.
        times: seconds of each image in its video; () where nobody says.
        durations: seconds of each `video`; () where nobody says.
        videos: number of the video that each image is of, so that neighbouring frames of two are
            not one; () where they are of one.
    """

    parts: tuple[tuple[str, int | str | tuple[int, ...]], ...]
    images: tuple[np.ndarray, ...]
    answer: str
    candidates: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    videos: tuple[int, ...] = ()
