"""Intervals and tests for accuracies: Wilson, bootstrap over source clips, exact McNemar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
_CHUNK = 2**20  # resampled clips held in memory at once


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a share (Wilson, JASA 1927), without continuity correction.

    Raises:
        ValueError: n is 0, or successes is not in 0..n.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"no interval for {successes} of {n}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # exactly 0 and 1 at the ends, where rounding would leave 1e-17
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def cluster_bootstrap(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` when whole clusters are drawn again.

    Items of one source clip stand or fall together, so clips are resampled, not items (Efron and
    Tibshirani 1993, section 8; Cameron, Gelbach and Miller 2008 for clusters). With few clusters
    the interval is too narrow; a single one gives a single point.

    Args:
        values: number or bool [n], one an item.
        groups: str [n], the cluster of each item.
        samples: number of resamples.
        seed: same seed, same interval; the order of items does not matter.
    """
    values, groups = np.asarray(values, np.float64), np.asarray(groups, str)
    if values.shape != groups.shape or values.ndim != 1 or not values.size:
        raise ValueError(f"no interval for values {values.shape} in groups {groups.shape}")
    # sorted names, so that the draws do not depend on the order of items
    names, cluster = np.unique(groups, return_inverse=True)
    total = np.bincount(cluster, weights=values)
    count = np.bincount(cluster)
    G, rng = len(names), np.random.default_rng(seed)
    means = []
    for start in range(0, samples, step := max(1, _CHUNK // G)):
        draw = rng.integers(G, size=(min(step, samples - start), G))
        means.append(total[draw].sum(1) / count[draw].sum(1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value: items that became right against items that became wrong.

    Twice the smaller tail of Binomial(gained + lost, 1/2), at most 1 (McNemar 1947); 1 if nothing
    changed.
    """
    n = gained + lost
    tail = term = 1  # whole numbers: n choose k, summed
    for k in range(min(gained, lost)):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


@dataclass(frozen=True)
class Paired:
    """A change of accuracy on the same items: after less before, its p-value and interval."""

    delta: float
    p: float
    low: float
    high: float


def paired(
    before: ArrayLike,
    after: ArrayLike,
    groups: ArrayLike,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> Paired:
    """Compares two models on the same items: McNemar's p, interval from `cluster_bootstrap`.

    Args:
        before, after: bool [n], right or wrong.
        groups: str [n], the source clip of each item.
    """
    change = np.asarray(after, np.int64) - np.asarray(before, np.int64)
    p = mcnemar(int((change > 0).sum()), int((change < 0).sum()))
    low, high = cluster_bootstrap(change, groups, samples=samples, seed=seed)
    return Paired(float(change.mean()), p, low, high)
