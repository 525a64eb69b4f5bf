"""Rates over time: condition averages (PSTHs), single trials, and all neurons of single trials.

Values that are NaN are not drawn: rates of bins that a short trial does not have are given as NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from stndt_jax.plotting import style
from stndt_jax.plotting.style import (
    FORWARD,
    HELDIN,
    HELDOUT,
    INFERRED,
    ON_IMAGE,
    OTHERS,
    SEQUENTIAL,
    SMOOTHED,
    SPIKES,
    TRUE,
    styled,
)
from stndt_jax.types import Float, Int, NDArray, Shaped

# The fraction of a condition's trials that must have a bin, for its mean to be drawn.
ENOUGH = 0.5


def condition_means(
    x_RTN: Float[NDArray, "R T N"],
    conditions_R: Int[NDArray, " R"],
    conditions: int,
    share: float = 0.0,
) -> Float[NDArray, "C T N"]:
    """Mean over the trials of every condition: PSTHs of rates.

    Args:
        x_RTN: values; NaN where a trial has none.
        conditions_R: condition of every trial.
        conditions: their number.
        share: fraction of a condition's trials that must have a bin, for its mean to be known.

    Returns:
        Means over the trials that have the bin; NaN for none, and for fewer than ``share``.
    """
    means_CTN = np.full((conditions, *x_RTN.shape[1:]), np.nan)
    for c in range(conditions):
        own_RTN = x_RTN[conditions_R == c]
        number_TN = np.isfinite(own_RTN).sum(axis=0)
        enough_TN = number_TN >= max(share * len(own_RTN), 1)
        total_TN = np.where(np.isfinite(own_RTN), own_RTN, 0.0).sum(axis=0)
        means_CTN[c] = np.where(enough_TN, total_TN / np.maximum(number_TN, 1), np.nan)
    return means_CTN


@styled
def psths(
    true_CTN: Float[NDArray, "C T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    conditions_R: Int[NDArray, " R"],
    *,
    bin_ms: float,
    neurons: Sequence[int],
    names: Sequence[str],
    conditions: Sequence[str],
    true_label: str = "recorded",
    narrow: bool = False,
) -> Figure:
    """PSTHs above, condition means of inferred rates below; a column per neuron.

    The two panels of a neuron share their axes, and every condition has one colour. A mean ends
    where fewer than half of the condition's trials go on.

    Args:
        true_CTN: PSTHs, counts per bin; empirical ones, or means of true rates.
        inferred_RTN: rates of single trials, counts per bin; NaN outside a trial.
        conditions_R: row of `true_CTN` that a trial belongs to; -1 for none.
        bin_ms: bin width, ms.
        neurons: which neurons to draw.
        names: their titles.
        conditions: names of the rows of `true_CTN`, for the legend.
        true_label: what the upper row shows.
        narrow: for a phone.
    """
    inferred_CTN = condition_means(inferred_RTN, conditions_R, len(true_CTN), share=ENOUGH)
    shown = [c for c in range(len(true_CTN)) if np.any(conditions_R == c)]
    color_of = style.color_of_condition(np.array(shown, int))
    time = style.bin_centres(true_CTN.shape[1], bin_ms)
    groups = style.parts_of(list(zip(neurons, names, strict=True)), 2 if narrow else None)
    width = style.NARROW if narrow else 1.9 * len(neurons) + 0.8
    fig, parts = style.stacked(width, [3.6] * len(groups))
    rows = ((true_CTN, true_label), (inferred_CTN, "inferred"))
    for part, group in zip(parts, groups, strict=True):
        axes = part.subplots(2, len(group), sharex=True, sharey="col", squeeze=False)
        for column, (n, name) in enumerate(group):
            for row, (means_CTN, label) in enumerate(rows):
                ax = axes[row, column]
                for c in shown:
                    mean_T = style.hz(means_CTN[c, :, n], bin_ms)
                    ax.plot(time, mean_T, color=color_of[c], label=conditions[c])
                if column == 0:
                    ax.set_ylabel(f"{label}\n(spikes/s)")
            axes[0, column].set_title(name)
            axes[0, column].set_xlim(0, len(time) * bin_ms)
            style.start_at_zero(list(axes[:, column]), headroom=1.05)
    fig.supxlabel("time (ms)", fontsize=8)
    if 1 < len(shown) <= 12:
        place: dict[str, Any] = {"loc": "outside right center", "title": "condition"}
        if narrow:
            place = {"loc": "outside upper center", "ncols": 2}
        handles, labels = fig.axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, **place)
    return fig


@styled
def single_trials(
    spikes_RTN: Shaped[NDArray, "R T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    *,
    bin_ms: float,
    trials: Sequence[int],
    neurons: Sequence[int],
    titles: tuple[Sequence[str], Sequence[str]],
    true_RTN: Float[NDArray, "R T N"] | None = None,
    smoothed_RTN: Float[NDArray, "R T N"] | None = None,
    bins_observed: int | None = None,
    narrow: bool = False,
) -> Figure:
    """Spikes and rates of single trials: a row per neuron, a column per trial.

    Spikes are ticks above the rates. Several spikes in one bin are spread over its width.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin; NaN outside a trial, as in all others.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        neurons: which neurons to draw.
        titles: of these trials, and of these neurons.
        true_RTN: true rates of simulated spikes, counts per bin.
        smoothed_RTN: smoothed spikes or a baseline's rates, counts per bin.
        bins_observed: number of observed bins; the forward bins after them are shaded.
        narrow: for a phone.
    """
    rates: list[tuple[NDArray | None, str, dict[str, Any]]] = [
        (smoothed_RTN, "smoothed spikes", {"color": SMOOTHED}),
        (true_RTN, "true rate", {"color": TRUE, "linewidth": 1.0}),
        (inferred_RTN, "inferred rate", {"color": INFERRED}),
    ]
    bins = spikes_RTN.shape[1]
    time = style.bin_centres(bins, bin_ms)
    columns = list(zip(trials, titles[0], strict=True))
    groups = style.parts_of(columns, 2 if narrow else None)
    width = style.NARROW if narrow else 1.7 * len(trials) + 0.8
    fig, parts = style.stacked(width, [1.15 * len(neurons) + 0.4] * len(groups), extra=0.4)
    rows: list[list[Axes]] = [[] for _ in neurons]
    for part, group in zip(parts, groups, strict=True):
        axes = part.subplots(len(neurons), len(group), sharex=True, sharey="row", squeeze=False)
        for row, n in enumerate(neurons):
            rows[row] += list(axes[row])
            for ax, (r, _) in zip(axes[row], group, strict=True):
                for values_RTN, label, look in rates:
                    if values_RTN is not None:
                        ax.plot(time, style.hz(values_RTN[r, :, n], bin_ms), label=label, **look)
                _spikes_above(ax, spikes_RTN[r, :, n], bin_ms)
                if bins_observed is not None and bins_observed < bins:
                    ax.axvspan(bins_observed * bin_ms, bins * bin_ms, color=FORWARD, zorder=0)
                ax.set_xlim(0, bins * bin_ms)
            axes[row, 0].set_ylabel(f"{titles[1][row]}\n(spikes/s)")
        for ax, (_, title) in zip(axes[0], group, strict=True):
            ax.set_title(title)
    for same in rows:
        style.start_at_zero(same, headroom=1.2)
    fig.supxlabel("time (ms)", fontsize=8)
    style.legend_above(fig, rows[0][0], 2 if narrow else 4)
    return fig


def _spikes_above(ax: Axes, counts_T: NDArray, bin_ms: float) -> None:
    """Ticks at a fixed height of the panel, in the headroom above the rates."""
    ticks = _spike_times(counts_T, bin_ms)
    look: dict[str, Any] = {"color": SPIKES, "markersize": 6, "markeredgewidth": 0.7}
    height = np.full(len(ticks), 0.94)
    ax.plot(ticks, height, "|", transform=ax.get_xaxis_transform(), label="spikes", **look)


def _spike_times(counts_T: NDArray, bin_ms: float) -> NDArray:
    """Times in ms; k spikes of a bin are drawn at the middles of its k equal parts."""
    times = [
        (t + (np.arange(int(count)) + 0.5) / count) * bin_ms
        for t, count in enumerate(np.nan_to_num(counts_T))
        if count > 0
    ]
    return np.concatenate(times) if times else np.zeros(0)


@styled
def populations(
    spikes_RTN: Shaped[NDArray, "R T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    *,
    bin_ms: float,
    trials: Sequence[int],
    titles: Sequence[str],
    true_RTN: Float[NDArray, "R T N"] | None = None,
    bins_observed: int | None = None,
    heldin: int | None = None,
    areas: Sequence[str] | None = None,
    narrow: bool = False,
) -> Figure:
    """All neurons of single trials: spikes, inferred rates and true rates where they are known.

    Neurons are sorted by area if areas are given, and by the bin in which their mean rate over
    trials is highest. A rate is relative to the neuron's own highest inferred rate in the trials
    that are drawn.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin; NaN outside a trial.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        titles: of these trials.
        true_RTN: true rates of simulated spikes, counts per bin.
        bins_observed: number of observed bins; a dashed line separates the forward bins.
        heldin: number of held-in neurons; the spikes of the others have another colour.
        areas: area of every neuron.
        narrow: for a phone.
    """
    _, T, N = inferred_RTN.shape
    order_N = by_area_and_peak(inferred_RTN, areas)
    highest_N = np.nan_to_num(inferred_RTN[list(trials)]).max(axis=(0, 1))
    highest_N = np.where(highest_N > 0, highest_N, 1.0)
    rates = [("inferred rates", inferred_RTN)]
    rates += [("true rates", true_RTN)] if true_RTN is not None else []
    colors_N = np.where(np.arange(N) < (N if heldin is None else heldin), HELDIN, HELDOUT)[order_N]
    groups = style.parts_of(list(zip(trials, titles, strict=True)), 2 if narrow else None)
    width = style.NARROW if narrow else 1.9 * len(trials) + 1.2
    fig, parts = style.stacked(width, [1.6 * (1 + len(rates)) + 0.6] * len(groups))
    for part, group in zip(parts, groups, strict=True):
        axes = part.subplots(1 + len(rates), len(group), sharex=True, sharey=True, squeeze=False)
        image: Any = None
        for column, (r, title) in enumerate(group):
            above, *below = axes[:, column]
            style.raster(above, spikes_RTN[r][:, order_N], colors_N, bin_ms=bin_ms, size=5)
            above.set_title(title)
            for ax, (_, rates_RTN) in zip(below, rates, strict=True):
                image = _rows(ax, (rates_RTN[r] / highest_N)[:, order_N], bin_ms)
            for ax in axes[:, column]:
                if bins_observed is not None and bins_observed < T:
                    ax.axvline(bins_observed * bin_ms, color=OTHERS, linewidth=0.8, linestyle="--")
        _name_rows(part, axes, ["spikes", *(name for name, _ in rates)], areas, order_N)
        part.colorbar(image, ax=axes[1:], label="rate / highest", shrink=0.9, pad=0.01)
    fig.supxlabel("time (ms)", fontsize=8)
    return fig


def by_area_and_peak(
    rates_RTN: Float[NDArray, "R T N"], areas: Sequence[str] | None
) -> Int[NDArray, " N"]:
    """An order of the neurons: by area if they are given, then by the bin of the highest mean.

    Args:
        rates_RTN: rates; NaN outside a trial.
        areas: area of every neuron.
    """
    with warnings.catch_warnings():
        # A bin that no trial has.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        mean_TN = np.nan_to_num(np.nanmean(rates_RTN, axis=0))
    peaks_N = np.argmax(mean_TN, axis=0)
    return np.lexsort((peaks_N,) if areas is None else (peaks_N, np.asarray(areas)))


def _rows(ax: Axes, relative_TN: Float[NDArray, "T N"], bin_ms: float) -> Any:
    """A picture of rates, a row per neuron; nothing where they are NaN."""
    T, N = relative_TN.shape
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    extent = (0, T * bin_ms, -0.5, N - 0.5)
    return ax.imshow(relative_TN.T, extent=extent, vmin=0, vmax=1, cmap=SEQUENTIAL, **look)


def _name_rows(
    part: Figure | SubFigure,
    axes: NDArray,
    names: Sequence[str],
    areas: Sequence[str] | None,
    order_N: Int[NDArray, " N"],
) -> None:
    """Labels of the rows of panels, and of the areas in them."""
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(f"{name}\nneuron, by {'area' if areas is not None else 'peak'}")
    if areas is None:
        return
    shown = [areas[n] for n in order_N]
    for row in range(len(axes)):
        for ax in axes[row]:
            style.area_ticks(ax, shown, color=ON_IMAGE if row else OTHERS)
            ax.tick_params(labelleft=ax is axes[row, 0])
