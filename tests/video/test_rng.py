import numpy as np
import pytest

from vjax.video.rng import philox


def test_numbers_are_pinned():
    # A change here changes every fragment and every window of every run.
    drawn = philox("windows", 7, "a/b.mp4").integers(0, 1000, 5).tolist()
    assert drawn == [371, 699, 285, 225, 392]


def test_same_key_same_stream():
    assert philox("a", 1).random(4).tolist() == philox("a", 1).random(4).tolist()


@pytest.mark.parametrize("other", [("a", 2), ("a", "1"), (1, "a"), ("a1",), ("a", 1, 0)])
def test_other_key_other_stream(other):
    assert philox("a", 1).random() != philox(*other).random()


def test_numpy_integers_count_as_int():
    assert philox(np.int32(5)).random() == philox(5).random()


@pytest.mark.parametrize("key", [(), (0.5,), (None,), (True,), ((1, 2),)])
def test_other_types_are_refused(key):
    with pytest.raises(TypeError):
        philox(*key)
