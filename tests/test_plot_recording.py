"""The figure of a recording by what is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.figures import texts_apart

from stndt_jax.data.trials import SpikeData
from stndt_jax.plotting import recording

R, T, N = 7, 12, 6
COUNTS = np.random.default_rng(0).poisson(0.6, (R, T, N)).astype(np.uint8)
BEHAVIOR = {
    "none": None,
    "path": np.random.default_rng(1).normal(size=(R, T, 2)).astype(np.float32),
    "one value": np.random.default_rng(1).normal(size=(R, T, 1)).astype(np.float32),
    "of trials": np.random.default_rng(1).normal(size=(R, 5)).astype(np.float32),
}
TRAIN, EVAL = [0, 1, 2, 4, 6], [3, 5]


def make(spikes: Any = COUNTS, **options: Any) -> SpikeData:
    return SpikeData.from_arrays(
        spikes, bin_ms=20.0, name="simulated", heldout=[4, 5], evaluated=EVAL, **options
    )


def test_rasters_and_rates_are_those_of_the_counts():
    fig = recording.recording(make(bins_forward=2), [0, 3])
    first, second, rates, course, _ = fig.axes
    counts = COUNTS[TRAIN]
    order = np.argsort(counts.mean(axis=(0, 1)), kind="stable")
    for ax, r in ((first, 0), (second, 3)):
        offsets = np.asarray(ax.collections[0].get_offsets())
        wanted = {((t + 0.5) * 20.0, n) for t, n in np.argwhere(counts[r][:, order])}
        assert {tuple(row) for row in offsets} == wanted
    # Trials are called by their place in the array that the recording was made from.
    assert (first.get_title(), second.get_title()) == ("trial 0", "trial 4")
    shown = np.asarray(rates.collections[0].get_offsets())
    np.testing.assert_allclose(shown[:, 1], counts.mean(axis=(0, 1))[order] * 50, rtol=1e-6)
    np.testing.assert_allclose(course.lines[0].get_ydata(), counts.mean(axis=(0, 2)) * 50)
    assert fig.get_suptitle() == "simulated: training trials"
    texts_apart(fig)


def test_bins_that_were_not_recorded_are_in_no_mean_and_padding_is_empty():
    spikes = COUNTS.astype(np.float32)
    spikes[4, 7:] = np.nan  # a trial of 7 bins
    spikes[4, 2:4, 1] = np.nan  # a gap of one neuron
    data = make(spikes)
    raster, _, course, _ = recording.recording(data, [3]).axes
    shade = np.ma.getmaskarray(np.ma.masked_invalid(raster.images[0].get_array()))
    rates = np.nan_to_num(np.nanmean(spikes[TRAIN], axis=(0, 1)))
    order = np.argsort(rates, kind="stable")
    shaded = {(int(order[row]), int(t)) for row, t in np.argwhere(~shade)}
    assert shaded == {(1, 2), (1, 3)}
    ends = np.asarray(raster.collections[0].get_offsets())[:, 0]
    assert ends.max() <= 7 * 20.0
    wanted = np.nanmean(spikes[TRAIN], axis=(0, 2)) * 50
    np.testing.assert_allclose(course.lines[0].get_ydata(), wanted, rtol=1e-6)


def test_neurons_are_ordered_by_area():
    areas = ["V2", "V1", "V2", "V1", "V1", "V2"]
    fig = recording.recording(make(unit_table={"area": areas}), [0])
    rates = COUNTS[TRAIN].mean(axis=(0, 1)) * 50
    order = sorted(range(N), key=lambda n: (areas[n], rates[n]))
    shown = np.asarray(fig.axes[1].collections[0].get_offsets())
    np.testing.assert_allclose(shown[:, 1], rates[order], rtol=1e-6)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["V1", "V2"]
    texts_apart(fig)


@pytest.mark.parametrize("kind", BEHAVIOR)
def test_behavior(kind):
    values = BEHAVIOR[kind]
    conditions = np.array([0, 1, 0, 0, 1, 0, -1], np.int32)
    data = make(
        behavior=values, conditions=conditions, behavior_unit="cm/s" if values is not None else ""
    )
    fig = recording.recording(data, [0, 3])
    ax = fig.axes[-1]
    if kind == "path":
        path = np.cumsum(values[TRAIN], axis=1) * 0.02
        np.testing.assert_allclose(ax.lines[2].get_ydata()[1:], path[2, :, 1], rtol=1e-4)
        assert ax.get_xlabel() == "behaviour 1, summed (cm)"
        raw = recording.recording(replace(data, behavior_unit="N"), [0]).axes[-1]
        np.testing.assert_array_equal(raw.lines[2].get_ydata(), values[TRAIN][2, :, 1])
        assert raw.get_xlabel() == "behaviour 1 (N)"
        named = replace(data, behavior_names=("a", "b"), behavior_unit="")
        assert recording.recording(named, [0]).axes[-1].get_ylabel() == "b"
    elif kind == "of trials":
        points = np.concatenate([line.get_xydata() for line in ax.lines])
        wanted = {tuple(p) for p in values[TRAIN][:, -2:].astype(float)}
        assert {tuple(p) for p in points} == wanted
    elif kind == "one value":
        np.testing.assert_array_equal(ax.lines[4].get_ydata(), values[TRAIN][4, :, 0])
    else:
        assert "no behaviour" in ax.texts[0].get_text()
    texts_apart(fig)


def test_behaviour_ends_where_a_trial_ends():
    spikes = COUNTS.astype(np.float32)
    spikes[4, 7:] = np.nan
    data = make(spikes, behavior=BEHAVIOR["path"], behavior_unit="cm/s")
    path = recording.recording(data, [0]).axes[-1].lines[3].get_xydata()
    assert np.isfinite(path).all(axis=1).tolist() == [True] * 8 + [False] * 5
