"""The figure of a recording by what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.figures import texts_apart

from stndt_jax.plotting import recording

R, T, N = 5, 12, 6
COUNTS = np.random.default_rng(0).poisson(0.6, (R, T, N)).astype(np.uint8)
BEHAVIOR = {
    "none": None,
    "path": np.random.default_rng(1).normal(size=(R, 10, 2)).astype(np.float32),
    "one value": np.random.default_rng(1).normal(size=(R, 10, 1)).astype(np.float32),
    "of trials": np.random.default_rng(1).normal(size=(R, 5)).astype(np.float32),
}


def draw(behavior=None, velocity=True, known=None, conditions=None):
    return recording.recording(
        COUNTS,
        has_count_RTN=np.ones(COUNTS.shape, bool) if known is None else known,
        heldin=4,
        bins_observed=10,
        bin_ms=20.0,
        behavior=behavior,
        velocity=velocity,
        conditions=conditions,
        trials=[0, 3],
        name="simulated: training trials",
    )


def test_rasters_and_rates_are_those_of_the_counts():
    fig = draw()
    first, second, rates, course, _ = fig.axes
    order = np.argsort(COUNTS.mean(axis=(0, 1)), kind="stable")
    for ax, r in ((first, 0), (second, 3)):
        offsets = np.asarray(ax.collections[0].get_offsets())
        wanted = {((t + 0.5) * 20.0, n) for t, n in np.argwhere(COUNTS[r][:, order])}
        assert {tuple(row) for row in offsets} == wanted
    shown = np.asarray(rates.collections[0].get_offsets())
    np.testing.assert_allclose(shown[:, 1], COUNTS.mean(axis=(0, 1))[order] * 50, rtol=1e-6)
    np.testing.assert_allclose(course.lines[0].get_ydata(), COUNTS.mean(axis=(0, 2)) * 50)


def test_bins_that_were_not_recorded_are_in_no_mean():
    known = np.ones(COUNTS.shape, bool)
    known[3, 7:] = False
    fig = recording.recording(
        np.where(known, COUNTS, 0), has_count_RTN=known, heldin=4, bins_observed=12, bin_ms=20.0,
        behavior=None, velocity=False, conditions=None, trials=[3], name="short",
    )  # fmt: skip
    raster, _, course, _ = fig.axes
    shade = np.ma.masked_invalid(raster.images[0].get_array())
    np.testing.assert_array_equal(~np.ma.getmaskarray(shade)[0], ~known[3, :, 0])
    wanted = np.nanmean(np.where(known, COUNTS, np.nan), axis=(0, 2)) * 50
    np.testing.assert_allclose(course.lines[0].get_ydata(), wanted)


@pytest.mark.parametrize("kind", BEHAVIOR)
def test_behavior(kind):
    behavior = BEHAVIOR[kind]
    fig = draw(behavior, conditions=np.array([0, 1, 0, 1, -1], np.int32))
    ax = fig.axes[-1]
    if kind == "path":
        steps = np.cumsum(behavior, axis=1) * 0.02
        np.testing.assert_allclose(ax.lines[2].get_ydata()[1:], steps[2, :, 1], rtol=1e-5)
        raw = draw(behavior, velocity=False).axes[-1]
        np.testing.assert_array_equal(raw.lines[2].get_ydata(), behavior[2, :, 1])
    elif kind == "of trials":
        points = np.concatenate([line.get_xydata() for line in ax.lines])
        assert {tuple(p) for p in points} == {tuple(p) for p in behavior[:, -2:].astype(float)}
    elif kind == "one value":
        np.testing.assert_array_equal(ax.lines[4].get_ydata(), behavior[4, :, 0])
    else:
        assert "no behaviour" in ax.texts[0].get_text()
    texts_apart(fig)
