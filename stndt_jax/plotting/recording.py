"""A recording before any model has seen it: rasters, mean rates, behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stndt_jax.data import labels
from stndt_jax.data.labels import Behavior
from stndt_jax.data.trials import SpikeData
from stndt_jax.plotting import style
from stndt_jax.plotting.behavior import draw_paths, paths
from stndt_jax.plotting.style import FORWARD, HELDIN, HELDOUT, styled
from stndt_jax.types import Bool, Int, NDArray

MOST_PATHS = 300  # trials whose behaviour is drawn: more would hide each other


@styled
def recording(data: SpikeData, trials: Sequence[int]) -> Figure:
    """Rasters of some training trials; mean rates, the rate over time, behaviour of all of them.

    Neurons are sorted by area, if areas are known, and by their mean rate; held-out ones have their
    own colour. Bins of a trial that were not recorded are grey; nothing is drawn where a short
    trial has no bins. Behaviour with three axes is a value per bin, drawn as a path of its first
    two dimensions; with two axes, it is a value per trial, and the last two are drawn against each
    other.

    Args:
        data: the recording.
        trials: training trials whose rasters to draw.
    """
    sizes = (data.bins_forward, data.heldout)
    counts_RTN, has_count_RTN = data.train.counts(*sizes), data.train.has_count(*sizes)
    in_trial_RT = data.train.in_trial(data.bins)
    N = data.neurons
    fig = Figure(figsize=(7.2, 4.8), layout="constrained")
    fig.suptitle(f"{data.name}: training trials", fontsize=9)
    halves: Any = fig.subfigures(2, 1, height_ratios=(1.2, 1))
    mean_N = _mean_count(counts_RTN, has_count_RTN, axis=(0, 1))
    rates_N = np.nan_to_num(style.hz(mean_N, data.bin_ms))
    areas = labels.areas(data)
    order_N = np.lexsort((rates_N,) if areas is None else (rates_N, np.asarray(areas)))
    colors_N = np.where(np.arange(N) < data.heldin, HELDIN, HELDOUT)[order_N]
    rasters = halves[0].subplots(1, len(trials), sharex=True, sharey=True, squeeze=False)[0]
    for ax, r in zip(rasters, trials, strict=True):
        gaps_TN = in_trial_RT[r][:, None] & ~has_count_RTN[r]
        _gaps(ax, gaps_TN[:, order_N], data.bin_ms)
        style.raster(ax, counts_RTN[r][:, order_N], colors_N, bin_ms=data.bin_ms, size=6)
        ax.set_title(labels.trial(data, "train", r).title)
        if data.bins_forward:
            border = data.bins_observed * data.bin_ms
            ax.axvline(border, color=HELDIN, linewidth=0.6, linestyle=":")
        if areas is not None:
            style.area_ticks(ax, [areas[n] for n in order_N])
            ax.tick_params(labelleft=ax is rasters[0])
    by = "mean rate" if areas is None else "area and rate"
    rasters[0].set_ylabel(f"neuron, by {by}")
    halves[0].supxlabel("time (ms)", fontsize=8)

    left, middle, right = halves[1].subplots(1, 3)
    _mean_rates(left, rates_N[order_N], colors_N, by)
    mean_T = style.hz(_mean_count(counts_RTN, has_count_RTN, axis=(0, 2)), data.bin_ms)
    _over_time(middle, mean_T, data)
    _behavior(right, data, in_trial_RT)
    handles, names = left.get_legend_handles_labels()
    halves[1].legend(handles, names, loc="outside upper left", ncols=2, handletextpad=0.1)
    return fig


def _mean_count(counts_RTN: NDArray, has_count_RTN: NDArray, axis: tuple[int, int]) -> NDArray:
    """Mean over the known counts; NaN without any. Counts that are not known are 0."""
    with np.errstate(invalid="ignore"):
        return counts_RTN.sum(axis=axis, dtype=np.int64) / has_count_RTN.sum(axis=axis)


def _mean_rates(ax: Axes, rates_N: NDArray, colors_N: NDArray, by: str) -> None:
    ax.scatter(np.arange(len(rates_N)), rates_N, s=5, c=colors_N)
    for color, label in ((HELDIN, "held-in"), (HELDOUT, "held-out")):
        ax.scatter([], [], s=12, c=color, label=label)
    ax.set(xlabel=f"neuron, by {by}", ylabel="mean rate (spikes/s)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(0, 1.08 * max(rates_N.max(), 1e-3))


def _over_time(ax: Axes, mean_T: NDArray, data: SpikeData) -> None:
    ax.plot(style.bin_centres(data.bins, data.bin_ms), mean_T, color=HELDIN, linewidth=0.9)
    if data.bins_forward:
        ends = (data.bins_observed * data.bin_ms, data.bins * data.bin_ms)
        ax.axvspan(*ends, color=FORWARD, zorder=0)
        ax.set_title("forward bins shaded")
    ax.set(xlabel="time (ms)", ylabel="mean over neurons\nand trials (spikes/s)")
    ax.set_ylim(0, None)


def _gaps(ax: Axes, gaps_TN: Bool[NDArray, "T N"], bin_ms: float) -> None:
    """Shades bins of a trial that were not recorded."""
    if not gaps_TN.any():
        return
    T, N = gaps_TN.shape
    extent = (0, T * bin_ms, -0.5, N - 0.5)
    look: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 3}
    shade = np.where(gaps_TN.T, 0.5, np.nan)
    ax.imshow(shade, extent=extent, origin="lower", aspect="auto", **look)


def _behavior(ax: Axes, data: SpikeData, in_trial_RT: Bool[NDArray, "R T"]) -> None:
    behavior, called = data.train.behavior, labels.behavior(data)
    if behavior is None or called is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no behaviour", ha="center", va="center", transform=ax.transAxes)
        return
    conditions = data.train.conditions
    if behavior.ndim == 2:
        _of_trials(ax, behavior, conditions, called)
        return
    T = behavior.shape[1]
    shown_RT = in_trial_RT[:MOST_PATHS, :T]
    shown_RTD = np.where(shown_RT[..., None], behavior[:MOST_PATHS], np.nan)
    if behavior.shape[2] == 1:
        time_T = style.bin_centres(T, data.bin_ms)
        time_RT = np.where(shown_RT, time_T, np.nan)
        draw_paths(ax, np.stack([time_RT, shown_RTD[..., 0]], axis=-1), conditions)
        ax.set(xlabel="time (ms)", ylabel=called.axis(0), title="behaviour")
    elif called.is_velocity:
        draw_paths(ax, paths(shown_RTD[..., :2], data.bin_ms, shown_RT), conditions)
        ax.set(xlabel=called.path_axis(0), ylabel=called.path_axis(1), title="paths")
        ax.set_aspect("equal", adjustable="datalim")
    else:
        draw_paths(ax, shown_RTD[..., :2], conditions)
        ax.set(xlabel=called.axis(0), ylabel=called.axis(1), title="behaviour")


def _of_trials(
    ax: Axes, behavior_RD: NDArray, conditions: Int[NDArray, " R"] | None, called: Behavior
) -> None:
    """The last two values of every trial against each other; a single one by trial."""
    labels_R = np.zeros(len(behavior_RD), int) if conditions is None else conditions
    D = behavior_RD.shape[1]
    x_R = behavior_RD[:, -2] if D > 1 else np.arange(len(behavior_RD))
    color_of = style.color_of_condition(labels_R)
    for c, color in color_of.items():
        rows = labels_R == c
        ax.plot(x_R[rows], behavior_RD[rows, -1], "o", markersize=2.5, color=color)
    x_label = called.axis(D - 2) if D > 1 else "training trial"
    ax.set(xlabel=x_label, ylabel=called.axis(D - 1), title="behaviour of all trials")
