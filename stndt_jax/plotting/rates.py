"""Rates over time: condition averages (PSTHs), single trials, and all neurons of single trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stndt_jax.plotting import style
from stndt_jax.plotting.style import (
    FORWARD,
    HELDIN,
    HELDOUT,
    INFERRED,
    OTHERS,
    SEQUENTIAL,
    SMOOTHED,
    SPIKES,
    TRUE,
    styled,
)
from stndt_jax.types import Float, Int, NDArray, Shaped


def condition_means(
    x_RTN: Float[NDArray, "R T N"], conditions_R: Int[NDArray, " R"], conditions: int
) -> Float[NDArray, "C T N"]:
    """Mean over the trials of every condition, NaN for one without trials: PSTHs of rates."""
    means_CTN = np.full((conditions, *x_RTN.shape[1:]), np.nan)
    for c in range(conditions):
        if np.any(conditions_R == c):
            means_CTN[c] = x_RTN[conditions_R == c].mean(axis=0)
    return means_CTN


@styled
def psths(
    true_CTN: Float[NDArray, "C T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    conditions_R: Int[NDArray, " R"],
    *,
    bin_ms: float,
    neurons: Sequence[int],
    true_label: str = "recorded",
) -> Figure:
    """PSTHs above, condition means of inferred rates below; a column per neuron.

    The two panels of a neuron share their axes, and every condition has one colour.

    Args:
        true_CTN: PSTHs, counts per bin; empirical ones, or means of true rates.
        inferred_RTN: rates of single trials, counts per bin.
        conditions_R: row of `true_CTN` that a trial belongs to; -1 for none.
        bin_ms: bin width, ms.
        neurons: which neurons to draw.
        true_label: what the upper row shows.
    """
    inferred_CTN = condition_means(inferred_RTN, conditions_R, len(true_CTN))
    shown = [c for c in range(len(true_CTN)) if np.any(conditions_R == c)]
    color_of = style.color_of_condition(np.array(shown, int))
    time = style.bin_centres(true_CTN.shape[1], bin_ms)
    fig, axes = style.panels(2, len(neurons), width=1.9, height=1.45, share="col")
    for column, n in enumerate(neurons):
        rows = ((true_CTN, true_label), (inferred_CTN, "inferred"))
        for row, (means_CTN, label) in enumerate(rows):
            ax = axes[row, column]
            for c in shown:
                mean_T = style.hz(means_CTN[c, :, n], bin_ms)
                ax.plot(time, mean_T, color=color_of[c], label=f"{c}")
            if row == 0:
                ax.set_title(f"neuron {n}")
            if column == 0:
                ax.set_ylabel(f"{label}\n(spikes/s)")
        style.start_at_zero(axes[:, column], headroom=1.05)
    fig.supxlabel("time (ms)", fontsize=8)
    if 1 < len(shown) <= 12:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, title="condition", loc="outside right center")
    return fig


@styled
def single_trials(
    spikes_RTN: Shaped[NDArray, "R T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    *,
    bin_ms: float,
    trials: Sequence[int],
    neurons: Sequence[int],
    true_RTN: Float[NDArray, "R T N"] | None = None,
    smoothed_RTN: Float[NDArray, "R T N"] | None = None,
    bins_observed: int | None = None,
) -> Figure:
    """Spikes and rates of single trials: a row per neuron, a column per trial.

    Spikes are ticks above the rates. Several spikes in one bin are spread over its width.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        neurons: which neurons to draw.
        true_RTN: true rates of simulated spikes, counts per bin.
        smoothed_RTN: smoothed spikes or a baseline's rates, counts per bin.
        bins_observed: number of observed bins; the forward bins after them are shaded.
    """
    rates: list[tuple[NDArray | None, str, dict[str, Any]]] = [
        (smoothed_RTN, "smoothed spikes", {"color": SMOOTHED}),
        (true_RTN, "true rate", {"color": TRUE, "linewidth": 1.0}),
        (inferred_RTN, "inferred rate", {"color": INFERRED}),
    ]
    bins = spikes_RTN.shape[1]
    time = style.bin_centres(bins, bin_ms)
    fig, axes = style.panels(len(neurons), len(trials), width=1.7, height=1.15, share="row")
    for row, n in enumerate(neurons):
        for ax, r in zip(axes[row], trials, strict=True):
            for values_RTN, label, look in rates:
                if values_RTN is not None:
                    ax.plot(time, style.hz(values_RTN[r, :, n], bin_ms), label=label, **look)
            if bins_observed is not None and bins_observed < bins:
                ax.axvspan(bins_observed * bin_ms, bins * bin_ms, color=FORWARD, zorder=0)
        style.start_at_zero(axes[row], headroom=1.2)
        for ax, r in zip(axes[row], trials, strict=True):
            ticks = _spike_times(spikes_RTN[r, :, n], bin_ms)
            # At a fixed height of the panel, in the headroom above the rates.
            ax.plot(
                ticks,
                np.full(len(ticks), 0.94),
                "|",
                transform=ax.get_xaxis_transform(),
                color=SPIKES,
                markersize=6,
                markeredgewidth=0.7,
                label="spikes",
            )
        axes[row, 0].set_ylabel(f"neuron {n}\n(spikes/s)")
    for ax, r in zip(axes[0], trials, strict=True):
        ax.set_title(f"trial {r}")
    fig.supxlabel("time (ms)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


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
    true_RTN: Float[NDArray, "R T N"] | None = None,
    bins_observed: int | None = None,
    heldin: int | None = None,
) -> Figure:
    """All neurons of single trials: spikes, inferred rates and true rates where they are known.

    Neurons are sorted by the bin in which their mean rate over trials is highest. A rate is
    relative to the neuron's own highest inferred rate in the trials that are drawn.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        true_RTN: true rates of simulated spikes, counts per bin.
        bins_observed: number of observed bins; a dashed line separates the forward bins.
        heldin: number of held-in neurons; the spikes of the others have another colour.
    """
    _, T, N = inferred_RTN.shape
    order_N = np.argsort(np.argmax(inferred_RTN.mean(axis=0), axis=0), kind="stable")
    highest_N = inferred_RTN[list(trials)].max(axis=(0, 1))
    highest_N = np.where(highest_N > 0, highest_N, 1.0)
    rows = [("inferred rates", inferred_RTN)]
    rows += [("true rates", true_RTN)] if true_RTN is not None else []
    count = 1 + len(rows)
    fig = Figure(figsize=(1.9 * len(trials) + 1.2, 1.6 * count + 0.5), layout="constrained")
    axes = fig.subplots(count, len(trials), sharex=True, sharey=True, squeeze=False)
    colors_N = np.where(np.arange(N) < (N if heldin is None else heldin), HELDIN, HELDOUT)[order_N]
    image: Any = None
    for column, r in enumerate(trials):
        style.raster(axes[0, column], spikes_RTN[r][:, order_N], colors_N, bin_ms=bin_ms, size=5)
        axes[0, column].set_title(f"trial {r}")
        for ax, (_, rates_RTN) in zip(axes[1:, column], rows, strict=True):
            image = ax.imshow(
                (rates_RTN[r] / highest_N)[:, order_N].T,
                extent=(0, T * bin_ms, -0.5, N - 0.5),
                origin="lower",
                aspect="auto",
                vmin=0,
                vmax=1,
                cmap=SEQUENTIAL,
            )
        for ax in axes[:, column]:
            if bins_observed is not None and bins_observed < T:
                ax.axvline(bins_observed * bin_ms, color=OTHERS, linewidth=0.8, linestyle="--")
    for ax, name in zip(axes[:, 0], ("spikes", *(name for name, _ in rows)), strict=True):
        ax.set_ylabel(f"{name}\nneuron, by time of peak")
    fig.supxlabel("time (ms)", fontsize=8)
    label = "rate / neuron's highest inferred rate"
    fig.colorbar(image, ax=axes[1:], label=label, shrink=0.8, pad=0.01)
    return fig
