"""Bootstrap intervals against a loop over draws that knows no sums."""

from __future__ import annotations

import numpy as np
import pytest
from nlb_tools.evaluation import bits_per_spike
from scipy import stats

from stndt_jax.evaluation import bootstrap

R, T, N = 6, 5, 4


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rates = rng.gamma(2.0, 0.3, (R, T, N)).astype(np.float32)
    counts = rng.poisson(rates).astype(float)
    counts[2, 3:] = np.nan
    rates[0, 0, 0] = 0
    return rates, counts


def loop(rates: np.ndarray, counts: np.ndarray, draws: int, seed: int) -> list[float]:
    """The score of every draw of trials, from probabilities, beside all trials' null model."""
    rng = np.random.default_rng(seed)
    null = np.broadcast_to(np.nanmean(counts, axis=(0, 1)), counts.shape)
    rates = np.where(rates == 0, 1e-9, rates).astype(float)
    scores = []
    for _ in range(draws):
        trials = rng.integers(0, len(counts), len(counts))
        known = np.isfinite(counts[trials])
        model, nothing = (
            stats.poisson.logpmf(counts[trials][known], mean[trials][known]).sum()
            for mean in (rates, null)
        )
        scores.append((model - nothing) / np.log(2) / np.nansum(counts[trials]))
    return [float(np.percentile(scores, q)) for q in (2.5, 97.5)]


def test_the_interval_is_that_of_a_loop() -> None:
    rates, counts = example()
    found = bootstrap.bits_per_spike(rates, counts, samples=200, seed=4)
    np.testing.assert_allclose(found, loop(rates, counts, 200, 4), atol=1e-7)
    assert found != bootstrap.bits_per_spike(rates, counts, samples=200, seed=5)
    assert found[0] < float(bits_per_spike(rates.astype(float), counts.copy())) < found[1]


def test_intervals_of_a_submission_s_scores() -> None:
    rates, counts = example()
    forward = np.random.default_rng(1).gamma(2.0, 0.3, (R, 2, N))
    ahead = np.random.default_rng(2).poisson(forward).astype(float)
    submission = {
        "eval_rates_heldout": rates,
        "eval_rates_heldin_forward": forward[..., :3],
        "eval_rates_heldout_forward": forward[..., 3:],
    }
    targets = {
        "eval_spikes_heldout": counts,
        "eval_spikes_heldin_forward": ahead[..., :3],
        "eval_spikes_heldout_forward": ahead[..., 3:],
    }
    found = bootstrap.of_scores(submission, targets)
    assert set(found) == {"co_bps_interval", "fp_bps_interval"}
    np.testing.assert_allclose(
        found["co_bps_interval"], loop(rates, counts, bootstrap.SAMPLES, 0), atol=1e-7
    )
    np.testing.assert_allclose(
        found["fp_bps_interval"], loop(forward, ahead, bootstrap.SAMPLES, 0), atol=1e-7
    )
    del targets["eval_spikes_heldin_forward"]
    assert set(bootstrap.of_scores(submission, targets)) == {"co_bps_interval"}


def test_the_interval_is_not_biased() -> None:
    """Of rates hardly better than none, many neurons and few spikes: the score is in the middle."""
    rng = np.random.default_rng(3)
    rates = rng.gamma(20.0, 0.002, (30, 8, 40))
    counts = rng.poisson(rates).astype(float)
    score = float(bits_per_spike(rates.copy(), counts.copy()))
    low, high = bootstrap.bits_per_spike(rates, counts)
    assert low + 0.3 * (high - low) < score < low + 0.7 * (high - low)


def test_silence_has_no_interval() -> None:
    rates, counts = example()
    assert not bootstrap.of_scores(
        {"eval_rates_heldout": rates}, {"eval_spikes_heldout": np.zeros_like(counts)}
    )


def test_interval_of_a_mean() -> None:
    values = np.array([0.1, 0.2, 0.4, 0.15])
    found = bootstrap.of_mean(values)
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert found["t_interval"] == pytest.approx(expected)
    rng = np.random.default_rng(0)
    means = [np.mean([values[i] for i in rng.integers(0, 4, 4)]) for _ in range(20_000)]
    expected = [np.percentile(means, 2.5), np.percentile(means, 97.5)]
    assert found["bootstrap_interval"] == pytest.approx(expected, abs=0.01)
    assert bootstrap.of_mean(values[:1]) == {}
