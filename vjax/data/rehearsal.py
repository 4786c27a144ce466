"""Rehearsal: ordinary questions with the base model's own answers, so that it keeps what it could.

Learning without Forgetting (arXiv 1606.09282, section 3): the old model's outputs on the new data
are the targets; nobody labels anything. Here a letter is drawn anew each time, as probable as the
base model thinks it, so that in expectation the loss is the cross-entropy with its distribution.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vjax.data.items import rows_at_fps, scene_prompt
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded
from vjax.video.frames import Clip
from vjax.video.rng import philox, pick

MOST_OPTIONS = 4


@dataclasses.dataclass(frozen=True)
class RehearsalItem:
    """A question about a stretch of a clip; with options, four of them at most, in a drawn order.

    `start` is where the stretch begins, as a share of the room there is for it.
    """

    key: str
    text: str
    options: tuple[str, ...]
    start: float
    frames: int
    fps: float

    def prompt(self, clip_of: Callable[[str], Clip]) -> Prompt:
        """The question; its answer is still empty."""
        clip = clip_of(self.key)
        time = clip.table.time
        room = max(0.0, float(time[-1] - time[0]) - (self.frames - 1) / self.fps)
        rows = rows_at_fps(time, self.fps, self.frames, start=self.start * room)
        frames = [clip.frames[row] for row in rows]
        asked = scene_prompt((self.text, self.options, 0 if self.options else ""), frames)
        return dataclasses.replace(asked, answer="")


def rehearsal_items(
    keys: Sequence[str], questions: Sequence[str], count: int, *, frames: int, fps: float, seed: int
) -> list[RehearsalItem]:
    """`count` items about random clips; a question is `TEXT` or `TEXT|OPTION|OPTION...`."""
    items = []
    for n in range(count):
        rng = philox("rehearsal", seed, n)
        key = pick(rng, keys)
        text, *options = questions[n % len(questions)].split("|")
        drawn = [options[k] for k in rng.permutation(len(options))[:MOST_OPTIONS]]
        items.append(RehearsalItem(key, text, tuple(drawn), float(rng.random()), frames, fps))
    return items


class Rehearsal:
    """Items with what the base model answers them.

    Args:
      prompts: of the items.
      answers: by prompt, log-probabilities of its candidates and the greedy text, as
        `vjax.generate.ask` gives them; the text counts where there are no candidates.
    """

    def __init__(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[np.ndarray, str]], chat: Chat
    ):
        self.known: list[tuple[np.ndarray, list[Encoded]]] = []
        for prompt, (scores, text) in zip(prompts, answers, strict=True):
            chances = np.exp(scores - scores.max()) if len(scores) else np.ones(1)
            replies = prompt.candidates or (text,)
            encoded = [chat.encode(dataclasses.replace(prompt, answer=r)) for r in replies]
            self.known.append((chances / chances.sum(), encoded))

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(len(e.tokens) for _, encoded in self.known for e in encoded)

    @property
    def images(self) -> int:
        """Pictures of the example that shows most."""
        return max(len(encoded[0].images) for _, encoded in self.known)

    def draw(self, rng: np.random.Generator, count: int) -> list[Encoded]:
        """`count` examples, each answered as the base model might."""
        examples = []
        for n in rng.integers(len(self.known), size=count):
            chances, encoded = self.known[n]
            examples.append(encoded[int(rng.choice(len(encoded), p=chances))])
        return examples
