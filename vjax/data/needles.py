"""Needles: pictures hidden among the frames of a video, and what is asked about them.

A needle-in-a-haystack test over frames, as in LongVA's V-NIAH (arXiv 2406.16852) and VideoNIAH
(arXiv 2406.09367): one picture, foreign to the video, goes between its frames, and only who finds
it can answer. docs/needle.md has the form of a user's file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vjax.data.items import scene_prompt
from vjax.data.rows import BadFile, open_rows
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.prompts.pixels import to_model_size
from vjax.video.errors import VideoError
from vjax.video.images import load
from vjax.video.probe import probe
from vjax.video.read import read_frames
from vjax.video.rng import philox, pick
from vjax.video.world.render import SHAPES
from vjax.video.world.scene import COLOURS
from vjax.video.world.scene import SHAPES as NAMES

SIDE = 240  # pixels of a card: whole multiples of what small models are shown
QUESTION = "One frame is a white card. What colour is the shape on it? Answer in one word."
INKS = tuple(name for name in COLOURS if name != "white")
CARDS = 14  # of the default set: every colour twice
_PAPER, _EDGE = np.array([244.0, 243, 240]), np.array([70.0, 72, 76])
_FIELDS = ("id", "image", "question", "answer", "options", "candidates")
_THEIRS = {"path": "image", "prompt": "question"}  # LongVA's names


@dataclasses.dataclass(frozen=True, eq=False)
class Needle:
    """A picture and its question.

    Attributes:
        id: unique in its set.
        image: uint8 [S, S, 3] RGB, as frames of the haystack are.
        question: text.
        answer: the right one: a text, of a multiple-choice question one of its options.
        options: texts of a multiple-choice question; () = a short answer.
        candidates: every short answer that is possible, for likelihood scoring; () = what the model
            writes is compared with the answer.
    """

    id: str
    image: np.ndarray
    question: str
    answer: str
    options: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """Of a guess; 0 where any text may be the answer."""
        choices = len(self.options or self.candidates)
        return 1 / choices if choices else 0.0


def place(depth: float, length: int) -> int:
    """How many of a haystack's `length` frames come before a needle at `depth`, 0 to 1.

    0 makes it the first picture, 1 the last; halves are rounded up.
    """
    if not 0 <= depth <= 1:
        raise ValueError(f"a depth of {depth}: from 0 (the first frame) to 1 (the last) is meant")
    return math.floor(depth * length + 0.5)


def hide(frames: Sequence[np.ndarray], needle: Needle, depth: float) -> list[np.ndarray]:
    """The frames in their order, and the needle's picture between them: one more than before."""
    at = place(depth, len(frames))
    return [*frames[:at], needle.image, *frames[at:]]


def prompt(needle: Needle, frames: Sequence[np.ndarray]) -> Prompt:
    """The needle's question after some frames, whether or not its picture is one of them."""
    if needle.options:
        right = needle.options.index(needle.answer)
        return scene_prompt((needle.question, needle.options, right), frames)
    asked = scene_prompt((needle.question, (), needle.answer), frames)
    return dataclasses.replace(asked, candidates=needle.candidates)


# ---- a user's own --------------------------------------------------------------------------------


def read_needles(
    path: str | Path, folder: str | Path, cache: str | Path, *, size: int, resize: str
) -> list[Needle]:
    """The needles of a JSON, JSONL or Parquet file.

    A row has `image` (a path), `question`, `answer`, and, if it is multiple choice, `options`: the
    answer is one of them, or its letter. Of a short answer `candidates` may list all that are
    possible. `id` is the row's number where there is none; LongVA's `path` and `prompt` will do.
    No two rows ask the same of the same picture.

    Args:
        folder: what paths are relative to; the file's own where empty.
        cache: for `open_rows`.
        size, resize: of its picture, as those of the frames of the haystack.

    Raises:
        BadFile: a file or a row that is none, or an image that is not there; the message names it.
    """
    rows = open_rows(path, cache)
    if not len(rows):
        raise BadFile(f"{path}: no needle in it")
    folder = Path(folder or Path(path).parent)
    found, known, asked = [], {}, {}
    for n in range(len(rows)):
        row, name = rows[n], rows.where(n)
        try:
            needle = _needle(row, n, folder, size, resize)
        except (ValueError, VideoError) as error:
            raise BadFile(f"{name}: {error}") from error
        if needle.id in known:
            raise BadFile(f"{name}: id {needle.id!r} is that of {known[needle.id]}")
        same = (needle.image.tobytes(), needle.question, needle.options, needle.candidates)
        if same in asked:
            raise BadFile(f"{name}: asks the same of the same picture as {asked[same]}; remove one")
        known[needle.id] = asked[same] = name
        found.append(needle)
    return found


def _needle(row: Mapping, number: int, folder: Path, size: int, resize: str) -> Needle:
    if not isinstance(row, Mapping):
        raise ValueError(f"a {type(row).__name__}, no object")
    fields = {_THEIRS.get(name, name): value for name, value in row.items()}
    if odd := [name for name in fields if name not in _FIELDS]:
        raise ValueError(f"field {odd[0]!r} is none of {', '.join(_FIELDS)}")
    text = {name: _text(fields, name) for name in ("image", "question", "answer")}
    options, candidates = (_texts(fields, name) for name in ("options", "candidates"))
    answer = text["answer"]
    if options and candidates:
        raise ValueError("options and candidates: is it multiple choice or a short answer?")
    if options:
        letters = LETTERS[: len(options)]
        if len(options) > len(letters):
            raise ValueError(f"{len(options)} options, at most {len(LETTERS)} have a letter")
        if answer not in options and answer in tuple(letters):
            answer = options[letters.index(answer)]
    if (choices := options or candidates) and answer not in choices:
        raise ValueError(f"answer {answer!r} is none of {', '.join(map(repr, choices))}")
    image = folder / text["image"]
    if not image.is_file():
        raise ValueError(f"{image}: there is no such image")
    return Needle(
        str(fields.get("id", number)),
        shown(image, size, resize),
        text["question"].strip(),
        answer,
        options,
        candidates,
    )


def _text(fields: Mapping, name: str) -> str:
    value = fields.get(name)
    if value is None or value == "" or str(value).isspace():
        raise ValueError(f"{name} is {value!r}; a needle is an image, a question and its answer")
    if not isinstance(value, str):
        raise ValueError(f'{name} is {value!r}, which is no text; quote it: "{value}"')
    return value


def _texts(fields: Mapping, name: str) -> tuple[str, ...]:
    value = fields.get(name) or []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, no list of texts")
    if not all(isinstance(one, str) and one for one in value) or len(set(value)) < len(value):
        raise ValueError(f"{name} are {list(value)}; texts that differ are needed")
    if len(value) == 1:
        raise ValueError(f"{name} has one text, which leaves nothing to choose")
    return tuple(value)


def shown(image: Path, size: int, resize: str) -> np.ndarray:
    """An image file as uint8 [size, size, 3], brought to it as frames are."""
    load(image)  # says plainly what is wrong with one
    return read_frames(probe(image), [0], size=size, resize=resize)[0]


# ---- the default set -----------------------------------------------------------------------------


def cards(seed: int, size: int) -> list[Needle]:
    """White cards with a shape each, in all colours but white: what is asked is the colour."""
    return [
        Needle(
            f"{ink} {name}",
            card(ink, name, philox("needle", seed, n), size),
            QUESTION,
            ink,
            candidates=INKS,
        )
        for n, (ink, name) in enumerate(
            (INKS[n % len(INKS)], NAMES[n % len(NAMES)]) for n in range(CARDS)
        )
    ]


def any_card(rng: np.random.Generator, size: int) -> Needle:
    """One of those cards, drawn: what a model may learn the task from."""
    ink, name = pick(rng, INKS), pick(rng, NAMES)
    return Needle(f"{ink} {name}", card(ink, name, rng, size), QUESTION, ink, candidates=INKS)


def card(ink: str, name: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: a shape of the procedural world on a white card, placed by `rng`."""
    radius = SIDE * rng.uniform(0.24, 0.34)
    x0, y0 = SIDE * rng.uniform(0.40, 0.60, 2)
    at = np.arange(SIDE) + 0.5
    distance = radius * SHAPES[name]((at[None] - x0) / radius, (at[:, None] - y0) / radius)
    x = np.broadcast_to(_PAPER, (SIDE, SIDE, 3))
    for grown, colour in ((4.0, _EDGE), (0.0, np.array(COLOURS[ink], float))):
        cover = np.clip(0.5 + grown - distance, 0, 1)[..., None]
        x = x + cover * (colour - x)
    rim = np.minimum(at, SIDE - at)
    frame = np.minimum(rim[None], rim[:, None])[..., None]
    x = np.where(frame < 6, _EDGE, x)
    return to_model_size((x + 0.5).astype(np.uint8), size)
