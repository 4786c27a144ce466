"""Samples as rows of tokens: which frames each shows, how long it is, and its pixels."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vjax.data.footage import Footage, Frames
from vjax.data.mixture import Mixture
from vjax.data.packing import LEFT_OUT
from vjax.data.samples import BadRow, Medium, Sample
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded
from vjax.video.errors import VideoError
from vjax.video.rng import philox
from vjax.video.strategies import Sampling, choose

ON_LONG = ("error", "skip")
_BLANK = np.broadcast_to(np.uint8(0), (8, 8, 3))  # stands for pictures that are only counted


class Samples(Protocol):
    """A source's samples: `len(samples)`, and `samples[n]` from any thread; `path` names it, and
    `name(n)` one of them."""

    path: str | Path

    def __len__(self) -> int: ...

    def __getitem__(self, n: int) -> Sample: ...

    def name(self, n: int) -> str: ...


class TooLong(BadRow):
    """A sample that no row holds, whatever may be left out of it."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A sample that fits a row.

    Attributes:
        turns: what is said of it; a text-only sample that was too long has lost its beginning.
        frames: of each medium.
        counts: pictures of each medium, at most.
        tokens, pictures: of all of it, at most.
    """

    turns: tuple
    system: str
    frames: tuple[Frames, ...]
    counts: tuple[int, ...]
    tokens: int
    pictures: int


class Examples:
    """Samples by their number in a mixture.

    Frames are chosen by one rule. Where a row's tokens do not hold them, each video of the sample
    gets fewer, in proportion; a text without media loses turns from its beginning, then the end of
    its question, and never the answer.

    Args:
        mixture: numbers to sources and rows.
        sources: samples of each.
        budgets: most frames of a video, of each source; 0 for no limit but the rule's.
        footage: frames and pixels.
        chat: prompts to tokens.
        rule: which frames of a video.
        length: tokens that a sample may have.
        pictures: pictures that it may show; None for no limit but `length`.
        seed: of training's choice of frames.
        on_long: `error` or `skip`, of a sample that does not fit.
        on_bad: `error`, or anything else to leave out a sample whose video is bad or has no frame
            in the cut that is asked for.
        on_left_out: called with (number, error) for a sample that is not used.
    """

    def __init__(
        self,
        mixture: Mixture,
        sources: Sequence[Samples],
        footage: Footage,
        chat: Chat,
        rule: Sampling,
        *,
        length: int,
        pictures: int | None = None,
        budgets: Sequence[int] = (),
        seed: int = 0,
        on_long: str = "error",
        on_bad: str = "error",
        on_left_out: Callable[[int, Exception], None] | None = None,
    ):
        if on_long not in ON_LONG:
            raise ValueError(f"on_long {on_long!r} is unknown; use one of {', '.join(ON_LONG)}")
        self.mixture, self.sources, self.footage, self.chat = mixture, sources, footage, chat
        self.rule, self.length, self.pictures, self.seed = rule, length, pictures, seed
        self.budgets = budgets or [0] * len(sources)
        self.on_long, self.on_bad, self.on_left_out = on_long, on_bad, on_left_out

    def within(self, length: int, pictures: int | None) -> "Examples":
        """The same samples, in rows that hold so many tokens and pictures."""
        other = copy.copy(self)
        other.length, other.pictures = length, pictures
        return other

    @property
    def rope(self) -> bool:
        """Whether examples have positions of three numbers."""
        return bool(self.chat.spec.text.mrope)

    def name(self, number: int) -> str:
        """File and row."""
        source, row = self.mixture.locate(number)
        return self.sources[source].name(row)

    def sample(self, number: int) -> Sample:
        source, row = self.mixture.locate(number)
        return self.sources[source][row]

    def sizes(self, numbers: Sequence[int]) -> np.ndarray:
        """Tokens and pictures of samples, int64 [n, 2]; LEFT_OUT where one is not used.

        Raises:
            BadRow: a row that is none, or, with `on_long="error"`, one that does not fit.
        """
        sizes = np.full((len(numbers), 2), LEFT_OUT, np.int64)
        for n, number in enumerate(numbers):
            try:
                layout = self.layout(int(number))
            except VideoError as error:
                if self.on_bad == "error":
                    raise BadRow(f"{self.name(int(number))}: {error}") from error
                self._leave_out(number, error)
            except TooLong as error:
                if self.on_long == "error":
                    raise
                self._leave_out(number, error)
            else:
                sizes[n] = layout.tokens, layout.pictures
        return sizes

    def _leave_out(self, number: int, error: Exception):
        if self.on_left_out:
            self.on_left_out(int(number), error)

    def layout(self, number: int) -> Layout:
        """How a sample is shown; no pixel is read.

        Raises:
            BadRow, TooLong, VideoError: see `sizes`.
        """
        return self._layout(number, self.sample(number))

    def _layout(self, number: int, sample: Sample) -> Layout:
        try:
            return self._fitted(number, sample)
        except BadRow as error:
            raise type(error)(f"{self.name(number)}: {error}") from error

    def _fitted(self, number: int, sample: Sample) -> Layout:
        budget = self.budgets[self.mixture.locate(number)[0]] or None
        frames = tuple(self.footage.frames(medium) for medium in sample.media)
        counts = [
            self._rows(medium, one, None, budget).size
            for medium, one in zip(sample.media, frames, strict=True)
        ]
        turns, tokens = sample.turns, self._tokens(sample, counts)
        if not frames:
            turns, tokens = self._shortened(sample, tokens)
        else:
            counts, tokens = self._within(sample, counts, tokens)
        if tokens > self.length or sum(counts) > (self.pictures or sum(counts)):
            raise TooLong(
                f"{tokens} tokens and {sum(counts)} pictures at least, a row holds {self.length} "
                f"and {'any number' if self.pictures is None else self.pictures}: make "
                "data.row_tokens larger, or leave such rows out with data.on_long=skip"
            )
        return Layout(turns, sample.system, frames, tuple(counts), tokens, sum(counts))

    def encode(self, number: int, epoch: int | None) -> Encoded | None:
        """A sample with its pixels; None where a clip cannot be read and the policy is `skip`.

        Args:
            epoch: of training, which draws other frames each time; None is the fixed choice.
        """
        sample = self.sample(number)
        layout = self._layout(number, sample)
        rng = None if epoch is None else philox("frames", self.seed, epoch, number)
        pictures = []
        for medium, frames, count in zip(sample.media, layout.frames, layout.counts, strict=True):
            read = self.footage.read(frames, self._rows(medium, frames, rng, count))
            if read is None:
                return None
            pictures.append(tuple(read))
        encoded = self.chat.encode(prompts(layout.turns, pictures), system=layout.system)
        if not encoded.answer.any():
            raise BadRow(
                f"{self.name(number)}: no token of it is an answer; there is nothing to learn"
            )
        return encoded

    def _rows(self, medium: Medium, frames: Frames, rng, budget: int | None) -> np.ndarray:
        if medium.kind == "image":
            return np.zeros(1, np.int64)
        if budget and self.rule.kind == "views":
            budget = max(1, budget // self.rule.views)
        rows = choose(self.rule, frames.times, motion=frames.motion, rng=rng, budget=budget)
        return rows.ravel()

    def _tokens(self, sample: Sample, counts: Sequence[int], turns=None) -> int:
        shown = [(_BLANK,) * count for count in counts]
        asked = prompts(sample.turns if turns is None else turns, shown)
        try:
            return self.chat.length(asked, system=sample.system)
        except ValueError as error:
            raise BadRow(str(error)) from error

    def _within(self, sample: Sample, counts: list[int], tokens: int) -> tuple[list[int], int]:
        """Fewer frames of each video, where row or vision buffer do not hold all."""
        most = sum(counts) if self.pictures is None else self.pictures
        if tokens <= self.length and sum(counts) <= most:
            return counts, tokens
        videos = [n for n, medium in enumerate(sample.media) if medium.kind == "video"]
        fewest = [1 if n in videos else count for n, count in enumerate(counts)]
        base = self._tokens(sample, fewest)
        extra = sum(counts) - sum(fewest)
        if extra:
            each = (tokens - base) / extra
            room = most - sum(fewest)
            if each:  # else a video is as long with fewer frames
                room = min(room, int((self.length - base) / each))
            share = max(0, min(room, extra)) / extra
            # rounded down, the first videos get what is left over
            more = [int((a - b) * share) for a, b in zip(counts, fewest, strict=True)]
            for n in videos:
                more[n] += sum(more) < room and more[n] < counts[n] - fewest[n]
            fewest = [a + b for a, b in zip(fewest, more, strict=True)]
        return fewest, self._tokens(sample, fewest)

    def _shortened(self, sample: Sample, tokens: int) -> tuple[tuple, int]:
        turns = sample.turns
        while tokens > self.length and len(turns) > 1:
            turns = turns[1:]
            tokens = self._tokens(sample, (), turns)
        if tokens <= self.length:
            return turns, tokens
        (turn,) = turns
        tokenizer = self.chat.tokenizer
        ids = tokenizer.encode("".join(turn.asked), add_special_tokens=False).ids
        left = len(ids)
        while tokens > self.length and left:
            left = max(0, left - (tokens - self.length))
            cut = dataclasses.replace(turn, asked=(tokenizer.decode(ids[:left]),))
            tokens = self._tokens(sample, (), (cut,))
            turns = (cut,)
        return turns, tokens


def prompts(turns, pictures: Sequence[Sequence[np.ndarray]]) -> list[Prompt]:
    """Turns as prompts; a video is shown frame by frame.

    Args:
        turns: `samples.Turn`s.
        pictures: uint8 [H, W, 3] each, of every medium of the turns in order.
    """
    left, made = iter(pictures), []
    for turn in turns:
        parts, images, videos = [], [], []
        for number, part in enumerate(turn.asked):
            if isinstance(part, str):
                parts.append(("text", part))
                continue
            kind = "image" if part.kind == "image" else "frame"
            for image in next(left):
                parts.append((kind, len(images)))
                images.append(image)
                videos.append(number)
        made.append(Prompt(tuple(parts), tuple(images), turn.answer, videos=tuple(videos)))
    return made
