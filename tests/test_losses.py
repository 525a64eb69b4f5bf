"""Losses against scipy's Poisson distribution and against loops."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracle import oracle_contrastive, oracle_poisson
from scipy import special, stats

from stndt_jax.training import losses

info_nce = jax.jit(losses.info_nce)


def test_poisson_is_the_negative_log_probability_but_for_a_constant():
    rng = np.random.default_rng(0)
    z = rng.normal(-1.0, 1.5, size=(3, 4, 5)).astype(np.float32)
    x = rng.poisson(1.0, size=z.shape)
    found = losses.poisson_nll(jnp.asarray(z), jnp.asarray(x, jnp.float32))
    wanted = -stats.poisson.logpmf(x, np.exp(z.astype(np.float64))) - special.gammaln(x + 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_mean_over_the_targets_alone():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(3, 4, 5)).astype(np.float32)
    labels = rng.poisson(1.0, size=z.shape)
    mask = rng.random(z.shape) < 0.4
    nll = losses.poisson_nll(jnp.asarray(z), jnp.asarray(labels, jnp.float32))
    # What is no target may be anything.
    nll = jnp.where(mask, nll, jnp.nan)
    total, count = losses.masked_sum(nll, jnp.asarray(mask))
    assert float(count) == mask.sum()
    wanted = oracle_poisson(z.astype(np.float64), np.where(mask, labels, -100))
    assert float(losses.mean(total, count)) == pytest.approx(wanted, rel=1e-6)


def test_sums_by_hand_and_nothing_to_average():
    values, mask = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([True, False, True, True])
    total, count = losses.masked_sum(values, mask)
    assert (float(total), float(count)) == (13.0, 3.0)
    assert float(losses.mean(total, count)) == pytest.approx(13 / 3)
    none = losses.masked_sum(values, jnp.zeros(4, bool))
    assert tuple(map(float, none)) == (0.0, 0.0)
    assert float(losses.mean(*none)) == 0.0


@pytest.mark.parametrize(("trials", "temperature"), [(1, 0.07), (2, 0.5), (5, 0.07)])
def test_info_nce_equals_the_loop(trials, temperature):
    rng = np.random.default_rng(trials)
    a = rng.normal(size=(trials, 6)).astype(np.float32)
    b = (a + rng.normal(size=a.shape)).astype(np.float32)
    rows = info_nce(jnp.concatenate([a, b]), jnp.float32(temperature))
    assert rows.shape == (2 * trials,)
    wanted = oracle_contrastive(a, b, temperature)
    assert float(jnp.mean(rows)) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_info_nce_rows_are_the_first_view_then_the_second():
    # Trial 0's views agree, trial 1's oppose each other, and the axes are orthogonal.
    a = np.array([[2, 0], [0, 1]], np.float32)
    b = np.array([[5, 0], [0, -3]], np.float32)
    easy = -math.log(math.e / (math.e + 2))
    hard = -math.log(math.exp(-1) / (math.exp(-1) + 2))
    found = info_nce(jnp.concatenate([a, b]), jnp.float32(1.0))
    np.testing.assert_allclose(found, [easy, hard, easy, hard], rtol=1e-5)


def test_silent_rows_have_finite_losses_and_gradients():
    a = np.array([[1, 1, 1], [0, 0, 0]], np.float32)

    def loss(a):
        return jnp.mean(losses.info_nce(jnp.concatenate([a, a]), jnp.float32(0.07)))

    value, slope = jax.value_and_grad(loss)(a)
    assert float(value) == pytest.approx(oracle_contrastive(a, a, 0.07), rel=1e-5)
    assert np.isfinite(slope).all()
