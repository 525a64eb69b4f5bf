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


def test_a_phone_has_two_layers_in_a_row():
    spatial, temporal = softmax(3, 6, 6), softmax(3, 10, 10)
    fig = attention.attention_maps(
        spatial, temporal, heldin=4, bins_observed=8, bin_ms=20.0, narrow=True
    )
    maps = [ax for ax in fig.axes if ax.images and ax.get_xlabel()]
    assert fig.get_size_inches()[0] < 3.5 and len(maps) == 6
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == ["layer 1", "layer 2", "layer 3"]
    np.testing.assert_allclose(maps[4].images[0].get_array(), spatial[2] * 6)
    texts_apart(fig)


def test_neurons_are_ordered_by_area():
    spatial = softmax(1, 6, 6)
    areas = ["V2", "V1", "V2", "V1", "V1", "V2"]
    fig = attention.attention_maps(
        spatial, softmax(1, 10, 10), heldin=4, bins_observed=10, bin_ms=20.0, areas=areas
    )
    ax = next(ax for ax in fig.axes if ax.images)
    order = [1, 3, 4, 0, 2, 5]
    np.testing.assert_allclose(ax.images[0].get_array(), spatial[0][np.ix_(order, order)] * 6)
    for axis in (ax.xaxis, ax.yaxis):
        ticks = {
            label.get_text(): at
            for label, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        }
        assert ticks == {"V1": 1.0, "V2": 4.0}
    assert {line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] not in (0, 1)} == {2.5}
    texts_apart(fig)


def test_bins_without_trials_are_empty_and_those_of_few_are_marked():
    temporal = softmax(1, 4, 4)
    temporal[:, 3] = temporal[:, :, 3] = np.nan
    even = np.full((4, 4), 1 / 3)
    few = np.zeros((4, 4), bool)
    few[2, :2] = True
    fig = attention.attention_maps(
        None, temporal, heldin=4, bins_observed=4, bin_ms=10.0, even_TT=even, few_TT=few
    )
    ax = next(ax for ax in fig.axes if ax.images)
    shown = np.ma.masked_invalid(ax.images[0].get_array())
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isnan(temporal[0]))
    np.testing.assert_allclose(shown[:3, :3], temporal[0, :3, :3] * 3)
    (hatched,) = ax.patches
    # Row 2, columns 0 and 1, of cells of 10 ms.
    assert hatched.get_hatch() and hatched.get_xy() == (0, 20.0)
    assert (hatched.get_width(), hatched.get_height()) == (20.0, 10.0)


def test_lag_profiles_are_means_over_members():
    profiles = RNG.random((3, 2, 9))
    profiles[2, 1] = np.nan  # a member of one layer
    profiles[..., 0] = 0  # beyond the window
    lags = np.arange(-4, 5) * 20.0
    fig = attention.lag_profiles(profiles, lags, even_G=np.full(9, 1 / 5))
    ax = fig.axes[0]
    named = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(named["layer 1"].get_ydata(), 5 * profiles[:, 0].mean(axis=0))
    np.testing.assert_allclose(named["layer 2"].get_ydata(), 5 * profiles[:2, 1].mean(axis=0))
    assert ax.get_xlim() == (-80.0, 100.0)
    texts_apart(fig)


def test_lags_of_few_trials_are_dotted_and_those_of_none_not_drawn():
    profiles = RNG.random((1, 1, 7))
    profiles[..., [0, 6]] = np.nan  # no trial has bins so far apart
    few = np.array([False, True, False, False, False, True, False])
    lags, even = np.arange(-3, 4) * 20.0, RNG.random(7)
    ax = attention.lag_profiles(profiles, lags, even_G=even, few_G=few).axes[0]
    solid, dotted = (line.get_ydata() for line in ax.lines[:2])
    relative = profiles[0, 0] / even
    np.testing.assert_allclose(solid[2:5], relative[2:5])
    assert np.isnan(solid[[0, 1, 5, 6]]).all() and np.isnan(dotted[[0, 3, 6]]).all()
    np.testing.assert_allclose(dotted[[1, 2, 4, 5]], relative[[1, 2, 4, 5]])
    assert [line.get_linestyle() for line in ax.lines[:2]] == ["-", ":"]
