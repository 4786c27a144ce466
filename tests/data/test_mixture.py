"""Mixtures: every sample as often as asked, in an order that is a pure function of the epoch."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.data.mixture import Mixture, Part

pytestmark = pytest.mark.smoke

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=4)


@given(sizes, st.integers(0, 5), st.integers(0, 3))
def test_every_sample_once_an_epoch(sizes, seed, epoch):
    mixture = Mixture([Part(size) for size in sizes], seed)
    assert sorted(mixture.epoch(epoch)) == list(range(sum(sizes)))
    assert len(mixture) == sum(sizes)


@given(sizes, st.integers(0, 2))
def test_numbers_lead_to_source_and_row(sizes, seed):
    mixture = Mixture([Part(size) for size in sizes], seed)
    places = [mixture.locate(n) for n in range(len(mixture))]
    assert places == [(s, row) for s, size in enumerate(sizes) for row in range(size)]


@given(st.integers(1, 50), st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.0]), st.integers(0, 3))
def test_weights_take_every_row_equally_often(size, weight, seed):
    mixture = Mixture([Part(size, weight), Part(7)], seed)
    count = round(weight * size)
    assert mixture.counts == [count, 7]
    seen = Counter()
    for epoch in range(8):
        taken = mixture.epoch(epoch)
        seen.update(taken[taken < size].tolist())
        if count:
            assert max(seen.values()) - min(seen[n] for n in range(size)) <= 1


def test_epochs_and_seeds_differ_in_order():
    mixture = Mixture([Part(50)], 0)
    assert mixture.epoch(0).tolist() != mixture.epoch(1).tolist()
    assert mixture.epoch(0).tolist() != Mixture([Part(50)], 1).epoch(0).tolist()
    assert mixture.epoch(1).tolist() == Mixture([Part(50)], 0).epoch(1).tolist()


def test_a_cap_takes_turns():
    mixture = Mixture([Part(10, cap=4)], 0)
    seen = [mixture.epoch(epoch).tolist() for epoch in range(5)]
    assert [len(set(epoch)) for epoch in seen] == [4] * 5
    assert Counter(n for epoch in seen for n in epoch) == dict.fromkeys(range(10), 2)


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_a_smaller_fraction_is_inside_a_larger_one(size, a, b, seed):
    less, more = sorted((a, b))
    few = set(Mixture([Part(size, fraction=less)], 0).epoch(0).tolist())
    many = set(Mixture([Part(size, fraction=more)], seed).epoch(1).tolist())
    assert few <= many
    assert len(few) == np.ceil(less * size - 1e-9)


def test_held_out_rows_are_never_taken_and_the_same_for_every_fraction():
    whole = Mixture([Part(40, heldout=4), Part(10)], 0)
    part = Mixture([Part(40, fraction=0.5, heldout=4), Part(10)], 5)
    assert whole.heldout.tolist() == part.heldout.tolist()
    assert len(whole.heldout) == 4
    assert not set(whole.epoch(0).tolist()) & set(whole.heldout.tolist())
    assert sorted([*whole.epoch(0), *whole.heldout]) == list(range(50))
    assert part.counts == [18, 10]
