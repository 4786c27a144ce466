"""Batches: what is in them is what the examples say, and packing loses and changes nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data import made_up
from vjax.data.collate import Shape, collate
from vjax.data.packing import pack
from vjax.prompts.pixels import to_model_size

pytestmark = pytest.mark.smoke


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(50, 90))
def test_pack_neither_loses_nor_repeats_nor_overfills(lengths, room):
    rows = pack(lengths, room)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in row) <= room for row in rows)
    assert all(rows)
    # first-fit: no two rows are both at most half full
    assert sum(sum(lengths[n] for n in row) <= room // 2 for row in rows) <= 1


def test_pack_refuses_an_example_longer_than_a_row():
    with pytest.raises(ValueError, match="example 1: 9 tokens do not fit a row of 8"):
        pack([3, 9], 8)


def test_a_row_of_one_example_is_that_example():
    example = made_up.examples()[2]
    n, P = len(example.tokens), made_up.SPEC.vision.patches
    got = made_up.batch([[example]], length=n + 5, images=5)
    np.testing.assert_array_equal(got["tokens"][0], [*example.tokens, *[made_up.PAD] * 5])
    np.testing.assert_array_equal(got["targets"][0, : n - 1], example.tokens[1:])
    np.testing.assert_array_equal(got["loss_weights"][0, : n - 1], example.answer[1:])
    np.testing.assert_array_equal(got["positions"][0], [*range(n), *[0] * 5])
    np.testing.assert_array_equal(got["segment_ids"][0], [1] * n + [0] * 5)
    slots = got["vision_index"][0]
    np.testing.assert_array_equal(slots[slots >= 0], np.arange(4 * P))
    np.testing.assert_array_equal(slots >= 0, got["tokens"][0] == made_up.IMAGE)
    np.testing.assert_array_equal(got["images"][:4], np.stack(example.images))
    assert not got["images"][4:].any()


def test_the_last_token_of_a_segment_has_no_target():
    a, b = made_up.examples()[:2]
    got = made_up.batch([[a, b]])
    for end in (len(a.tokens) - 1, len(a.tokens) + len(b.tokens) - 1):
        assert got["tokens"][0, end] == made_up.END
        assert got["loss_weights"][0, end] == 0


def test_packed_examples_keep_their_tokens_positions_and_pictures():
    examples = made_up.examples()
    alone = made_up.batch([[e] for e in examples], length=128)
    packed = made_up.batch([examples[:2], examples[2:]], length=128)
    P = made_up.SPEC.vision.patches

    def pictures_of(batch, b, here):
        slots = batch["vision_index"][b, here]
        return batch["images"][slots[slots >= 0][::P] // P]

    for n, example in enumerate(examples):
        row, at = divmod(n, 2)
        size = len(example.tokens)
        start = at * len(examples[2 * row].tokens)
        here, there = slice(start, start + size), slice(0, size)
        for name in ("tokens", "positions"):
            np.testing.assert_array_equal(packed[name][row, here], alone[name][n, there])
        weighed = slice(start, start + size - 1)
        for name in ("targets", "loss_weights"):
            np.testing.assert_array_equal(packed[name][row, weighed], alone[name][n, : size - 1])
        assert set(packed["segment_ids"][row, here]) == {at + 1}
        np.testing.assert_array_equal(pictures_of(packed, row, here), pictures_of(alone, n, there))


def test_dtypes_are_those_of_the_table():
    got = made_up.batch([[e] for e in made_up.examples()])
    want = dict(
        tokens="int32", targets="int32", loss_weights="float32", positions="int32",
        segment_ids="int32", vision_index="int32", images="uint8", item="int64",
    )  # fmt: skip
    assert {name: str(field.dtype) for name, field in got.items()} == want


def test_rows_without_an_example_are_holes():
    shape = Shape(3, 96, 8, 16, 4)
    rows = [[made_up.examples()[0]], []]
    got = collate(rows, shape, pad_token_id=0, items=[7, 8])
    np.testing.assert_array_equal(got["item"], [7, -1, -1])
    assert not got["segment_ids"][1:].any() and not got["loss_weights"][1:].any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(1, 96, 16, 16, 4), "2 rows do not fit a batch of 1"),
        (Shape(2, 40, 16, 16, 4), "row 1: [0-9]+ tokens do not fit a length of 40"),
        (Shape(2, 96, 5, 16, 4), "row 1: the vision buffer of 5 pictures is full"),
        (Shape(2, 96, 16, 16, 9), "row 0: 8 vision tokens for 2 pictures of 9 tokens"),
    ],
)
def test_what_does_not_fit_names_row_and_number(shape, message):
    rows = [[made_up.examples()[0]], [made_up.examples()[2]]]
    with pytest.raises(ValueError, match=message):
        collate(rows, shape, pad_token_id=0)


def test_image_tokens_without_a_picture_are_an_error():
    blind = dataclasses.replace(made_up.examples()[0], images=())
    with pytest.raises(ValueError, match="row 0: 8 vision tokens for 0 pictures"):
        made_up.batch([[blind]])


def test_whole_factors_average_and_others_are_pillows_bicubic():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    assert to_model_size(image, 48) is image
    mean = image.reshape(16, 3, 16, 3, 3).mean((1, 3))
    assert np.abs(to_model_size(image, 16) - mean).max() <= 0.5
    want = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(to_model_size(image, 20), want)
