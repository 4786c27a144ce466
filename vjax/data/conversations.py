"""What vjax-tiny is pretrained on: conversations about procedural clips whose truth is known.

Nothing asked here speaks of how many frames there are, of their order or of their position: that is
what SF2T has to teach (a test reads the prompts).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from vjax.data import words
from vjax.data.items import rows_at_fps, scene_prompt
from vjax.fragments.common import draw_jitter, jittered
from vjax.fragments.localization import draw_patch, paste
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.prompts.pixels import to_model_size
from vjax.video.frames import Clip
from vjax.video.rng import pick
from vjax.video.world import differences, motion, questions
from vjax.video.world.scene import Scene

FRAMES = (3, 6)
YES_NO_SHARE = 0.7  # of comparisons; the others are described
SAME_SHARE = 0.25  # of comparisons: one moment seen twice
MATCHED = (2, 6)  # moments shown, the upper bound left out
ASKED = 3  # questions about the same moments: with one of them 6,000 steps taught nothing
SPOT = ("Which has a noise patch?", "Which shows a noise patch?", "Find the noise patch.")
IS_SPOTTED = ("Is there a noise patch?", "Do you see a noise patch?", "Is a noise patch there?")
MIXED_SHARE = 0.4  # of matches: moments of two clips
APART = 0.4  # seconds between two moments that are compared


@dataclasses.dataclass(frozen=True)
class Mix:
    """Shares of the kinds of conversation; what they leave is `watching`.

    Attributes:
      caption: share of watched clips that are described, beside a question.
    """

    words: float
    comparing: float
    matching: float
    spotting: float
    naming: float
    caption: float


TALK = Mix(words=0.06, comparing=0.3, matching=0.22, spotting=0.12, naming=0.04, caption=0.4)
WATCH = Mix(words=0.04, comparing=0.12, matching=0.04, spotting=0.04, naming=0.02, caption=0.3)
RECALL = Mix(words=0.06, comparing=0.15, matching=0.04, spotting=0.25, naming=0.02, caption=0.3)


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


def asking(
    text: str, so: bool, frames: Sequence[np.ndarray], view: np.ndarray | None,
    rng: np.random.Generator,
) -> Prompt:  # fmt: skip
    """A yes-or-no question after its frames, a view that it asks about after it."""
    ask, answer = words.yes_no(so, rng)
    parts = [("frame", n) for n in range(len(frames))] + [("text", text)]
    if view is not None:
        parts.append(("image", len(frames)))
        frames = [*frames, view]
    return Prompt((*parts, *([("text", ask)] if ask else ())), tuple(frames), answer)


def comparing(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """Two moments of a clip in any order, each jittered; what differs, or whether; then whether.

    The second is shown beside the first, or alone after the words.
    """
    a = int(rng.integers(len(clip.frames)))
    far = [k for k in range(len(clip.frames)) if abs(clip.time[k] - clip.time[a]) >= APART]
    b = a if rng.random() < SAME_SHARE else int(rng.choice(far))
    one, two = (jittered(clip.frames[k], draw_jitter(rng)) for k in (a, b))
    beside = bool(rng.random() < 0.5)
    pair = (clip.scene, clip.timeline, a, b, rng)
    if rng.random() < YES_NO_SHARE:
        first = asking(
            *differences.yes_no_question(*pair), (one, two) if beside else (one,),
            None if beside else two, rng,
        )  # fmt: skip
    else:
        text, answer = differences.difference_question(*pair)
        shown = [("frame", 0), ("frame" if beside else "image", 1)]
        shown.insert(2 if beside else 1, ("text", text))
        first = Prompt(tuple(shown), (one, two), answer)
    return [first, asking(*differences.yes_no_question(*pair), (), None, rng)]


def matching(clip: SceneClip, other: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """A few moments, each after a letter, and other views of some: which letters?

    Moments are of one clip, or of two.
    """
    count = int(rng.integers(*MATCHED))
    if rng.random() < MIXED_SHARE or clip.scene.speed == "frozen":
        still = other.scene.speed == "frozen"
        frames = [*apart(clip, 1, rng), *apart(other, 1 if still else count - 1, rng)]
    else:
        frames = apart(clip, count, rng)
    frames = [frames[k] for k in rng.permutation(len(frames))]
    return lettered_frames(frames, [found(frames, n, rng) for n in some(frames, rng)], rng)


def some(frames: Sequence[np.ndarray], rng: np.random.Generator) -> list[int]:
    """Which of the frames are asked for; of many one less, for a row's length."""
    return rng.permutation(len(frames))[: ASKED - (len(frames) > 4)].tolist()


def found(
    frames: Sequence[np.ndarray], n: int, rng: np.random.Generator
) -> tuple[str, int, np.ndarray | None]:
    """The question for frame n by another view of it."""
    return pick(rng, words.FIND), n, jittered(frames[n], draw_jitter(rng))


def lettered_frames(
    frames: Sequence[np.ndarray], asked: Sequence[tuple[str, int, np.ndarray | None]],
    rng: np.random.Generator,
) -> list[Prompt]:  # fmt: skip
    """Frames that each follow a letter, then questions (text, which frame, a view), a turn each.

    The letters are names: they come in any order.
    """
    kind = "frame" if rng.random() < 0.5 else "image"
    letters = [LETTERS[k] for k in rng.permutation(len(LETTERS))[: len(frames)]]
    shown = []
    for n, letter in enumerate(letters):
        shown += [("text", f"{letter}."), (kind, n)]
    turns, images = [], tuple(frames)
    for text, right, view in asked:
        parts = [*shown, ("text", text)]
        if view is not None:
            parts.append(("image", len(images)))
            images = (*images, view)
        turns.append(Prompt(tuple(parts), images, letters[right], tuple(sorted(letters))))
        shown, images = [], ()
    return turns


def spotting(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """A patch of noise: in which of a few moments, then moments by views; or: is there one?"""
    patch = draw_patch(rng)
    if rng.random() < 0.5:
        so, frames = bool(rng.random() < 0.5), apart(clip, int(rng.integers(1, MATCHED[1])), rng)
        if so:
            noisy = rng.random(len(frames)) < 0.5
            noisy[rng.integers(len(frames))] = True
            frames = [patched(f, patch) if n else f for f, n in zip(frames, noisy, strict=True)]
        return [asking(pick(rng, IS_SPOTTED), so, frames, None, rng)]
    clean = apart(clip, int(rng.integers(*MATCHED)), rng)
    right = int(rng.integers(len(clean)))
    frames = [*clean[:right], patched(clean[right], patch), *clean[right + 1 :]]
    others = [found(clean, n, rng) for n in some(frames, rng)[1:]]
    return lettered_frames(frames, [(pick(rng, SPOT), right, None), *others], rng)


def patched(frame: np.ndarray, patch: dict) -> np.ndarray:
    """The frame with noise pasted in at twice its size, as fragments have it before they shrink."""
    return to_model_size(paste(frame.repeat(2, 0).repeat(2, 1), patch), len(frame))


def apart(clip: SceneClip, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One to `count` moments of a clip, at least `APART` from each other."""
    rows: list[int] = []
    for row in rng.permutation(len(clip.frames)):
        if len(rows) < count and all(abs(clip.time[row] - clip.time[k]) >= APART for k in rows):
            rows.append(int(row))
    return [clip.frames[row] for row in rows]


def naming(clip: SceneClip, rng: np.random.Generator) -> list[Prompt]:
    """One moment, and the things in it from left to right."""
    row = int(rng.integers(len(clip.frames)))
    text, answer = differences.things_question(clip.scene, clip.timeline, row, rng)
    parts = [("frame" if rng.random() < 0.5 else "image", 0), ("text", text)]
    return [Prompt(tuple(parts), (jittered(clip.frames[row], draw_jitter(rng)),), answer)]


def watching(
    clip: SceneClip, fps: float, rng: np.random.Generator, caption_share: float
) -> list[Prompt]:
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
    if rng.random() < caption_share or len(tasks) < 2:
        question, answer = questions.caption(scene, rng)
        asked.append((question, (), answer))
    for n in rng.permutation(len(tasks))[: 2 - len(asked)]:
        question, options, right = questions.scene_question(scene, tasks[n], rng)
        choice = rng.random() < words.CHOICE_SHARE
        asked.append((question, options, right) if choice else (question, (), options[right]))
    first, *later = (asked[n] for n in rng.permutation(len(asked)))
    shown = [clip.frames[row] for row in rows]
    return [scene_prompt(first, shown), *(scene_prompt(question, ()) for question in later)]


def conversation(
    clip: SceneClip, other: SceneClip, fps: float, rng: np.random.Generator, mix: Mix = TALK
) -> list[Prompt]:
    """A conversation of one of the kinds, each in its share."""
    moves = clip.scene.speed != "frozen"
    kinds = {
        "words": (mix.words, lambda: words.conversation(clip.scene, rng)),
        "comparing": (mix.comparing * moves, lambda: comparing(clip, rng)),
        "matching": (mix.matching, lambda: matching(clip, other, rng)),
        "spotting": (mix.spotting, lambda: spotting(clip, rng)),
        "naming": (mix.naming, lambda: naming(clip, rng)),
    }
    rest = 1 - sum(share for share, _ in kinds.values())
    watch = (rest, lambda: watching(clip, fps, rng, mix.caption))
    return words.one_of(kinds | {"watching": watch}, rng)


def about(
    clips: Sequence[SceneClip], fps: float, mix: Mix = TALK
) -> Callable[[np.random.Generator], list[Prompt]]:
    """Draws conversations about random clips."""

    def draw(rng: np.random.Generator) -> list[Prompt]:
        clip, other = (clips[n] for n in rng.integers(len(clips), size=2))
        return conversation(clip, other, fps, rng, mix)

    return draw
