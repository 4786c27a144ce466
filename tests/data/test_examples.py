"""Samples as tokens: the frames they show, what is left out where a row is short, clear errors."""

import copy
import pickle
import shutil

import numpy as np
import pytest

from tests.data import made_up, mixed
from tests.prompts import test_media
from vjax.data.examples import TooLong
from vjax.data.footage import StoredFootage
from vjax.data.packing import LEFT_OUT
from vjax.data.samples import BadRow, Medium
from vjax.video import errors
from vjax.video.read import read_frames
from vjax.video.strategies import Sampling, choose


@pytest.fixture
def make(files, tmp_path):
    """make(rows=None, **options): `mixed.examples`."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    return lambda some=None, **options: mixed.examples(tmp_path, some, **options)


def asked(text, **media):
    content = [{"role": "user", "content": text}, {"role": "assistant", "content": "A red box."}]
    return {"messages": content} | media


def test_sizes_are_those_of_what_is_encoded(make):
    examples = make()
    sizes = examples.sizes(range(24))
    for n in range(24):
        encoded = examples.encode(n, epoch=None)
        assert sizes[n].tolist() == [len(encoded.tokens), len(encoded.images)]


@pytest.mark.parametrize("epoch", [None, 0, 1])
@pytest.mark.parametrize("kind", ["uniform", "fps", "stride", "segments", "window", "views"])
def test_no_choice_of_frames_is_larger_than_planned(make, kind, epoch):
    rule = Sampling(kind, frames=3, fps=4.0, min_frames=2, max_frames=5, stride=3, views=2)
    examples = make(rule=rule)
    planned = examples.sizes(range(24))
    for n in range(24):
        encoded = examples.encode(n, epoch)
        assert len(encoded.tokens) <= planned[n, 0]
        assert len(encoded.images) <= planned[n, 1]


def test_pixels_are_those_of_the_frames_that_the_rule_chooses(make):
    examples = make()
    source = examples.footage.index.find("v0.mp4").source
    rows = choose(Sampling(frames=4), source.times).ravel()
    expected = read_frames(source, rows, size=16, resize="swscale")
    np.testing.assert_array_equal(np.stack(examples.encode(0, None).images), expected)


def test_training_draws_other_frames_each_epoch_and_the_same_ones_again(make):
    examples = make(rule=Sampling("segments", frames=3))
    drawn = [np.stack(examples.encode(0, epoch).images) for epoch in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_cut_shows_frames_inside_it_alone(make):
    frames = make().footage.frames(Medium("video", make().sample(3).media[0].path, 0.5, 1.2))
    np.testing.assert_allclose(frames.times, np.arange(5, 12) / 10)
    assert frames.first == 5


def test_a_cut_without_a_frame_is_named(make):
    examples = make([asked("<video>?", videos=[{"path": "v1.mp4", "start": 7.0}])])
    with pytest.raises(
        errors.TooFewFrames, match=r"v1.mp4: no frame from 7.0 to None s; it has 20"
    ):
        examples.layout(0)


def test_an_image_is_upright_and_whole(make):
    (image,) = make().encode(2, None).images
    np.testing.assert_array_equal(image, np.full((16, 16, 3), 200))


def test_fewer_frames_where_the_row_is_short(make):
    two = [asked("<video><video>Tell me.", videos=["v0.mp4", "v1.mp4"])]
    whole = make(two, rule=Sampling(frames=8)).layout(0)
    assert whole.counts == (8, 8)
    each = made_up.chat().patches + 1  # its boundary too
    short = make(two, rule=Sampling(frames=8), length=whole.tokens - 5 * each).layout(0)
    assert sum(short.counts) == 11
    assert short.tokens == whole.tokens - 5 * each
    assert make(two, rule=Sampling(frames=8), pictures=7).layout(0).counts == (4, 3)
    assert make(two, rule=Sampling(frames=8), budgets=[3]).layout(0).counts == (3, 3)


def spread(examples):
    """The same for a model whose videos are always as long."""
    examples.chat = test_media.chat()
    return examples


def test_each_of_two_videos_is_one(make):
    row = asked("<video><video>Which?", videos=["v0.mp4", "v1.mp4"])
    examples = spread(make([row], rule=Sampling(frames=5)))
    assert (examples.encode(0, None).vision >= 0).sum() == 2 * 8 * 5


def test_a_video_that_fewer_frames_make_no_shorter(make):
    examples = spread(make([asked("<video>Tell me.", videos=["v0.mp4"])], length=30))
    with pytest.raises(TooLong, match="53 tokens and 4 pictures at least, a row holds 30"):
        examples.layout(0)


def test_what_fits_no_row_is_an_error_or_left_out(make):
    long = [asked("<video>" + "Tell me what you see. " * 30, videos=["v0.mp4"]), mixed.rows(1)[0]]
    with pytest.raises(TooLong, match=r"rows.jsonl:1: \d+ tokens and 1 pictures at least, a row"):
        make(long, length=120).sizes([0, 1])
    told = []
    skipping = make(long, length=120, on_long="skip", on_left_out=lambda *it: told.append(it))
    sizes = skipping.sizes([0, 1])
    assert sizes[0].tolist() == [LEFT_OUT, LEFT_OUT]
    assert sizes[1, 0] > 0
    assert [number for number, _ in told] == [0]


def test_images_are_never_left_out_to_make_room(make):
    rows = [asked("<image><image><image>?", images=["i0.png", "i1.jpg", "i0.png"])]
    with pytest.raises(TooLong, match="3 pictures at least, a row holds 256 and 2"):
        make(rows, pictures=2).layout(0)


def test_a_text_that_is_too_long_loses_turns_and_never_the_answer(make):
    turns = [
        part
        for n in range(6)
        for part in (
            {"role": "user", "content": f"Tell me {n}."},
            {"role": "assistant", "content": f"It is {n}."},
        )
    ]
    examples = make([{"messages": turns}], length=60)
    text = made_up.chat().tokenizer.decode(examples.encode(0, None).tokens.tolist())
    assert "It is 5." in text
    assert "It is 0." not in text
    assert len(examples.encode(0, None).tokens) <= 60


def test_a_question_that_is_too_long_loses_its_end(make):
    examples = make([asked("Tell me what you see. " * 40)], length=50)
    encoded = examples.encode(0, None)
    assert len(encoded.tokens) <= 50
    said = made_up.chat().tokenizer.decode(encoded.tokens[encoded.answer].tolist())
    assert said.startswith("A red box.")
    assert len(encoded.tokens) > 40  # no more than needed


def test_an_answer_that_fits_no_row_is_named(make):
    row = {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a" * 99}]
    }
    with pytest.raises(TooLong, match="rows.jsonl:1"):
        make([row], length=20).layout(0)


def test_a_special_token_in_a_text_names_the_row(make):
    with pytest.raises(BadRow, match=r"rows.jsonl:1: .*special token '<\|end\|>'"):
        make([asked("What is <|end|>?")]).layout(0)


def test_a_system_message_where_the_template_has_none(make):
    row = asked("Tell me.")
    row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    with pytest.raises(BadRow, match="rows.jsonl:1: .*no system message"):
        make([row]).layout(0)


def test_a_prompt_of_the_source_follows_each_question(make):
    examples = make([asked("Tell me.")], prompt="In one word.")
    text = made_up.chat().tokenizer.decode(examples.encode(0, None).tokens.tolist())
    assert "Tell me.\nIn one word." in text


def test_a_bad_file_leaves_its_rows_out(make, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    rows = [asked("<video>?", videos=["bad.mp4"]), mixed.rows(1)[0]]
    told = []
    sizes = make(rows, on_bad="skip", on_left_out=lambda *it: told.append(it)).sizes([0, 1])
    assert (sizes[:, 0] == LEFT_OUT).tolist() == [True, False]
    assert told[0][0] == 0
    assert "bad.mp4" in str(told[0][1])


def test_a_file_that_is_not_in_the_index(make):
    with pytest.raises(KeyError, match="no row for .*other.mp4"):
        make([asked("<video>?", videos=["other.mp4"])]).layout(0)


def test_footage_travels_without_its_children(make, tmp_path):
    shown = make().footage
    _ = shown.reader
    other = pickle.loads(pickle.dumps(shown))
    assert other._reader is None
    frames = other.frames(Medium("video", tmp_path / "v2.mp4"))
    np.testing.assert_array_equal(other.read(frames, [3]), shown.read(frames, [3]))


def test_frames_of_a_store_are_those_of_the_files(make, tmp_path):
    examples = make()
    stored = StoredFootage(
        mixed.store_of(tmp_path), tmp_path, examples.footage.index, examples.footage.open_reader,
        size=16, resize="swscale",
    )  # fmt: skip
    other = copy.copy(examples)
    other.footage = pickle.loads(pickle.dumps(stored))
    for n in range(7):
        assert other.layout(n).counts == examples.layout(n).counts
        before = stored.spent[0]
        one, two = examples.encode(n, 0), other.encode(n, 0)
        np.testing.assert_array_equal(one.tokens, two.tokens)
        for a, b in zip(one.images, two.images, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 4  # JPEG
        assert stored.spent[0] == before
    cut = Medium("video", tmp_path / "v0.mp4", 0.5, 1.2)
    np.testing.assert_array_equal(stored.frames(cut).times, examples.footage.frames(cut).times)
    stored.read(stored.frames(cut), [0])
    assert stored.spent[0] == before + 1


def test_motion_between_stored_frames(make, tmp_path):
    examples = make()
    store = mixed.store_of(tmp_path, motion=True)
    stored = StoredFootage(
        store,
        tmp_path,
        examples.footage.index,
        examples.footage.open_reader,
        size=16,
        resize="swscale",
    )
    frames = stored.frames(Medium("video", tmp_path / "v1.mp4"))
    np.testing.assert_array_equal(frames.motion, store.motion("v1.mp4"))


@pytest.mark.parametrize("on_bad", ["error", "skip", "blank"])
def test_a_damaged_record_follows_the_policy(make, tmp_path, on_bad):
    examples = make(on_bad=on_bad)
    store = mixed.store_of(tmp_path)
    made = (examples.footage.index, examples.footage.open_reader)
    stored = StoredFootage(store, tmp_path, *made, size=16, resize="swscale")
    frames = stored.frames(Medium("video", tmp_path / "v1.mp4"))
    for shard in (tmp_path / "store" / "shards").iterdir():
        shard.write_bytes(b"spoilt" * 1000)
    if on_bad == "error":
        with pytest.raises(errors.DamagedRecord, match="v1.mp4"):
            stored.read(frames, [0])
        return
    read = stored.read(frames, [0])
    assert read is None if on_bad == "skip" else not read.any()


def test_a_cut_without_a_frame_is_an_error_of_its_row(make):
    examples = make([asked("<video>?", videos=[{"path": "v1.mp4", "start": 7.0}])])
    with pytest.raises(BadRow, match=r"rows.jsonl:1: .*v1.mp4: no frame from 7.0"):
        examples.sizes([0])
