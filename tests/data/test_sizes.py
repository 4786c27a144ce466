"""Sizes kept on disk: what was computed is not computed again, by whoever asks."""

import copy
import os
import pickle
import shutil

import numpy as np
import pytest

from tests.data import made_up, mixed
from vjax.data.packing import LEFT_OUT
from vjax.data.sizes import KeptSizes, name_of
from vjax.prompts.chat import Chat
from vjax.prompts.tokenizer import TINY_TEMPLATE
from vjax.video.strategies import Sampling

TOTAL = 40
asked: list[int] = []


def compute(numbers):
    """Of sample n, n + 1 tokens and n % 3 pictures; every seventh is left out."""
    asked.extend(int(n) for n in numbers)
    sizes = np.stack([np.asarray(numbers) + 1, np.asarray(numbers) % 3], 1)
    sizes[np.asarray(numbers) % 7 == 6] = LEFT_OUT
    return sizes


@pytest.fixture
def file(tmp_path):
    asked.clear()
    return tmp_path / "sizes" / "some"


def test_sizes_are_those_computed(file):
    kept, numbers = KeptSizes(file, TOTAL, compute), np.array([5, 0, 13, 39])
    for _ in range(2):
        np.testing.assert_array_equal(kept(numbers), compute(numbers))
    assert kept([]).shape == (0, 2)


def test_what_is_known_is_not_asked_for_again(file):
    kept = KeptSizes(file, TOTAL, compute)
    kept([1, 2, 3])
    kept([3, 4])
    assert asked == [1, 2, 3, 4]
    KeptSizes(file, TOTAL, compute)(range(6))  # a later run
    pickle.loads(pickle.dumps(kept))(range(6))  # a worker
    assert asked == [1, 2, 3, 4, 0, 5]


def test_runs_that_share_the_file_see_each_others_sizes(file):
    one, two = (KeptSizes(file, TOTAL, compute) for _ in range(2))
    one([7, 8])
    two([8, 9])
    one([9])
    assert asked == [7, 8, 9]


def test_a_sample_left_out_is_asked_for_each_time(file):
    kept = KeptSizes(file, TOTAL, compute)
    for _ in range(2):
        assert kept([5, 6])[1].tolist() == [LEFT_OUT] * 2
    assert asked == [5, 6, 6]


def test_an_error_keeps_nothing(file):
    def fails(numbers):
        raise ValueError("row 3")

    with pytest.raises(ValueError, match="row 3"):
        KeptSizes(file, TOTAL, fails)([3])
    assert KeptSizes(file, TOTAL, compute)([3]).tolist() == [[4, 0]]


def test_the_file_is_8_bytes_a_sample(file):
    KeptSizes(file, TOTAL, compute)([0])
    assert file.stat().st_size == 8 * TOTAL
    assert np.fromfile(file, np.int32).reshape(-1, 2)[:2].tolist() == [[1, 0], [0, 0]]


def test_the_name_says_what_sizes_depend_on(tmp_path):
    mixed.write_files(tmp_path)
    made = mixed.examples(tmp_path)
    name = name_of(made, "said")
    assert name_of(mixed.examples(tmp_path), "said") == name

    chat, spec = made_up.chat(), made_up.SPEC
    template = TINY_TEMPLATE.replace("<|frame|><image>", "<image>")
    changes = {
        "chat": Chat(chat.tokenizer, template, spec, chat.media),
        "rule": Sampling(frames=3),
        "budgets": [2],
        "length": 255,
        "pictures": 19,
    }
    others = []
    for field, value in changes.items():
        other = copy.copy(made)
        setattr(other, field, value)
        others.append(name_of(other, "said"))
    shutil.copy(tmp_path / "v1.mp4", tmp_path / "v0.mp4")
    os.utime(tmp_path / "v0.mp4", (0, 0))
    others += [name_of(made, "other rows"), name_of(mixed.examples(tmp_path), "said")]
    assert len({name, *others}) == 1 + len(others)


def test_seed_and_weight_do_not_change_the_name(tmp_path):
    mixed.write_files(tmp_path)
    made = mixed.examples(tmp_path)
    assert name_of(mixed.examples(tmp_path, seed=4, on_long="skip"), "") == name_of(made, "")
