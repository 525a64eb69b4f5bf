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
    texts_apart(latents.latents(found, conditions, bin_ms=20.0, narrow=True))


def test_latents_without_conditions_are_coloured_by_time():
    rates = RATES.copy()
    rates[2, :3] = rates[2, 10:] = np.nan
    found = latents.components(rates, 20.0)
    for conditions in (None, np.full(9, -1)):
        fig = latents.latents(found, conditions, bin_ms=20.0)
        (lines,) = fig.axes[0].collections
        pieces, time = np.stack(lines.get_segments()), np.asarray(lines.get_array())
        wanted = [
            (found.scores[r, t : t + 2, :2], (t + 1) * 20.0)
            for r in range(9)
            for t in range(11)
            if r != 2 or 3 <= t < 9
        ]
        np.testing.assert_allclose(pieces, [piece for piece, _ in wanted])
        np.testing.assert_allclose(time, [at for _, at in wanted])
        dots = [line.get_xydata()[0] for line in fig.axes[0].lines]
        np.testing.assert_allclose(dots, [found.scores[r, 3 * (r == 2), :2] for r in range(9)])
        assert any(ax.get_ylabel() == "time (ms)" for ax in fig.axes)
        texts_apart(fig)


def test_means_end_where_few_trials_go_on():
    rates = RATES[:4].copy()
    rates[1:, 8:] = np.nan
    rates[3, 6:] = np.nan
    found = latents.components(rates, 20.0)
    fig = latents.latents(found, np.zeros(4, int), bin_ms=20.0)
    (mean,) = [line for line in fig.axes[0].lines if line.get_linewidth() == 1.5]
    shown = mean.get_xydata()
    assert np.isfinite(shown).all(axis=1).tolist() == [True] * 8 + [False] * 4
    np.testing.assert_allclose(shown[7], found.scores[:3, 7, :2].mean(axis=0))
