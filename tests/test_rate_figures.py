"""Figures of trials of unequal length: no mark is drawn where a trial has no bins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import small_models
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stndt_jax.data.trials import SpikeData
from stndt_jax.interpret import attention, summary
from stndt_jax.plotting import interpretation_figures, rate_figures
from stndt_jax.plotting.figures import Drawing

BIN_MS = 10.0
# Bins of each trial; every other one is evaluated.
LENGTHS = [8, 6, 7, 5, 8, 3, 8, 6, 8, 8, 8, 4, 7, 7, 8, 6]
EVALUATED = list(range(1, 16, 2))
T = 8


@pytest.fixture(scope="module", params=[0, 2], ids=["padding last", "padding first"])
def data(request: pytest.FixtureRequest) -> SpikeData:
    """With forward bins, the padding comes before the beginning of a trial."""
    rng = np.random.default_rng(0)
    return SpikeData.from_arrays(
        [1 + rng.poisson(1.0, (length, 6)) for length in LENGTHS],
        bin_ms=BIN_MS,
        heldout=[4, 5],
        evaluated=EVALUATED,
        bins_forward=request.param,
        behavior=[rng.normal(size=(length, 2)) for length in LENGTHS],
        behavior_unit="cm/s",
        conditions=np.arange(16) // 2 % 2,
        starts=np.arange(16.0),
        unit_table={"area": ["V1", "V2"] * 3},
    )


@pytest.fixture(scope="module")
def drawings(data: SpikeData) -> dict[str, Drawing]:
    models = small_models.models(data)
    found = [
        *rate_figures.of_rates(models),
        *interpretation_figures.of_interpretation(summary.of_models(models, with_gradients=False)),
    ]
    return {one.name: one for one in found}


def own_bins(data: SpikeData, trial: int) -> tuple[int, int]:
    """The first bin of a trial and the one after its last, by hand."""
    return (T - LENGTHS[trial], T) if data.bins_forward else (0, LENGTHS[trial])


def longest(data: SpikeData) -> int:
    """The largest number of bins of the evaluated trials."""
    return max(LENGTHS[trial] for trial in EVALUATED)


def cells(image: Any) -> np.ndarray:
    """Which cells of a picture are drawn."""
    return np.isfinite(np.ma.filled(image.get_array(), np.nan))


def marks(ax: Axes) -> Iterator[tuple[float, float]]:
    """The left and right end of everything that is drawn in a panel over time, ms."""
    for line in ax.lines:
        x, y = (np.asarray(values, float) for values in line.get_data())
        # Lines across the whole panel, of 0 or where forward bins begin, are no data.
        across = len(x) == 2 and (np.array_equal(x, [0, 1]) or np.array_equal(y, [0, 1]))
        known = np.isfinite(x) & np.isfinite(y)
        if known.any() and not across:
            yield x[known].min(), x[known].max()
    for collection in ax.collections:
        x = np.asarray(collection.get_offsets())[:, 0]
        if x.size:
            yield x.min(), x.max()
    for image in ax.images:
        left, right, _, _ = image.get_extent()
        drawn = np.atleast_1d(cells(image).any(axis=0))
        edges = left + (right - left) * np.arange(len(drawn) + 1) / len(drawn)
        columns = np.flatnonzero(drawn)
        if columns.size:
            yield edges[columns[0]], edges[columns[-1] + 1]


def panels_of_trials(fig: Figure) -> Iterator[tuple[int, Axes]]:
    """Panels with the trial that they show, which the title of their column names."""
    parts: list[Any] = list(fig.subfigs) or [fig]
    for part in parts:
        trial_at: dict[float, int] = {}
        for ax in part.axes:
            left = ax.get_position().x0
            if ax.get_title().startswith("trial "):
                trial_at[left] = int(ax.get_title().split("\n")[0].removeprefix("trial "))
            if trial_at and ax.get_label() != "<colorbar>":
                yield trial_at[min(trial_at, key=lambda at: abs(at - left))], ax


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", ["single_trials", "populations", "behavior"])
def test_no_mark_is_drawn_in_padding(
    data: SpikeData, drawings: dict[str, Drawing], name: str, narrow: bool
) -> None:
    seen, short = 0, 0
    fig = drawings[name].draw(narrow=narrow)
    FigureCanvasAgg(fig).draw()
    for trial, ax in panels_of_trials(fig):
        first, end = own_bins(data, trial)
        short += end - first < T
        for left, right in marks(ax):
            seen += 1
            assert left >= first * BIN_MS and right <= end * BIN_MS, (name, trial)
    assert seen >= 8 and short >= 4


def test_paths_are_as_long_as_their_trials(data: SpikeData, drawings: dict[str, Drawing]) -> None:
    observed = data.bins_observed
    fig = drawings["behavior"].draw()
    shown = [ax for ax in fig.axes if ax.get_title().endswith("paths")]
    assert len(shown) == 2
    for ax in shown:
        for trial, line in zip(EVALUATED, ax.lines, strict=True):
            first, end = own_bins(data, trial)
            points = np.isfinite(np.asarray(line.get_xydata())).all(axis=1)
            # The origin, and the end of every bin.
            assert points.sum() == min(end, observed) - first + 1
            assert points[first] and not points[:first].any()


def test_latents_and_condition_means_end_with_their_trials(
    data: SpikeData, drawings: dict[str, Drawing]
) -> None:
    observed = data.bins_observed
    thin = [x for x in drawings["latents"].draw().axes[0].lines if x.get_linewidth() == 0.4]
    for trial, line in zip(EVALUATED, thin, strict=True):
        first, end = own_bins(data, trial)
        points = np.isfinite(np.asarray(line.get_xydata())).all(axis=1)
        assert np.flatnonzero(points).tolist() == list(range(first, min(end, observed)))
    conditions = np.arange(16) // 2 % 2
    for ax in drawings["psths"].draw().axes:
        for c, line in enumerate(ax.lines):
            own = [own_bins(data, trial) for trial in EVALUATED if conditions[trial] == c]
            has = [sum(first <= t < end for first, end in own) for t in range(observed)]
            drawn = np.isfinite(np.asarray(line.get_ydata(), float))
            assert drawn.tolist() == [number >= max(1, len(own) / 2) for number in has]


def test_titles_say_which_trial_it_is(data: SpikeData, drawings: dict[str, Drawing]) -> None:
    titles = {ax.get_title() for ax in drawings["single_trials"].draw().axes if ax.get_title()}
    assert titles == {
        "trial 1\ncondition 0, 1.00 s",
        "trial 3\ncondition 1, 3.00 s",
        "trial 5\ncondition 0, 5.00 s",
        "trial 7\ncondition 1, 7.00 s",
    }


def test_attention_is_empty_where_no_trial_has_bins_and_marked_where_few_have(
    data: SpikeData, drawings: dict[str, Drawing]
) -> None:
    bins = [own_bins(data, trial) for trial in EVALUATED]
    has_RT = np.array([[first <= t < end for t in range(T)] for first, end in bins])
    # Forward bins may always be attended to.
    has_RT[:, data.bins_observed :] |= bool(data.bins_forward)
    pairs = np.einsum("rt,rs->ts", has_RT.astype(int), has_RT.astype(int))
    maps = [
        ax
        for ax in drawings["attention"].draw().axes
        if ax.get_xlabel().startswith("attended time")
    ]
    assert maps
    for ax in maps:
        drawn = cells(ax.images[0])
        np.testing.assert_array_equal(drawn, pairs > 0)
        hatched = np.zeros((T, T), bool)
        patches: list[Any] = list(ax.patches)
        for patch in patches:
            x, y = (round(at / BIN_MS) for at in patch.get_xy())
            hatched[y, x : x + round(patch.get_width() / BIN_MS)] = True
        few = interpretation_figures.FEW * len(EVALUATED)
        np.testing.assert_array_equal(hatched, (pairs > 0) & (pairs < few))
    said = drawings["attention"].caption
    assert ("Hatched" in said) == bool(((pairs > 0) & (pairs < few)).any())
    ax = drawings["lags"].draw().axes[0]
    reach = max(np.abs(t - s) for t, s in np.argwhere(pairs > 0)) * BIN_MS
    for line in ax.lines:
        x, y = (np.asarray(values, float) for values in line.get_data())
        if len(x) > 2:
            assert np.abs(x[np.isfinite(y)]).max() <= reach


def test_uniform_attention_is_that_of_a_trials_own_bins(data: SpikeData) -> None:
    """By hand, trial by trial: 1 over the number of its bins, in mean over those with both."""
    (model,) = small_models.models(data)
    found = attention.maps(model, data.eval)
    has_RT = data.eval.in_trial(T)
    has_RT[:, data.bins_observed :] |= bool(data.bins_forward)
    for t in range(T):
        for s in range(T):
            both = [1 / has.sum() for has in has_RT if has[t] and has[s]]
            assert found.pairs[t, s] == len(both)
            if both:
                assert found.even[t, s] == pytest.approx(np.mean(both), rel=1e-5)
            else:
                assert np.isnan(found.even[t, s]) and np.isnan(found.temporal[:, t, s]).all()


def test_no_panel_of_spikes_that_are_unknown(data: SpikeData) -> None:
    """Without targets; numpy would warn of means of nothing, which is an error in tests."""
    withheld = dataclasses.replace(data.eval, heldout=None, heldout_forward=None)
    drawings = rate_figures.of_rates(small_models.models(dataclasses.replace(data, eval=withheld)))
    (drawing,) = [one for one in drawings if one.name == "correlations"]
    assert "held-out neurons are unknown" in drawing.caption
    titles = [ax.get_title() for ax in drawing.draw().axes]
    assert not any("spikes" in title for title in titles)
    assert any("inferred rates" in title.lower() for title in titles), titles
