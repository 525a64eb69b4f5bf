"""Correlations among neurons, and how they are drawn."""

from __future__ import annotations

import numpy as np
from helpers.figures import texts_apart

from stndt_jax.plotting import correlations

RNG = np.random.default_rng(0)
RATES = RNG.gamma(2.0, 0.1, (9, 12, 6))


def test_correlation_is_that_of_known_bins():
    x = RATES.copy()
    x[2, 3, 1] = np.nan
    x[..., 4] = 0.3
    found = correlations.correlation(x)
    rows = x.reshape(-1, 6)[~np.isnan(x).any(axis=2).ravel()]
    some = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(found[np.ix_(some, some)], np.corrcoef(rows[:, some].T), atol=1e-12)
    np.testing.assert_array_equal(found[4], [0, 0, 0, 0, 1, 0])


def test_correlations_share_order_and_scale():
    first, true = correlations.correlation(RATES), correlations.correlation(RATES[:5])
    fig = correlations.correlations(
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
    small = correlations.correlations({"a": first, "b": true, "c": true}, order_by="a", narrow=True)
    assert [len(ax.images) for ax in small.axes[:4]] == [1, 1, 1, 0]
    texts_apart(small)


def _sorted(shown: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Rows of the shown matrix with their columns put back in the neurons' order."""
    values = [sorted(row) for row in first]
    order = [next(i for i, v in enumerate(values) if np.allclose(sorted(row), v)) for row in shown]
    back = np.empty_like(shown)
    back[:, order] = shown
    return back
