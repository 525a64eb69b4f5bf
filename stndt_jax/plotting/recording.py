"""A recording before any model has seen it: rasters, mean rates, behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stndt_jax.plotting import style
from stndt_jax.plotting.behavior import paths
from stndt_jax.plotting.style import FORWARD, HELDIN, HELDOUT, styled
from stndt_jax.types import Bool, Float, Int, NDArray, UInt

MOST_PATHS = 300  # trials whose behaviour is drawn: more would hide each other


@styled
def recording(
    counts_RTN: UInt[NDArray, "R T N"],
    *,
    has_count_RTN: Bool[NDArray, "R T N"],
    heldin: int,
    bins_observed: int,
    bin_ms: float,
    behavior: Float[NDArray, "R ..."] | None,
    velocity: bool,
    conditions: Int[NDArray, " R"] | None,
    trials: Sequence[int],
    name: str,
) -> Figure:
    """Rasters of some trials; mean rates, the population rate over time, behaviour of all trials.

    Neurons are sorted by their mean rate; held-out ones have their own colour. Bins that were not
    recorded are grey. Behaviour with three axes is a value per bin, drawn as a path of its first
    two values; with two axes, it is a value per trial, and the last two are drawn against each
    other.

    Args:
        counts_RTN: spike counts, neurons held-in then held-out, bins observed then forward.
        has_count_RTN: where they are known.
        heldin: number of held-in neurons.
        bins_observed: number of observed bins.
        bin_ms: bin width, ms.
        behavior: values in every observed bin, or values of every trial.
        velocity: whether behaviour is a velocity, which is summed to a path.
        conditions: condition of every trial, which gives its behaviour a colour.
        trials: whose rasters to draw.
        name: of the recording, for the title.
    """
    T, N = counts_RTN.shape[1:]
    fig = Figure(figsize=(7.2, 4.8), layout="constrained")
    fig.suptitle(name, fontsize=9)
    halves: Any = fig.subfigures(2, 1, height_ratios=(1.2, 1))
    rates_N = np.nan_to_num(style.hz(_mean_count(counts_RTN, has_count_RTN, axis=(0, 1)), bin_ms))
    order_N = np.argsort(rates_N, kind="stable")
    colors_N = np.where(np.arange(N) < heldin, HELDIN, HELDOUT)[order_N]
    rasters = halves[0].subplots(1, len(trials), sharex=True, sharey=True, squeeze=False)[0]
    for ax, r in zip(rasters, trials, strict=True):
        _raster(ax, counts_RTN[r][:, order_N], has_count_RTN[r][:, order_N], colors_N, bin_ms)
        ax.set_title(f"trial {r}")
        if bins_observed < T:
            ax.axvline(bins_observed * bin_ms, color=HELDIN, linewidth=0.6, linestyle=":")
    rasters[0].set_ylabel("neuron, by mean rate")
    halves[0].supxlabel("time (ms)", fontsize=8)

    left, middle, right = halves[1].subplots(1, 3)
    _mean_rates(left, rates_N[order_N], colors_N)
    mean_T = style.hz(_mean_count(counts_RTN, has_count_RTN, axis=(0, 2)), bin_ms)
    middle.plot(style.bin_centres(T, bin_ms), mean_T, color=HELDIN, linewidth=0.9)
    if bins_observed < T:
        middle.axvspan(bins_observed * bin_ms, T * bin_ms, color=FORWARD, zorder=0)
        middle.set_title("forward bins shaded")
    middle.set(xlabel="time (ms)", ylabel="mean over neurons\nand trials (spikes/s)")
    middle.set_ylim(0, None)
    _behavior(right, behavior, velocity, conditions, bin_ms)
    return fig


def _mean_count(counts_RTN: NDArray, has_count_RTN: NDArray, axis: tuple[int, int]) -> NDArray:
    """Mean over the known counts; NaN without any. Counts that are not known are 0."""
    with np.errstate(invalid="ignore"):
        return counts_RTN.sum(axis=axis, dtype=np.int64) / has_count_RTN.sum(axis=axis)


def _mean_rates(ax: Axes, rates_N: NDArray, colors_N: NDArray) -> None:
    ax.scatter(np.arange(len(rates_N)), rates_N, s=5, c=colors_N)
    for color, label in ((HELDIN, "held-in"), (HELDOUT, "held-out")):
        ax.scatter([], [], s=12, c=color, label=label)
    ax.legend(loc="lower right", handletextpad=0.1)
    ax.set(xlabel="neuron, by mean rate", ylabel="mean rate (spikes/s)")
    ax.set_ylim(0, 1.08 * max(rates_N.max(), 1e-3))


def _raster(
    ax: Axes, counts_TN: NDArray, has_count_TN: NDArray, colors_N: NDArray, bin_ms: float
) -> None:
    T, N = counts_TN.shape
    if not has_count_TN.all():
        shade = np.where(has_count_TN.T, np.nan, 0.5)
        extent = (0, T * bin_ms, -0.5, N - 0.5)
        look: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 3}
        ax.imshow(shade, extent=extent, origin="lower", aspect="auto", **look)
    style.raster(ax, counts_TN, colors_N, bin_ms=bin_ms, size=6)


def _behavior(
    ax: Axes,
    behavior: NDArray | None,
    velocity: bool,
    conditions: NDArray | None,
    bin_ms: float,
) -> None:
    if behavior is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no behaviour", ha="center", va="center", transform=ax.transAxes)
        return
    labels_R = np.zeros(len(behavior), int) if conditions is None else conditions
    color_of = style.color_of_condition(labels_R)
    if behavior.ndim == 2:
        for c, color in color_of.items():
            rows = behavior[labels_R == c]
            ax.plot(rows[:, -2], rows[:, -1], "o", markersize=2.5, color=color)
        ax.set(xlabel="second last value", ylabel="last value", title="behaviour of all trials")
        return
    if behavior.shape[2] == 1:
        time_T = style.bin_centres(behavior.shape[1], bin_ms)
        for r in range(min(len(behavior), MOST_PATHS)):
            ax.plot(time_T, behavior[r, :, 0], color=color_of[int(labels_R[r])], linewidth=0.4)
        ax.set(xlabel="time (ms)", ylabel="behaviour", title="behaviour")
        return
    shown = behavior[:MOST_PATHS, :, :2]
    for r, path_TD in enumerate(paths(shown, bin_ms) if velocity else shown):
        ax.plot(*path_TD.T, color=color_of[int(labels_R[r])], linewidth=0.5)
    ax.set_aspect("equal", adjustable="datalim")
    if velocity:
        ax.set(xlabel="x (mm)", ylabel="y (mm)", title="hand paths from the origin")
    else:
        ax.set(xlabel="first value", ylabel="second value", title="behaviour")
