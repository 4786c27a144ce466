"""Frames where a video is always as many."""

import dataclasses

import numpy as np
import pytest

from tests.data import made_up
from vjax.data.checks import violations
from vjax.data.collate import Shape, collate
from vjax.families.spec import Placeholder, TowerSpec
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat
from vjax.prompts.media import Spread, Squares
from vjax.prompts.pixels import Picture

KINDS = {kind: Placeholder({"type": "text", "text": f"<{kind}>"}, 5) for kind in ("frame", "image")}
TOWER = TowerSpec(16, 1, 2, 16, 16, 8, class_token=True, keep_class=True)
SQUARES = Squares(KINDS, 9, 2, False, TOWER, False)
MEDIA = Spread(**vars(SQUARES), video=8, frame=range(5), still=range(5, 9))


def shown(*runs, kind="frame"):
    frame = np.zeros((16, 16, 3), np.uint8)
    return [
        Picture(kind, (frame,), run=run) for run, count in enumerate(runs) for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("frames", "times"),
    [(1, [8]), (2, [4, 4]), (3, [3, 3, 2]), (5, [2, 2, 1, 2, 1]), (8, [1] * 8)],
)
def test_every_frame_is_shown_as_evenly_as_can_be(frames, times):
    laid = MEDIA.lay(shown(frames))
    assert [one.tokens // 5 for one in laid] == times
    assert [one.places for one in laid] == [(0, 1, 2, 3, 4) * n for n in times]
    assert [one.text for one in laid] == [""] * (frames - 1) + ["<frame>\n"]


def test_runs_are_videos_of_their_own():
    laid = MEDIA.lay(shown(2, 3))
    assert sum(one.tokens for one in laid) == 2 * 8 * 5


def test_a_still_has_the_tokens_of_the_other_tower():
    (laid,) = MEDIA.lay(shown(1, kind="image"))
    assert (laid.tokens, laid.places, laid.text) == (4, (5, 6, 7, 8), "")


def test_a_video_too_long():
    with pytest.raises(ValueError, match="a video of 9 frames: this model is shown 8"):
        MEDIA.lay(shown(9))


def test_sets_of_three_to_five_frames_are_one_length():
    """Which is why counting is refused."""
    lengths = {sum(one.tokens for one in MEDIA.lay(shown(m))) for m in (3, 4, 5)}
    assert lengths == {40}


def chat():
    base = made_up.chat()
    spec = dataclasses.replace(made_up.SPEC, vision=TOWER, still_vision=TOWER, video_frames=8)
    kinds = {
        "frame": Placeholder({"type": "text", "text": "<image>"}, spec.image_token_id),
        "image": Placeholder({"type": "image"}, spec.image_token_id),
    }
    return Chat(base.tokenizer, base.source, spec, dataclasses.replace(MEDIA, kinds=kinds))


def test_neighbouring_frames_of_two_videos_are_two():
    frames = (np.zeros((16, 16, 3), np.uint8),) * 10
    parts = (*(("frame", n) for n in range(10)), ("text", "Which?"))
    asked = Prompt(parts, frames, "Yes", videos=(0,) * 5 + (1,) * 5)
    got = chat().encode(asked)
    assert (got.vision >= 0).sum() == 2 * 8 * 5
    assert chat().length(asked) == len(got.tokens)
    with pytest.raises(ValueError, match="a video of 10 frames"):
        chat().encode(dataclasses.replace(asked, videos=()))


def test_a_batch_of_them_passes_the_checks():
    """Pictures are not shown whole and once there; everything else holds."""
    parts = (("frame", 0), ("frame", 1), ("text", "Which one is this?"), ("image", 2))
    frames = tuple(np.full((16, 16, 3), 50 * n + 50, np.uint8) for n in range(3))
    asked = Prompt(parts, frames, "Yes")
    got = chat().encode(asked)
    assert chat().length(asked) == len(got.tokens)
    batch = collate([[got]], Shape(1, len(got.tokens) + 3, 4, 16, 9), pad_token_id=0)
    index = batch["vision_index"][batch["vision_index"] >= 0]
    assert (index // 9).tolist() == [0] * 20 + [1] * 20 + [2] * 4
    found = violations(batch, patches=9, placeholders=chat().placeholders, whole=False)
    assert not {name: lines for name, lines in found.items() if lines}
    assert any(violations(batch, patches=9, placeholders=chat().placeholders).values())


def test_other_families_show_as_many_units_as_frames():
    lengths = [sum(one.tokens for one in SQUARES.lay(shown(m))) for m in (3, 4, 5)]
    assert lengths == [27, 36, 45]
    assert dataclasses.replace(SQUARES, newline=True).lay(shown(1))[0].tokens == 10
