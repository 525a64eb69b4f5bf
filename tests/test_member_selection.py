"""Sets of models against brute force: nlb_tools' scores of rates averaged by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nlb_tools.evaluation import bits_per_spike

from stndt_jax.ensembles import selection

R, T, N, M = 7, 6, 3, 6


def rates_and_counts(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates of models of different worth, counts, and where they are known."""
    rng = np.random.default_rng(seed)
    true_RTN = rng.gamma(2.0, 0.2, (R, T, N))
    noise = rng.normal(size=(M, R, T, N)) * rng.uniform(0.3, 1.5, (M, 1, 1, 1))
    rates = (true_RTN * np.exp(noise)).astype(np.float32)
    known_RTN = rng.random((R, T, N)) > 0.1
    return rates, rng.poisson(true_RTN).astype(np.uint8), known_RTN


def pool_of(rates: np.ndarray, counts: np.ndarray, known: np.ndarray) -> selection.Pool:
    spikes = selection.Spikes.of(counts, known)
    return selection.Pool.of(spikes, [spikes.of_rates(r) for r in rates])


def by_hand(members: tuple[int, ...] | list[int], seed: int = 0) -> float:
    """The score of the mean rate of some models, by the benchmark's own code."""
    rates, counts, known = rates_and_counts(seed)
    mean = np.mean([rates[m].astype(float) for m in members], axis=0)
    spikes = np.where(known, counts, np.nan)
    return float(bits_per_spike(mean, spikes))


def test_every_set_of_models_scores_as_its_mean_rate_does() -> None:
    pool = pool_of(*rates_and_counts())
    np.testing.assert_allclose(pool.each(), [by_hand((m,)) for m in range(M)], atol=1e-7)
    for members in itertools.combinations_with_replacement(range(M), 3):
        assert pool.mean(members) == pytest.approx(by_hand(members), abs=1e-7)
    one_more = [by_hand([1, 1, 4, m]) for m in range(M)]
    np.testing.assert_allclose(pool.with_each([1, 1, 4]), one_more, atol=1e-7)
    weighted = pool.mean([1, 4], [2 / 3, 1 / 3])
    assert weighted == pytest.approx(by_hand([1, 1, 4]), abs=1e-7)


def test_a_rate_of_zero_is_scored_as_the_benchmark_does() -> None:
    rates, counts, known = rates_and_counts()
    rates[0, :3] = 0
    pool = pool_of(rates[:1], counts, known)
    expected = bits_per_spike(rates[0].astype(float), np.where(known, counts, np.nan))
    assert pool.each()[0] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_top_takes_the_best_size(seed: int) -> None:
    alone = [by_hand((m,), seed) for m in range(M)]
    order = sorted(range(M), key=lambda m: -alone[m])
    sizes = [by_hand(order[:n], seed) for n in range(1, 5)]
    chosen, curve = selection.top(pool_of(*rates_and_counts(seed)), 4)
    np.testing.assert_allclose(curve, sizes, atol=1e-7)
    assert chosen == order[: 1 + int(np.argmax(sizes))]


def test_greedy_adds_what_helps_most_and_repeats() -> None:
    """Step by step against every possible step."""
    chosen, path = selection.greedy(pool_of(*rates_and_counts()), 12)
    ends = []
    for start in (1, len(selection.top(pool_of(*rates_and_counts()), 12)[0])):
        order = sorted(range(M), key=lambda m: -by_hand((m,)))
        members = order[:start]
        while len(members) < 12:
            scores = [by_hand([*members, m]) for m in range(M)]
            if max(scores) <= by_hand(members):
                break
            members = [*members, int(np.argmax(scores))]
        ends.append(members)
    best = max(ends, key=by_hand)
    assert chosen == best
    assert path[-1] == pytest.approx(by_hand(best), abs=1e-7)
    assert len(set(chosen)) < len(chosen), "the case is one where a model is worth repeating"
    weights = selection.weights(chosen)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[chosen[0]] == chosen.count(chosen[0]) / len(chosen)


@pytest.mark.parametrize("most", [1, 3, 10])
def test_greedy_is_never_below_top(most: int) -> None:
    for seed in range(40):
        pool = pool_of(*rates_and_counts(seed))
        top, curve = selection.top(pool, most)
        chosen, path = selection.greedy(pool, most)
        assert len(chosen) <= most and len(top) <= most
        assert path[-1] >= max(curve)
        assert pool.mean(chosen) >= pool.mean(top) - 1e-12


def test_greedy_from_the_best_alone_can_be_below_top() -> None:
    """So that it is the second start that the test above is about."""
    below = 0
    for seed in range(200):
        pool = pool_of(*rates_and_counts(seed))
        top, curve = selection.top(pool, 4)
        _, path = selection._added(pool, top[:1], [float(curve[0])], 4)
        below += path[-1] < max(curve)
    assert below > 0


def test_random_sets_are_scored_as_sets() -> None:
    found = selection.random_sets(pool_of(*rates_and_counts()), M, samples=30, seed=3)
    assert found.shape == (30, M)
    for n in (1, 2, 5):
        possible = [by_hand(members) for members in itertools.combinations(range(M), n)]
        nearest = np.min(np.abs(found[:, n - 1, None] - np.array(possible)), axis=1)
        assert nearest.max() < 1e-7
        assert len(np.unique(found[:, n - 1].round(7))) > 1
    np.testing.assert_allclose(found[:, -1], by_hand(list(range(M))), atol=1e-7)
