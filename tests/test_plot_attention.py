"""Attention maps and lags by what is drawn."""

from __future__ import annotations

import numpy as np
from helpers.figures import texts_apart

from stndt_jax.plotting import attention

RNG = np.random.default_rng(0)


def softmax(*shape: int) -> np.ndarray:
    x = np.exp(RNG.normal(size=shape))
    return x / x.sum(axis=-1, keepdims=True)


def test_attention_maps_are_relative_to_uniform_attention():
    spatial, temporal = softmax(2, 6, 6), softmax(2, 10, 10)
    fig = attention.attention_maps(spatial, temporal, heldin=4, bins_observed=8, bin_ms=20.0)
    maps = [ax for ax in fig.axes if ax.images and ax.get_xlabel()]
    assert len(maps) == 4
    np.testing.assert_allclose(maps[1].images[0].get_array(), spatial[1] * 6)
    np.testing.assert_allclose(maps[2].images[0].get_array(), temporal[0] * 10)
    assert maps[0].lines[0].get_xdata()[0] == 3.5 and maps[2].lines[0].get_xdata()[0] == 160.0
    assert maps[3].images[0].get_extent() == [0, 200.0, 200.0, 0]
    texts_apart(fig)
    few = attention.attention_maps(spatial[:1], temporal, heldin=None, bins_observed=8, bin_ms=20.0)
    maps = [ax for ax in few.axes if ax.images and ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in maps] == ["attended factor", *["attended time (ms)"] * 2]
    assert maps[0].get_ylabel() == "attending factor" and not maps[0].lines
    alone = attention.attention_maps(None, temporal, heldin=4, bins_observed=8, bin_ms=20.0)
    assert len([ax for ax in alone.axes if ax.images and ax.get_xlabel()]) == 2


def test_lag_profiles_are_means_over_members():
    profiles = RNG.random((3, 2, 9))
    profiles[2, 1] = np.nan  # a member of one layer
    profiles[..., 0] = 0  # beyond the window
    lags = np.arange(-4, 5) * 20.0
    fig = attention.lag_profiles(profiles, lags, bins=5)
    ax = fig.axes[0]
    named = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(named["layer 1"].get_ydata(), 5 * profiles[:, 0].mean(axis=0))
    np.testing.assert_allclose(named["layer 2"].get_ydata(), 5 * profiles[:2, 1].mean(axis=0))
    assert ax.get_xlim() == (-80.0, 100.0)
    texts_apart(fig)
