"""Bits per spike against nlb_tools and against arithmetic by hand."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nlb_tools.evaluation import bits_per_spike

from stndt_jax.training.metrics import BitsPerSpike

sums = jax.jit(BitsPerSpike.of)
value = jax.jit(BitsPerSpike.value)


def recording(seed: int, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates and counts of 60 trials of 140 bins and 45 neurons, NaN where not known."""
    rng = np.random.default_rng(seed)
    tuning = rng.gamma(1.0, 0.03, size=45)
    drive = np.exp(0.8 * np.sin(np.linspace(0, 9, 140))[:, None] * rng.normal(size=45))
    true = tuning * drive * np.exp(0.3 * rng.normal(size=(60, 1, 45)))
    counts = rng.poisson(true).astype(float)
    counts[..., 7] = 0.0  # a silent neuron
    if missing:
        counts[rng.random(counts.shape) < missing] = np.nan
        counts[:20, :, 3] = np.nan
        counts[40:, 100:] = np.nan
    rates = (true * np.exp(0.2 * rng.normal(size=true.shape))).astype(np.float32)
    return rates, counts


def merged(rates: np.ndarray, counts: np.ndarray, batch: int) -> BitsPerSpike:
    """Sums over batches, as a validation adds them."""
    parts = []
    for start in range(0, len(rates), batch):
        rows = slice(start, start + batch)
        valid = ~np.isnan(counts[rows])
        known = np.where(valid, counts[rows], 0).astype(np.float32)
        parts.append(sums(jnp.asarray(rates[rows]), jnp.asarray(known), jnp.asarray(valid)))
    return functools.reduce(BitsPerSpike.merge, parts)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("batch", [15, 60])
def test_equals_nlb_tools(missing, batch):
    for seed in range(2):
        rates, counts = recording(seed, missing)
        wanted = bits_per_spike(rates.astype(np.float64), counts)
        assert wanted > 0.05
        found = float(value(merged(rates, counts, batch)))
        assert found == pytest.approx(wanted, rel=0, abs=1e-6)


def test_rates_of_zero_count_as_nlb_tools_counts_them():
    rates, counts = recording(4, 0.1)
    rates[:, :, :2] = 0.0
    wanted = bits_per_spike(rates.astype(np.float64), counts)
    found = float(value(merged(rates, counts, 15)))
    assert wanted < 0
    assert found == pytest.approx(wanted, rel=1e-6)


def test_by_hand():
    # Counts 0, 2 and 4 with one not valid: mean 1. Each nat gained is the log of the rate.
    rates = np.array([[[0.5], [1.5], [9.0]]], np.float32)
    counts = np.array([[[0.0], [2.0], [4.0]]], np.float32)
    valid = np.array([[[True], [True], [False]]])
    found = sums(rates, counts, valid)
    assert float(found.spikes[0]) == 2.0
    assert float(found.entries[0]) == 2.0
    assert float(found.nll[0]) == pytest.approx(0.5 + 1.5 - 2 * math.log(1.5), rel=1e-6)
    assert float(value(found)) == pytest.approx(math.log2(1.5), rel=1e-6)


def test_the_mean_rate_gains_nothing_and_nothing_known_gives_nan():
    counts = np.array([[[0.0, 1.0], [2.0, 2.0]]], np.float32)
    valid = np.ones(counts.shape, bool)
    mean = np.broadcast_to(np.array([1.0, 1.5], np.float32), counts.shape)
    assert float(value(sums(mean, counts, valid))) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(float(value(sums(mean, counts, ~valid))))


def test_nan_where_known_entries_hold_no_spike():
    rates, counts = np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    found = sums(rates, counts, np.ones(counts.shape, bool))
    assert math.isnan(float(value(found)))


def test_what_is_not_valid_may_hold_anything():
    rates, counts = np.full((1, 2, 1), 0.5, np.float32), np.array([[[1.0], [7.0]]], np.float32)
    valid = np.array([[[True], [False]]])
    wanted = sums(rates, counts, valid)
    found = sums(np.where(valid, rates, np.nan), np.where(valid, counts, np.nan), valid)
    np.testing.assert_array_equal(np.array(found), np.array(wanted))
