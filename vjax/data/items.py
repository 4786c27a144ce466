"""Items: one question each, ready to become tokens; batches and evaluations are made of them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vjax.fragments import Record, render
from vjax.fragments.common import MCQ_INSTRUCTION, lettered
from vjax.fragments.record import LETTERS
from vjax.prompts import Prompt
from vjax.video.frames import Clip, on_screen
from vjax.video.rng import philox
from vjax.video.world import questions
from vjax.video.world.scene import Scene


@dataclasses.dataclass(frozen=True)
class FragmentItem:
    """A fragment record and how to get its clip's pixels."""

    record: Record
    key: str

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def images(self) -> int:
        """Pictures this item shows, known without rendering it."""
        if self.record.task == "consistency":
            return 2
        return self.record.M + (1 if self.record.variant.startswith("query") else 0)

    def prompt(self, clip_of: Callable[[str], Clip]) -> Prompt:
        return render(self.record, clip_of(self.key))


@dataclasses.dataclass(frozen=True)
class SceneItem:
    """A scene question (Action, Effect, Speed) about a procedural clip whose truth is known."""

    scene: Scene
    key: str
    task: str
    fps: float
    frames: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.scene.video_id}/{self.task}"

    def rows(self, clip: Clip) -> list[int]:
        """Which of the clip's frames are shown."""
        return rows_at_fps(clip.table.time, self.fps, self.frames)

    def prompt(self, clip_of: Callable[[str], Clip]) -> Prompt:
        """The clip from its start at `fps`, at most `frames` frames, then the question."""
        clip = clip_of(self.key)
        rows = self.rows(clip)
        rng = philox("scene", self.seed, self.scene.video_id, self.task)
        return scene_prompt(
            questions.scene_question(self.scene, self.task, rng), [clip.frames[r] for r in rows]
        )


def rows_at_fps(time: np.ndarray, fps: float, most: int, start: float = 0.0) -> list[int]:
    """Rows of the frames on screen at start, start + 1/fps, ... seconds, at most `most`."""
    wanted = time[0] + start + np.arange(most) / fps
    wanted = wanted[wanted <= time[-1] + 1e-6]
    return on_screen(time, wanted).tolist()


def scene_prompt(
    question: tuple[str, Sequence[str], int | str], frames: Sequence[np.ndarray]
) -> Prompt:
    """A question (text, options, answer) after its frames.

    With options, up to five, the answer is the index of one and is said by its letter; without, it
    is a text.
    """
    text, options, answer = question
    letters = LETTERS[: len(options)]
    if options:
        text, answer = f"{text}{lettered(options)}\n{MCQ_INSTRUCTION}", letters[answer]
    parts = [("frame", n) for n in range(len(frames))] + [("text", text)]
    return Prompt(tuple(parts), tuple(frames), answer, tuple(letters), tuple(options))
