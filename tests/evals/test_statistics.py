import itertools

import numpy as np
import pytest

from vjax.evals.statistics import cluster_bootstrap, mcnemar, paired, wilson

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (7, 30), (30, 30), (211, 400)])
def test_wilson_equals_scipy(k, n, confidence):
    want = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((want.low, want.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_what_is_no_share(k, n):
    with pytest.raises(ValueError, match=f"no interval for {k} of {n}"):
        wilson(k, n)


@pytest.mark.parametrize("chance", [1 / 5, 1 / 3, 1 / 2])
def test_wilson_covers_chance_as_often_as_it_says(chance):
    covers = [low <= chance <= high for low, high in (wilson(k, 300) for k in range(301))]
    share = stats.binom.pmf(np.arange(301), 300, chance)[covers].sum()
    assert share == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (0, 6), (5, 5), (3, 12), (40, 21), (900, 1100)]
)
def test_mcnemar_equals_the_binomial_test(gained, lost):
    n = gained + lost
    want = stats.binomtest(gained, n, 0.5).pvalue if n else 1.0
    assert mcnemar(gained, lost) == pytest.approx(want, rel=1e-9)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_mcnemar_of_many_items_does_not_overflow():
    assert mcnemar(3000, 2900) == pytest.approx(stats.binomtest(3000, 5900).pvalue, rel=1e-9)


def test_bootstrap_has_the_distribution_of_all_resamples():
    values = [1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0]
    groups = ["a", "a", "a", "b", "b", "c", "d", "d", "d", "d", "e"]
    by_group = [[v for v, g in zip(values, groups, strict=True) if g == name] for name in "abcde"]
    means = []  # all 5 ** 5 draws of five clips
    for draw in itertools.product(by_group, repeat=5):
        drawn = sum(draw, [])
        means.append(sum(drawn) / len(drawn))
    for confidence in (0.5, 0.8, 0.95):
        tail = (1 - confidence) / 2
        want = np.quantile(means, [tail, 1 - tail])
        got = cluster_bootstrap(values, groups, samples=40_000, confidence=confidence)
        assert got == pytest.approx(want, abs=0.02), confidence


def test_bootstrap_of_single_items_equals_scipy():
    values = np.random.default_rng(1).random(200) < 0.4
    want = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    got = cluster_bootstrap(values, [str(i) for i in range(200)], samples=20_000)
    assert got == pytest.approx((want.low, want.high), abs=0.006)


def test_bootstrap_counts_clips_not_items():
    values = np.random.default_rng(3).random(60) < 0.5
    clips = [str(i) for i in range(60)]
    one = cluster_bootstrap(values, clips)
    same = cluster_bootstrap(np.repeat(values, 20), np.repeat(clips, 20))
    assert same == one  # twenty copies of every item say nothing new


def test_bootstrap_does_not_depend_on_order_or_memory(monkeypatch):
    rng = np.random.default_rng(4)
    values, groups = rng.random(90) < 0.5, rng.integers(12, size=90).astype(str)
    order = rng.permutation(90)
    want = cluster_bootstrap(values, groups, samples=500, seed=7)
    assert cluster_bootstrap(values[order], groups[order], samples=500, seed=7) == want
    assert cluster_bootstrap(values, groups, samples=500, seed=8) != want
    monkeypatch.setattr("vjax.evals.statistics._CHUNK", 100)
    assert cluster_bootstrap(values, groups, samples=500, seed=7) == want


def test_bootstrap_of_one_clip_is_a_point():
    assert cluster_bootstrap([1, 0, 0, 0], ["a"] * 4) == (0.25, 0.25)


@pytest.mark.parametrize("args", [([], []), ([1], ["a", "b"])])
def test_bootstrap_refuses_what_does_not_match(args):
    with pytest.raises(ValueError, match="no interval for"):
        cluster_bootstrap(*args)


def test_paired_change():
    before = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    after = [1, 1, 1, 1, 1, 1, 0, 0, 1, 1]
    found = paired(before, after, [str(i) for i in range(10)])
    assert found.delta == pytest.approx(0.5)
    assert found.p == pytest.approx(stats.binomtest(6, 7).pvalue)
    assert found.low < 0.5 < found.high


def test_paired_without_any_change():
    found = paired([1, 0, 1], [1, 0, 1], ["a", "b", "c"])
    assert (found.delta, found.p, found.low, found.high) == (0, 1, 0, 0)
