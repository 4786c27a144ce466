"""Zigzag order."""

import numpy as np
import pytest

from vjax.data.order import zigzag

pytestmark = pytest.mark.smoke


def test_each_device_holds_an_early_and_a_late_chunk():
    order = zigzag(16, 4)
    assert order.reshape(4, 2, 2).tolist() == [
        [[0, 1], [14, 15]],
        [[2, 3], [12, 13]],
        [[4, 5], [10, 11]],
        [[6, 7], [8, 9]],
    ]


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_it_is_an_order_in_which_causal_work_is_equal(devices):
    order = zigzag(48, devices)
    assert sorted(order) == list(range(48))
    work = (order + 1).reshape(devices, -1).sum(axis=1)  # a token sees itself and those before
    assert len(set(work)) == 1
    np.testing.assert_array_equal(order[np.argsort(order)], np.arange(48))


def test_one_device_holds_the_row_as_it_is():
    np.testing.assert_array_equal(zigzag(5, 1), np.arange(5))


def test_a_length_that_makes_no_chunks_is_an_error_that_says_which_would():
    with pytest.raises(
        ValueError, match="12 tokens .* over 4 devices: pad them to a multiple of 8"
    ):
        zigzag(12, 4)
