"""Rows of every known form, and what is wrong with those that are none."""

from pathlib import Path

import pytest

from vjax.data.samples import BadRow, Medium, Turn, read_row

ROOT = Path("/corpus")
VIDEO, IMAGE = Medium("video", ROOT / "a.mp4"), Medium("image", ROOT / "b.jpg")


def read(row):
    return read_row(row, "rows.json:7", ROOT)


LLAVA = {
    "id": "x1",
    "video": "a.mp4",
    "conversations": [
        {"from": "human", "value": "<video>\nWhat happens?"},
        {"from": "gpt", "value": "A dog runs."},
        {"from": "human", "value": "Where?"},
        {"from": "gpt", "value": "On grass."},
    ],
}
SWIFT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<image>What is here, and <video>here?"},
        {"role": "assistant", "content": "A cat. A dog."},
    ],
    "images": ["b.jpg"],
    "videos": ["a.mp4"],
}
OPENAI = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "video_url", "video_url": {"url": "a.mp4"}},
                {"type": "text", "text": "And this?"},
                {"type": "image", "image": "file:///corpus/b.jpg"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    ]
}


def test_llavas_conversations():
    sample = read(LLAVA)
    assert sample.id == "x1" and sample.system == ""
    assert sample.turns == (
        Turn((VIDEO, "What happens?"), "A dog runs."),
        Turn(("Where?",), "On grass."),
    )


def test_messages_with_lists_of_media():
    sample = read(SWIFT)
    assert (sample.id, sample.system) == ("rows.json:7", "Be brief.")
    asked = (IMAGE, "What is here, and ", VIDEO, "here?")
    assert sample.turns == (Turn(asked, "A cat. A dog."),)
    assert sample.media == [IMAGE, VIDEO]


def test_content_parts():
    (turn,) = read(OPENAI).turns
    assert turn == Turn((VIDEO, "And this?", IMAGE), "A cat.")


def test_text_alone():
    (turn,) = read({"messages": [_said("user", "Hi"), _said("assistant", "Hello")]}).turns
    assert turn == Turn(("Hi",), "Hello")


def test_media_without_a_placeholder_come_first():
    row = {"messages": [_said("user", "What?"), _said("assistant", "That.")], "videos": ["a.mp4"]}
    assert read(row).turns[0].asked == (VIDEO, "What?")


@pytest.mark.parametrize(
    "more",
    [
        {"videos": [{"path": "a.mp4", "start": 2, "end": 5.5}]},
        {"video": "a.mp4", "start": 2, "end": 5.5},
        {"video": {"video": "a.mp4", "video_start": 2, "video_end": 5.5}},
    ],
)
def test_a_video_may_be_cut(more):
    row = {"messages": [_said("user", "What?"), _said("assistant", "That.")], **more}
    assert read(row).media == [Medium("video", ROOT / "a.mp4", 2.0, 5.5)]


def test_absolute_paths_stay():
    assert read(LLAVA | {"video": "/else/a.mp4"}).media[0].path == Path("/else/a.mp4")


def _said(role, content):
    return {"role": role, "content": content}


ASK, REPLY = _said("user", "What?"), _said("assistant", "That.")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (["x"], "a list, no object"),
        ({"text": "x"}, "neither conversations nor messages among text"),
        (LLAVA | {"video": ["a.mp4", "b.mp4"]}, "1 <video> in the texts, 2 videos in the row"),
        (LLAVA | {"video": None}, "1 <video> in the texts, 0 videos"),
        (LLAVA | {"image": "b.jpg"}, "0 <image> in the texts, 1 images"),
        (OPENAI | {"videos": ["c.mp4"]}, "both in content parts and in lists"),
        ({"messages": [ASK]}, "turns are user; user and assistant must alternate"),
        ({"messages": [REPLY, ASK]}, "turns are assistant, user"),
        ({"messages": [ASK, _said("assistant", " ")]}, "answer 1 is empty"),
        ({"messages": [ASK, _said("tool", "x")]}, "message 1 is from 'tool'"),
        ({"messages": ["x"]}, "message 0 is a str"),
        ({"messages": [_said("user", None), REPLY]}, "message 0 has neither"),
        ({"messages": [_said("user", [{"type": "audio"}]), REPLY]}, "type 'audio'"),
        ({"messages": [ASK, REPLY], "videos": ["http://x/a.mp4"]}, "only files are read"),
        ({"messages": [ASK, REPLY], "videos": [{"start": 1}]}, "a video without a path"),
        ({"messages": [ASK, REPLY], "video": "a.mp4", "start": 3, "end": 2}, "ends at 2.0 s"),
        ({"messages": [ASK, REPLY], "video": "a.mp4", "start": "3"}, "start is '3'"),
    ],
)
def test_rows_that_are_none(row, match):
    with pytest.raises(BadRow, match=match) as caught:
        read(row)
    assert str(caught.value).startswith("rows.json:7: ")


@pytest.mark.parametrize(
    ("key", "meant"), [("vidoe", "video"), ("vdeos", "videos"), ("imges", "images")]
)
def test_a_slip_in_a_field_is_named(key, meant):
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    with pytest.raises(BadRow, match=f"a:3: it has '{key}'; did you mean '{meant}'"):
        read_row({"messages": said, key: "a.mp4"}, "a:3", ".")


@pytest.mark.parametrize("key", ["video_id", "videoid", "image_size", "task", "source", "idx"])
def test_other_fields_mean_nothing(key):
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    assert not read_row({"messages": said, key: "x"}, "a:3", ".").media
