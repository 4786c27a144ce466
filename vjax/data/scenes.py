"""Batches for pretraining vjax-tiny: captions and scene questions about procedural clips.

Nothing asked here speaks of how many frames there are, of their order or of their position: that is
what SF2T has to teach (a test reads the prompts).
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from vjax.data.collate import Shape, collate, micro_batches, to_model_size
from vjax.data.items import rows_at_fps, scene_prompt
from vjax.fragments.common import draw_jitter, jittered
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat, Encoded
from vjax.video.frames import Clip
from vjax.video.rng import philox
from vjax.video.world import differences, motion, questions
from vjax.video.world.scene import Scene

FRAMES = (3, 6)
CAPTION_SHARE = 0.75
READING_SHARE = 0.1
COMPARING_SHARE = 0.3
RECOGNISING_SHARE = 0.06
NAMING_SHARE = 0.1
ECHO_SHARE = 0.06
YES_NO_SHARE = 0.5  # of comparisons; the others are described
SAME_SHARE = 0.2  # of comparisons: one moment seen twice
RECOGNISED = (2, 5)  # moments shown, the upper bound left out
RECOGNISE = (
    "Do you see this in the video?", "Is this in the video?", "Does the video show this?",
    "Is this seen in the video?", "Does this come from the video?",
)  # fmt: skip
ECHOED = (1, 3, 4, 5)  # numerals in a row
SAY = ("Say", "Repeat", "Write", "Copy")
YES_NO_INSTRUCTION = "Answer yes or no."
APART = 0.4  # seconds between two moments that are compared
MISSES = 6  # conversations in a row that find no room: the batch is full
IN_CAPTION = ("action", "effect", "speed", "colour", "shape", "other_colour", "other_shape", "side")
CHOICE_SHARE = 0.5
REDRAWS = 20  # of a row, before rows count as too short


@dataclasses.dataclass(frozen=True)
class SceneClip:
    """A procedural clip at the model's input size, with its truth."""

    scene: Scene
    time: np.ndarray
    frames: np.ndarray

    @functools.cached_property
    def timeline(self) -> motion.Timeline:
        return motion.simulate(self.scene)

    @classmethod
    def of(cls, scene: Scene, clip: Clip, image_size: int) -> "SceneClip":
        frames = np.stack([to_model_size(frame, image_size) for frame in clip.frames])
        return cls(scene, clip.table.time, frames)


def reading(scene: Scene, rng: np.random.Generator) -> list[Prompt]:
    """A caption to read, without frames, and two questions about it, answered by letters.

    Meant to teach cheaply what option a letter stands for; its share in that was not measured.
    """
    tasks = [task for task in questions.tasks(scene) if task in IN_CAPTION]
    turns = [
        scene_prompt(questions.scene_question(scene, tasks[n], rng), ())
        for n in rng.permutation(len(tasks))[:2]
    ]
    text = ("text", questions.caption(scene, rng)[1] + "\n")
    return [dataclasses.replace(turns[0], parts=(text, *turns[0].parts)), *turns[1:]]


def echo(rng: np.random.Generator) -> list[Prompt]:
    """Numerals to repeat or to pick, of nothing and without frames.

    Any language model can say them. One that never did has to turn its hidden states over to learn
    it, and forgets the rest: measured, see docs/results/sf2t.md.
    """
    length = int(rng.choice(ECHOED, p=(0.4, 0.2, 0.2, 0.2)))
    drawn = {",".join(map(str, 1 + rng.permutation(5)[:length])) for _ in range(40)}
    some = [sorted(drawn)[n] for n in rng.permutation(len(drawn))[: int(rng.integers(3, 6))]]
    answer = some[int(rng.integers(len(some)))]
    if rng.random() < CHOICE_SHARE:
        return [scene_prompt((f"Which is {answer}?", some, some.index(answer)), ())]
    return [Prompt((("text", f"{SAY[int(rng.integers(len(SAY)))]} {answer}."),), (), answer)]


def yes_no(
    text: str, so: bool, pictures: Sequence[np.ndarray], parts, rng: np.random.Generator
) -> Prompt:
    """A yes-or-no question after (or, an `image` part, before) its pictures; by letter or word."""
    if rng.random() < CHOICE_SHARE:
        options = ("Yes", "No") if rng.random() < 0.5 else ("No", "Yes")
        asked = scene_prompt((text, options, options.index("Yes" if so else "No")), ())
        words, answer = asked.parts[-1][1], asked.answer
        text, rest = words.split("\n", 1)
    else:
        answer = "Yes" if so else "No"
        rest = YES_NO_INSTRUCTION if rng.random() < 0.5 else ""
    shown = [part for part in parts if part[0] == "frame"]
    query = [part for part in parts if part[0] == "image"]
    after = [("text", "\n" + rest)] if rest else []
    return Prompt((*shown, ("text", text), *query, *after), tuple(pictures), answer)


def comparing(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """Two moments of a clip in any order, each jittered, and what differs between them.

    The second is shown beside the first, or alone after the words.
    """
    a = int(rng.integers(len(clip.frames)))
    far = [k for k in range(len(clip.frames)) if abs(clip.time[k] - clip.time[a]) >= APART]
    b = a if rng.random() < SAME_SHARE else int(rng.choice(far))
    shown = tuple(jittered(clip.frames[k], draw_jitter(rng)) for k in (a, b))
    beside = bool(rng.random() < 0.5)
    pictures = [("frame", 0), ("frame" if beside else "image", 1)]
    if rng.random() < YES_NO_SHARE:
        text, so = differences.yes_no_question(clip.scene, clip.timeline, a, b, rng)
        return [yes_no(text, so, shown, pictures, rng)]
    text, answer = differences.difference_question(clip.scene, clip.timeline, a, b, rng)
    parts = [*pictures, ("text", text)] if beside else [pictures[0], ("text", text), pictures[1]]
    return [Prompt(tuple(parts), shown, answer)]


def recognising(clip: SceneClip, other: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """A few moments of a clip, and whether another view is one of them.

    A view that is not comes from a moment of the clip far from those shown, or of `other`.
    """
    count = int(rng.integers(*RECOGNISED))
    rows = sorted(rng.choice(len(clip.frames), count, replace=False).tolist())
    so = bool(rng.random() < 0.5)
    time = clip.time
    far = [row for row in range(len(time)) if min(abs(time[row] - time[k]) for k in rows) >= APART]
    if so:
        view = clip.frames[int(rng.choice(rows))]
    elif far and clip.scene.speed != "frozen":
        view = clip.frames[int(rng.choice(far))]
    else:
        view = other.frames[int(rng.integers(len(other.frames)))]
    pictures = [clip.frames[row] for row in rows] + [jittered(view, draw_jitter(rng))]
    parts = [("frame", n) for n in range(count)] + [("image", count)]
    text = RECOGNISE[int(rng.integers(len(RECOGNISE)))]
    return [yes_no(text, so, pictures, parts, rng)]


def naming(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """One moment, and the things in it from left to right."""
    row = int(rng.integers(len(clip.frames)))
    text, answer = differences.things_question(clip.scene, clip.timeline, row, rng)
    parts = [("frame" if rng.random() < 0.5 else "image", 0), ("text", text)]
    return [Prompt(tuple(parts), (jittered(clip.frames[row], draw_jitter(rng)),), answer)]


def conversation(
    clip: SceneClip, other: SceneClip, fps: float, rng: np.random.Generator
) -> list[Prompt]:
    """Frames at `fps` from a drawn start, then a caption and a question, or two questions.

    A share of conversations is `reading`, `comparing`, `recognising`, `naming` or `echo` instead.

    A question comes with four options and is answered by a letter, or comes alone and is answered
    in words.
    """
    scene = clip.scene
    kinds = {
        "reading": READING_SHARE,
        "comparing": COMPARING_SHARE * (scene.speed != "frozen"),
        "recognising": RECOGNISING_SHARE,
        "naming": NAMING_SHARE,
        "echo": ECHO_SHARE,
    }
    kind = rng.choice([*kinds, "video"], p=[*kinds.values(), 1 - sum(kinds.values())])
    if kind == "reading":
        return reading(scene, rng)
    if kind == "comparing":
        return comparing(clip, rng)
    if kind == "recognising":
        return recognising(clip, other, rng)
    if kind == "naming":
        return naming(clip, rng)
    if kind == "echo":
        return echo(rng)
    most = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    length = clip.time[-1] - clip.time[0]
    rows = rows_at_fps(
        clip.time, fps, most, start=float(rng.uniform(0, max(0.0, length - (most - 1) / fps)))
    )
    frames = [clip.frames[row] for row in rows]
    asked: list[tuple[str, Sequence[str] | None, int | str]] = []
    tasks = questions.tasks(scene)
    if rng.random() < CAPTION_SHARE or len(tasks) < 2:
        question, answer = questions.caption(scene, rng)
        asked.append((question, None, answer))
    for n in rng.permutation(len(tasks))[: 2 - len(asked)]:
        question, options, right = questions.scene_question(scene, tasks[n], rng)
        choice = rng.random() < CHOICE_SHARE
        asked.append((question, options, right) if choice else (question, None, options[right]))
    turns = []
    for n in rng.permutation(len(asked)):
        question, options, answer = asked[n]
        shown = frames if not turns else []
        if options is not None:
            turns.append(scene_prompt((question, options, answer), shown))
        else:
            parts = [("frame", k) for k in range(len(shown))] + [("text", question)]
            turns.append(Prompt(tuple(parts), tuple(shown), answer))
    return turns


@dataclasses.dataclass(frozen=True)
class SceneBatches:
    """`batches(i)` is batch i: conversations about random clips, a pure function of (seed, i).

    Attributes:
      letter_weight: loss weight of letters, Yes and No: one token is all the signal of a question.
      accumulate: micro-batches a step; with more than one, every field has them as leading axis.
    """

    clips: Sequence[SceneClip]
    chat: Chat
    shape: Shape
    pad_token_id: int
    fps: float
    seed: int
    letter_weight: float = 3.0
    accumulate: int = 1

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        return micro_batches(self._micro, i, self.accumulate)

    def _micro(self, i: int) -> dict[str, np.ndarray]:
        rng = philox("scenes", self.seed, i)
        rows: list[list[Encoded]] = [[] for _ in range(self.shape.rows)]
        left = [self.shape.length] * self.shape.rows
        room = self.shape.images
        tries = misses = 0
        while misses < MISSES:
            clip, other = (self.clips[n] for n in rng.integers(len(self.clips), size=2))
            example = self.chat.encode(conversation(clip, other, self.fps, rng))
            if len(example.tokens) > self.shape.length:
                tries += 1  # drawn again: long captions with long questions
                if tries > REDRAWS * self.shape.rows:
                    raise ValueError(
                        f"batch {i}: {tries} conversations, the last of {len(example.tokens)} "
                        f"tokens, do not fit a row of {self.shape.length} tokens; make rows longer"
                    )
                continue
            row = next((n for n, free in enumerate(left) if free >= len(example.tokens)), None)
            if row is None or len(example.images) > room:
                misses += 1
                continue
            misses = 0
            rows[row].append(example)
            left[row] -= len(example.tokens)
            room -= len(example.images)
        batch = collate(
            rows,
            self.shape,
            image_token_id=self.chat.image_token_id,
            pad_token_id=self.pad_token_id,
        )
        short = [self.chat.candidate(text, end=False)[0] for text in (*LETTERS, "Yes", "No")]
        weights = batch["loss_weights"]
        weights[np.isin(batch["targets"], short) & (weights > 0)] = self.letter_weight
        return batch


def vocabulary(scenes: Mapping[str, Scene] | Sequence[Scene], seed: int = 0) -> list[str]:
    """Texts that the world's captions and questions are made of, to train a tokenizer on."""
    scenes = list(scenes.values()) if isinstance(scenes, Mapping) else list(scenes)
    texts = 100 * [*RECOGNISE, *SAY, *"12345", YES_NO_INSTRUCTION, "Which is"]
    for scene in scenes:
        rng = philox("vocabulary", seed, scene.video_id)
        texts += questions.caption(scene, rng)
        texts += differences.vocabulary(scene)
        for task in questions.tasks(scene):
            prompt = scene_prompt(questions.scene_question(scene, task, rng), ())
            texts += [value for kind, value in prompt.parts if kind == "text"]
    return texts
