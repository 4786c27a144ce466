"""What vjax-tiny is pretrained on: conversations about procedural clips whose truth is known.

Nothing asked here speaks of how many frames there are, of their order or of their position: that is
what SF2T has to teach (a test reads the prompts).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vjax.data.collate import to_model_size
from vjax.data.items import rows_at_fps, scene_prompt
from vjax.fragments.common import MCQ_INSTRUCTION, draw_jitter, jittered, lettered
from vjax.fragments.consistency import INSTRUCTION as YES_NO_INSTRUCTION
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.video.frames import Clip
from vjax.video.rng import pick
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
APART = 0.4  # seconds between two moments that are compared
IN_CAPTION = ("action", "effect", "speed", "colour", "shape", "other_colour", "other_shape", "side")
CHOICE_SHARE = 0.5


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

    Any language model can say them. In one trial a base that never had was at a mean loss of 3.2
    over its first 100 steps of SF2T, and its scene answers fell to chance while it learnt to.
    """
    length = int(rng.choice(ECHOED, p=(0.4, 0.2, 0.2, 0.2)))
    drawn = {",".join(map(str, 1 + rng.permutation(5)[:length])) for _ in range(40)}
    some = [sorted(drawn)[n] for n in rng.permutation(len(drawn))[: int(rng.integers(3, 6))]]
    answer = pick(rng, some)
    if rng.random() < CHOICE_SHARE:
        return [scene_prompt((f"Which is {answer}?", some, some.index(answer)), ())]
    return [scene_prompt((f"{pick(rng, SAY)} {answer}.", (), answer), ())]


def yes_no(
    text: str, so: bool, frames: Sequence[np.ndarray], view: np.ndarray | None,
    rng: np.random.Generator,
) -> Prompt:  # fmt: skip
    """A question after its frames, a view that it asks about after it; answered by letter or word.

    Half of the questions in words say how to answer.
    """
    answer, ask = "Yes" if so else "No", ""
    if rng.random() < CHOICE_SHARE:
        options = ("Yes", "No") if rng.random() < 0.5 else ("No", "Yes")
        answer, ask = LETTERS[options.index(answer)], f"{lettered(options)}\n{MCQ_INSTRUCTION}"
    elif rng.random() < 0.5:
        ask = "\n" + YES_NO_INSTRUCTION
    parts = [("frame", n) for n in range(len(frames))] + [("text", text)]
    if view is not None:
        parts.append(("image", len(frames)))
        frames = [*frames, view]
    return Prompt((*parts, *([("text", ask)] if ask else ())), tuple(frames), answer)


def comparing(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """Two moments of a clip in any order, each jittered, and what differs between them.

    The second is shown beside the first, or alone after the words.
    """
    a = int(rng.integers(len(clip.frames)))
    far = [k for k in range(len(clip.frames)) if abs(clip.time[k] - clip.time[a]) >= APART]
    b = a if rng.random() < SAME_SHARE else int(rng.choice(far))
    one, two = (jittered(clip.frames[k], draw_jitter(rng)) for k in (a, b))
    beside = bool(rng.random() < 0.5)
    if rng.random() < YES_NO_SHARE:
        text, so = differences.yes_no_question(clip.scene, clip.timeline, a, b, rng)
        return [yes_no(text, so, (one, two) if beside else (one,), None if beside else two, rng)]
    text, answer = differences.difference_question(clip.scene, clip.timeline, a, b, rng)
    parts = (("frame", 0), ("text", text), ("image", 1))
    if beside:
        parts = (("frame", 0), ("frame", 1), ("text", text))
    return [Prompt(parts, (one, two), answer)]


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
        view = pick(rng, other.frames)
    frames, view = [clip.frames[row] for row in rows], jittered(view, draw_jitter(rng))
    return [yes_no(pick(rng, RECOGNISE), so, frames, view, rng)]


def naming(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """One moment, and the things in it from left to right."""
    row = int(rng.integers(len(clip.frames)))
    text, answer = differences.things_question(clip.scene, clip.timeline, row, rng)
    parts = [("frame" if rng.random() < 0.5 else "image", 0), ("text", text)]
    return [Prompt(tuple(parts), (jittered(clip.frames[row], draw_jitter(rng)),), answer)]


def watching(clip: SceneClip, fps: float, rng: np.random.Generator) -> list[Prompt]:
    """Frames at `fps` from a drawn start, then a caption and a question, or two questions.

    A question comes with four options and is answered by a letter, or comes alone and is answered
    in words.
    """
    scene = clip.scene
    most = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    length = clip.time[-1] - clip.time[0]
    rows = rows_at_fps(
        clip.time, fps, most, start=float(rng.uniform(0, max(0.0, length - (most - 1) / fps)))
    )
    asked: list[tuple[str, Sequence[str], int | str]] = []
    tasks = questions.tasks(scene)
    if rng.random() < CAPTION_SHARE or len(tasks) < 2:
        question, answer = questions.caption(scene, rng)
        asked.append((question, (), answer))
    for n in rng.permutation(len(tasks))[: 2 - len(asked)]:
        question, options, right = questions.scene_question(scene, tasks[n], rng)
        choice = rng.random() < CHOICE_SHARE
        asked.append((question, options, right) if choice else (question, (), options[right]))
    first, *later = (asked[n] for n in rng.permutation(len(asked)))
    shown = [clip.frames[row] for row in rows]
    return [scene_prompt(first, shown), *(scene_prompt(question, ()) for question in later)]


def conversation(
    clip: SceneClip, other: SceneClip, fps: float, rng: np.random.Generator
) -> list[Prompt]:
    """A conversation of one of the kinds, each in its share; most are `watching`."""
    moves = clip.scene.speed != "frozen"
    kinds = {
        "reading": (READING_SHARE, lambda: reading(clip.scene, rng)),
        "comparing": (COMPARING_SHARE * moves, lambda: comparing(clip, rng)),
        "recognising": (RECOGNISING_SHARE, lambda: recognising(clip, other, rng)),
        "naming": (NAMING_SHARE, lambda: naming(clip, rng)),
        "echo": (ECHO_SHARE, lambda: echo(rng)),
    }
    shares = [share for share, _ in kinds.values()]
    kind = rng.choice([*kinds, "watching"], p=[*shares, 1 - sum(shares)])
    return watching(clip, fps, rng) if kind == "watching" else kinds[kind][1]()
