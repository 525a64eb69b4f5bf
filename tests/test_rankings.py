"""Agreement of rankings, against pairs counted one by one and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from stndt_jax.interpret import rankings

RNG = np.random.default_rng(0)


def test_agreement_is_the_mean_over_all_pairs() -> None:
    rows = RNG.normal(size=(7, 30)) + RNG.normal(size=30)
    rows[2, :10] = rows[2, 0]  # ties
    found = rankings.agreement(rows)
    pairs = list(itertools.combinations(range(7), 2))
    assert found.rankings == 7
    expected = np.mean([spearmanr(rows[a], rows[b]).statistic for a, b in pairs])
    assert found.spearman == pytest.approx(expected, abs=1e-12)
    tops = [set(np.argsort(-row, kind="stable")[:3].tolist()) for row in rows]
    assert found.overlap == pytest.approx(np.mean([len(tops[a] & tops[b]) / 3 for a, b in pairs]))


def test_chance_is_what_random_rankings_share() -> None:
    rows = RNG.random((400, 40))
    found = rankings.agreement(rows)
    assert found.chance == 4 / 40
    assert found.overlap == pytest.approx(found.chance, abs=0.005)
    assert found.spearman == pytest.approx(0, abs=0.01)


def test_partial_correlation_removes_a_third_quantity() -> None:
    rate = RNG.normal(size=50)
    a, b = rate + RNG.normal(size=50), rate + RNG.normal(size=50)
    ab, ar, br = (spearmanr(x, y).statistic for x, y in ((a, b), (a, rate), (b, rate)))
    partial = (ab - ar * br) / np.sqrt((1 - ar**2) * (1 - br**2))
    assert rankings.spearman(a, b, given=rate) == pytest.approx(partial, abs=1e-12)
    assert rankings.spearman(a, b) == pytest.approx(ab, abs=1e-12)
    # A quantity that is the rate itself has nothing left.
    assert np.isnan(rankings.spearman(np.exp(rate), b, given=rate))


def test_constant_rankings_are_left_out() -> None:
    rows = np.stack([np.arange(9.0), np.full(9, 0.5), np.arange(9.0) ** 2, np.full(9, np.nan)])
    found = rankings.agreement(rows)
    assert found == (2, pytest.approx(1.0), 1.0, 1 / 9)
    alone = rankings.agreement(rows[:2])
    assert alone.rankings == 1 and np.isnan(alone.spearman) and np.isnan(alone.overlap)


def test_ranks_begin_with_the_largest() -> None:
    np.testing.assert_array_equal(rankings.ranks(np.array([0.1, 0.5, 0.2, 0.5])), [4, 1, 3, 2])


def test_lag_profile_is_the_mean_over_bins_at_a_lag() -> None:
    maps = RNG.random((2, 5, 5))
    found = rankings.lag_profile(maps, np.full((5, 5), 3))
    assert found.shape == (2, 9)
    for number, lag in enumerate(range(-4, 5)):
        pairs = [(t, t + lag) for t in range(5) if 0 <= t + lag < 5]
        for k in range(2):
            assert found[k, number] == pytest.approx(np.mean([maps[k][pair] for pair in pairs]))


def test_the_lag_profile_is_over_the_trials_that_have_both_bins() -> None:
    # Two trials, of 3 bins and of 2: the third bin's mean is over one trial.
    bins = np.array([[1, 1, 1], [1, 1, 0]], bool)
    each = RNG.random((2, 3, 3))
    pairs_RTT = bins[:, :, None] & bins[:, None]
    number_TT = pairs_RTT.sum(axis=0)
    mean_TT = np.where(pairs_RTT, each, 0).sum(axis=0) / number_TT
    found = rankings.lag_profile(mean_TT, number_TT)
    for lag in range(-2, 3):
        values = [
            each[r, t, t + lag]
            for r in range(2)
            for t in range(3)
            if 0 <= t + lag < 3 and bins[r, t] and bins[r, t + lag]
        ]
        assert found[lag + 2] == pytest.approx(np.mean(values))
    none = rankings.lag_profile(np.full((2, 2), np.nan), np.array([[1, 0], [0, 0]]) * 0)
    assert np.isnan(none).all()


def test_the_mean_of_what_is_known() -> None:
    x = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(rankings.mean_known(x, axis=0), [2.0, np.nan])
