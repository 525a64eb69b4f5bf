"""Principal components of rates, and how they are drawn."""

from __future__ import annotations

import numpy as np
from helpers.figures import texts_apart

from stndt_jax.plotting import latents

RNG = np.random.default_rng(0)
RATES = RNG.gamma(2.0, 0.1, (9, 12, 6))


def test_components_are_those_of_root_rates():
    x = RATES.copy()
    x[1, 2] = np.nan
    found = latents.components(x, 20.0)
    roots = np.sqrt(x * 50).reshape(-1, 6)
    known = ~np.isnan(roots).any(axis=1)
    around = roots[known] - roots[known].mean(axis=0)
    left, values, _ = np.linalg.svd(around, full_matrices=False)
    np.testing.assert_allclose(found.explained, values**2 / np.sum(values**2))
    scores = found.scores.reshape(-1, 3)
    np.testing.assert_allclose(np.abs(scores[known]), np.abs(left * values)[:, :3], atol=1e-9)
    assert np.isnan(found.scores[1, 2]).all()
    again = latents.components(x, 20.0).scores
    np.testing.assert_array_equal(again, found.scores)


def test_latents_draw_means_of_conditions_over_single_trials():
    conditions = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
    found = latents.components(RATES, 20.0)
    fig = latents.latents(found, conditions, bin_ms=20.0)
    first = fig.axes[0]
    thick = [line for line in first.lines if line.get_linewidth() == 1.5]
    assert len(thick) == 3 and len(first.lines) == 9 + 3 + 3
    np.testing.assert_allclose(
        thick[1].get_xydata(), found.scores[[1, 4]].mean(axis=0)[:, :2], atol=1e-12
    )
    assert first.get_xlabel().startswith(f"PC 1, {found.explained[0]:.0%}")
    heights = [bar.get_height() for bar in fig.axes[2].patches]
    np.testing.assert_allclose(heights, np.cumsum(found.explained))
    texts_apart(fig)
    latents.latents(latents.components(RATES[..., :2], 20.0), None, bin_ms=20.0)
