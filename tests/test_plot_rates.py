"""Figures of rates by what stands in them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson
from test_plot_style import texts_apart

from stndt_jax.plotting import rates as plots_rates

RNG = np.random.default_rng(0)
RATES = RNG.gamma(2.0, 0.1, (9, 12, 6))


def test_correlation_is_that_of_known_bins():
    x = RATES.copy()
    x[2, 3, 1] = np.nan
    x[..., 4] = 0.3
    found = plots_rates.correlation(x)
    rows = x.reshape(-1, 6)[~np.isnan(x).any(axis=2).ravel()]
    some = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(found[np.ix_(some, some)], np.corrcoef(rows[:, some].T), atol=1e-12)
    np.testing.assert_array_equal(found[4], [0, 0, 0, 0, 1, 0])


def test_correlations_share_order_and_scale():
    first, true = plots_rates.correlation(RATES), plots_rates.correlation(RATES[:5])
    fig = plots_rates.correlations(
        {"inferred": first, "true": true}, order_by="inferred", compare_with="true"
    )
    images = [ax.images[0] for ax in fig.axes[:2]]
    shown = np.asarray(images[0].get_array())
    assert all(image.get_clim() == (-1, 1) for image in images)
    # Some order of the neurons, and the same one for both.
    order = [int(np.argmin(np.abs(first - row[None]).sum(axis=1))) for row in _sorted(shown, first)]
    np.testing.assert_allclose(first[np.ix_(order, order)], shown, atol=1e-12)
    np.testing.assert_allclose(true[np.ix_(order, order)], np.asarray(images[1].get_array()))
    upper = np.triu_indices(6, 1)
    like = np.corrcoef(first[upper], true[upper])[0, 1]
    assert fig.axes[0].get_title().endswith(f"{like:.2f}".replace("-", "\N{MINUS SIGN}"))
    assert fig.axes[1].get_title() == "true"
    texts_apart(fig)


def _sorted(shown: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Rows of the shown matrix with their columns put back in the neurons' order."""
    values = [sorted(row) for row in first]
    order = [next(i for i, v in enumerate(values) if np.allclose(sorted(row), v)) for row in shown]
    back = np.empty_like(shown)
    back[:, order] = shown
    return back


def test_populations_show_spikes_and_relative_rates():
    spikes = RNG.poisson(1.0, RATES.shape).astype(float)
    spikes[0, :3] = np.nan
    fig = plots_rates.populations(
        spikes, RATES, bin_ms=20.0, trials=[0, 4], true_RTN=RATES, bins_observed=10, heldin=4
    )
    order = np.argsort(RATES.mean(axis=0).argmax(axis=0), kind="stable")
    for column, r in enumerate((0, 4)):
        points = fig.axes[column].collections[0].get_offsets()
        expected = {
            (20.0 * t + 10, float(np.flatnonzero(order == n)[0]))
            for t, n in np.argwhere(np.nan_to_num(spikes[r]) > 0)
        }
        assert {(float(x), float(y)) for x, y in points} == expected
        shown = np.asarray(fig.axes[2 + column].images[0].get_array())
        highest = RATES[[0, 4]].max(axis=(0, 1))
        np.testing.assert_allclose(shown, (RATES[r] / highest)[:, order].T)
    assert fig.axes[0].lines[0].get_xdata()[0] == 200.0
    texts_apart(fig)


def test_components_are_those_of_root_rates():
    x = RATES.copy()
    x[1, 2] = np.nan
    found = plots_rates.components(x, 20.0)
    roots = np.sqrt(x * 50).reshape(-1, 6)
    known = ~np.isnan(roots).any(axis=1)
    around = roots[known] - roots[known].mean(axis=0)
    left, values, _ = np.linalg.svd(around, full_matrices=False)
    np.testing.assert_allclose(found.explained, values**2 / np.sum(values**2))
    scores = found.scores.reshape(-1, 3)
    np.testing.assert_allclose(np.abs(scores[known]), np.abs(left * values)[:, :3], atol=1e-9)
    assert np.isnan(found.scores[1, 2]).all()
    again = plots_rates.components(x, 20.0).scores
    np.testing.assert_array_equal(again, found.scores)


def test_latents_draw_means_of_conditions_over_single_trials():
    conditions = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
    found = plots_rates.components(RATES, 20.0)
    fig = plots_rates.latents(found, conditions, bin_ms=20.0)
    first = fig.axes[0]
    thick = [line for line in first.lines if line.get_linewidth() == 1.5]
    assert len(thick) == 3 and len(first.lines) == 9 + 3 + 3
    np.testing.assert_allclose(
        thick[1].get_xydata(), found.scores[[1, 4]].mean(axis=0)[:, :2], atol=1e-12
    )
    assert first.get_xlabel().startswith(f"component 1, {found.explained[0]:.0%}")
    heights = [bar.get_height() for bar in fig.axes[2].patches]
    np.testing.assert_allclose(heights, np.cumsum(found.explained))
    texts_apart(fig)
    plots_rates.latents(plots_rates.components(RATES[..., :2], 20.0), None, bin_ms=20.0)


def test_calibration_groups_by_prediction():
    rates = np.linspace(0.1, 1.0, 1000).reshape(10, 10, 10)
    counts = RNG.poisson(rates)
    known = np.ones(rates.shape, bool)
    known[0] = False
    found = plots_rates.calibration_of(rates, counts, known)
    parts = [slice(100 + 90 * i, 190 + 90 * i) for i in range(10)]
    for i, part in enumerate(parts):
        assert found.predicted[i] == pytest.approx(rates.ravel()[part].mean())
        total = int(counts.ravel()[part].sum())
        assert found.observed[i] == pytest.approx(total / 90)
        # Under the interval's ends, counts as extreme have 2.5% each.
        assert poisson.sf(total - 1, 90 * found.low[i]) == pytest.approx(0.025)
        assert poisson.cdf(total, 90 * found.high[i]) == pytest.approx(0.025)
    silent = plots_rates.calibration_of(rates, np.zeros(rates.shape), known)
    assert not silent.low.any() and (silent.high > 0).all()
    fig = plots_rates.calibration({"held-in": found, "held-out": silent}, bin_ms=20.0)
    assert fig.axes[0].get_xlabel() == "predicted (spikes/s)"
    texts_apart(fig)
