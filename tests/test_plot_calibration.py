"""Calibration of rates, and how it is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.figures import texts_apart
from scipy.stats import poisson

from stndt_jax.plotting import calibration

RNG = np.random.default_rng(0)


def test_calibration_groups_by_prediction():
    rates = np.linspace(0.1, 1.0, 1000).reshape(10, 10, 10)
    counts = RNG.poisson(rates)
    known = np.ones(rates.shape, bool)
    known[0] = False
    found = calibration.calibration_of(rates, counts, known)
    parts = [slice(100 + 90 * i, 190 + 90 * i) for i in range(10)]
    for i, part in enumerate(parts):
        assert found.predicted[i] == pytest.approx(rates.ravel()[part].mean())
        total = int(counts.ravel()[part].sum())
        assert found.observed[i] == pytest.approx(total / 90)
        # Under the interval's ends, counts as extreme have 2.5% each.
        assert poisson.sf(total - 1, 90 * found.low[i]) == pytest.approx(0.025)
        assert poisson.cdf(total, 90 * found.high[i]) == pytest.approx(0.025)
    silent = calibration.calibration_of(rates, np.zeros(rates.shape), known)
    assert not silent.low.any() and (silent.high > 0).all()
    fig = calibration.calibration({"held-in": found, "held-out": silent}, bin_ms=20.0)
    assert fig.axes[0].get_xlabel() == "predicted rate (spikes/s)"
    texts_apart(fig)


def test_ticks_over_many_decades_are_apart():
    means = np.geomspace(1e-5, 2.0, 10)
    wide = calibration.Calibration(means, means, means * 0.5, means * 2)
    fig = calibration.calibration({"held-in": wide, "held-out": wide}, bin_ms=20.0)
    texts_apart(fig)
    # The legend is above the panel, off the points.
    (legend,) = fig.legends
    assert legend.get_window_extent().y0 >= fig.axes[0].get_window_extent().y1 - 1
