"""Disorder and rearrangement: orders, answers and wrong options."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjax.fragments.common import draw_order, inverse, orders, reversal_tag
from vjax.fragments.rearrangement import answer_text, draw_wrong

ORDERS = st.integers(3, 5).flatmap(lambda M: st.permutations(range(M))).map(tuple)


def order_of(text):
    return tuple(int(p) - 1 for p in text.split(","))


def test_the_example_of_the_specification():
    shown = (2, 0, 1)  # true a < b < c shown as (c, a, b)
    assert answer_text(inverse(shown)) == "2,3,1"


@given(ORDERS)
def test_the_answer_puts_what_is_shown_in_true_order(shown):
    assert [shown[p] for p in inverse(shown)] == list(range(len(shown)))
    assert inverse(inverse(shown)) == shown


@pytest.mark.parametrize("M, n", [(3, 5), (4, 23), (5, 119)])
def test_orders_are_all_but_the_true_one(M, n):
    assert len(set(orders(M))) == n and tuple(range(M)) not in orders(M)


def test_disorder_is_wrong_half_of_the_time(of_task):
    items = of_task("disorder")
    wrong = sum(r.label == "Yes" for r in items)
    assert abs(wrong / len(items) - 0.5) < 0.06  # 4 standard errors of 1,200
    for r in items:
        assert (r.label == "Yes") == (r.shown != sorted(r.shown))
        assert r.permutation == r.shown


@pytest.mark.parametrize("task", ["disorder", "rearrangement"])
def test_exact_reversals_are_tagged(of_task, task):
    items = of_task(task)
    assert any("reversal" in r.tags for r in items)
    for r in items:
        assert ("reversal" in r.tags) == (r.shown == sorted(r.shown)[::-1])
    assert reversal_tag((2, 1, 0)) == ["reversal"] and reversal_tag((2, 0, 1)) == []


def test_rearrangement_answers_restore_the_true_order(of_task):
    for r in of_task("rearrangement"):
        restored = [r.index[r.shown[p]] for p in order_of(r.label)]
        assert restored == sorted(r.index)
        assert r.permutation == r.shown != sorted(r.shown)


def test_short_form_candidates_are_all_wrong_orders(of_task):
    for r in of_task("rearrangement", form="short"):
        assert {order_of(c) for c in r.candidates} == set(orders(r.M))


def test_options_are_four_wrong_orders_with_the_inverse(of_task):
    for r in of_task("rearrangement", form="mcq"):
        options = {order_of(text) for text in r.options}
        assert len(options) == 4 and options <= set(orders(r.M))
        assert inverse(order_of(r.label)) in options


@pytest.mark.parametrize("M", [4, 5])
def test_all_four_options_are_alike(M):
    """Two pairs of inverses, or four orders that are their own inverse: nothing to tell one by."""
    rng = np.random.default_rng(0)
    for answer in orders(M):
        options = [answer, *draw_wrong(rng, answer)]
        own = [order == inverse(order) for order in options]
        assert all(own) or not any(own)
        assert {inverse(order) for order in options} == set(options)


def test_options_of_three_frames_tell_next_to_nothing():
    rng = np.random.default_rng(0)
    seen = defaultdict(Counter)
    n = 20000
    for _ in range(n):
        answer = draw_order(rng, 3)
        seen[frozenset((answer, *draw_wrong(rng, answer)))][answer] += 1
    best = sum(max(counts.values()) for counts in seen.values()) / n
    assert best < 0.285  # 4/15 is the least there can be; the rest is sampling noise
