"""Scene questions as items, and the frames they show."""

import numpy as np
import pytest

from tests.data import made_up
from vjax.data.items import SceneItem, rows_at_fps, scene_prompt
from vjax.video.world import questions
from vjax.video.world import scene as scene_lib

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("fps", "most", "start", "rows"),
    [
        (5.0, 4, 0.0, [0, 2, 4, 6]),
        (5.0, 99, 0.0, [0, 2, 4, 6, 8]),
        (10.0, 3, 0.35, [3, 4, 5]),  # the frame on screen is the last one not later
        (3.0, 4, 0.0, [0, 3, 6]),
        (1.0, 5, 0.9, [9]),
    ],
)
def test_rows_are_the_frames_on_screen(fps, most, start, rows):
    time = 7.0 + np.arange(10) / 10
    assert rows_at_fps(time, fps, most, start) == rows


def test_a_scene_item_asks_the_same_every_time_and_is_right():
    scene = scene_lib.sample_scene(5, "test", speed="normal")
    for task in questions.SCENE_TASKS:
        item = SceneItem(scene, "procedural/0", task, 10.0, 6, seed=1)
        one, again = item.prompt(made_up.clip_at), item.prompt(made_up.clip_at)
        assert (one.parts, one.answer) == (again.parts, again.answer)
        assert one.candidates == ("A", "B", "C", "D")
        assert len(one.images) == sum(kind == "frame" for kind, _ in one.parts) == 6
        lines = one.parts[-1][1].splitlines()
        right = next(line for line in lines if line.startswith(f"{one.answer}. ")).split(". ")[1]
        rng = np.random.default_rng(0)
        _, options, index = questions.scene_question(scene, task, rng)
        assert right == options[index]


def test_a_scene_prompt_letters_its_options():
    prompt = scene_prompt(("What is the speed?", ("slow", "fast"), 1), ())
    assert prompt.parts == (
        ("text", "What is the speed?\nA. slow\nB. fast\nAnswer with the letter."),
    )
    assert (prompt.answer, prompt.candidates) == ("B", ("A", "B"))
