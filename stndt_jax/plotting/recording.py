"""A recording as a picture: what was prepared, before any model has seen it.

Like `plots.py`: arrays to a `matplotlib.figure.Figure`, which `plots.save` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stndt_jax.plotting.style import BEST, condition_colors, paths, styled
from stndt_jax.types import Bool, Float, Int, NDArray, UInt

HELDIN, HELDOUT = "#000000", BEST
MOST_PATHS = 300  # trials whose paths are drawn: more hide one another


@styled
def recording(
    counts_RTN: UInt[NDArray, "R T N"],
    *,
    known_RTN: Bool[NDArray, "R T N"],
    heldin: int,
    bins_observed: int,
    bin_ms: float,
    behavior: Float[NDArray, "R ..."] | None,
    velocity: bool,
    conditions: Int[NDArray, " R"] | None,
    trials: Sequence[int],
    name: str,
) -> Figure:
    """Rasters of some trials; mean rates, the population's rate over time, behaviour of all.

    Neurons stand in the order of their mean rate, held-out ones in their own colour. What was not
    recorded is grey. Behaviour of three axes is a course over time, drawn as a path of its first
    two values; of two axes, values of whole trials, the last drawn against the one before.

    Args:
        counts_RTN: spike counts, neurons held-in then held-out, bins observed then forward.
        known_RTN: where they are known.
        heldin: how many of the neurons are held-in.
        bins_observed: how many of the bins are observed.
        bin_ms: bin width, ms.
        behavior: values in every observed bin, or values of every trial.
        velocity: whether behaviour is a velocity, which is summed up to a path.
        conditions: condition of every trial, which colours its behaviour.
        trials: whose rasters to draw.
        name: of the recording, for the title.
    """
    _, T, N = counts_RTN.shape
    entries_N = np.maximum(known_RTN.sum(axis=(0, 1)), 1)
    rates_N = counts_RTN.sum(axis=(0, 1), dtype=np.int64) / entries_N * (1000.0 / bin_ms)
    order_N = np.argsort(rates_N, kind="stable")
    colors = np.where(np.arange(N) < heldin, HELDIN, HELDOUT)
    fig = Figure(figsize=(7.2, 4.8), layout="constrained")
    fig.suptitle(name, fontsize=9)
    halves: Any = fig.subfigures(2, 1, height_ratios=(1.2, 1))
    rasters = halves[0].subplots(1, len(trials), sharex=True, sharey=True, squeeze=False)[0]
    for ax, r in zip(rasters, trials, strict=True):
        _raster(ax, counts_RTN[r][:, order_N], known_RTN[r][:, order_N], colors[order_N], bin_ms)
        ax.set_title(f"trial {r}")
        if bins_observed < T:
            ax.axvline(bins_observed * bin_ms, color=HELDIN, linewidth=0.6, linestyle=":")
    rasters[0].set_ylabel("neuron, by rate")
    halves[0].supxlabel("time (ms)", fontsize=8)

    left, middle, right = halves[1].subplots(1, 3)
    left.scatter(np.arange(N), rates_N[order_N], s=5, c=colors[order_N])
    for color, label in ((HELDIN, "held-in"), (HELDOUT, "held-out")):
        left.scatter([], [], s=12, c=color, label=label)
    left.legend(loc="lower right", handletextpad=0.1)
    left.set(xlabel="neuron, by rate", ylabel="mean rate (spikes/s)")
    left.set_ylim(0, 1.08 * max(rates_N.max(), 1e-3))

    entries_T = known_RTN.sum(axis=(0, 2))
    time_T = (np.arange(T) + 0.5) * bin_ms
    with np.errstate(invalid="ignore"):
        mean_T = counts_RTN.sum(axis=(0, 2), dtype=np.int64) / entries_T * (1000.0 / bin_ms)
    middle.plot(time_T, mean_T, color=HELDIN, linewidth=0.9)
    if bins_observed < T:
        middle.axvspan(bins_observed * bin_ms, T * bin_ms, color="#EEEEEE", zorder=0)
        middle.set_title("forward bins shaded")
    middle.set(xlabel="time (ms)", ylabel="mean over neurons\nand trials (spikes/s)")
    middle.set_ylim(0, None)
    _behavior(right, behavior, velocity, conditions, bin_ms)
    return fig


def _raster(
    ax: Axes, counts_TN: NDArray, known_TN: NDArray, colors_N: NDArray, bin_ms: float
) -> None:
    T, N = counts_TN.shape
    if not known_TN.all():
        shade = np.where(known_TN.T, np.nan, 0.5)
        edges = (0, T * bin_ms, -0.5, N - 0.5)
        ax.imshow(shade, extent=edges, origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=3)
    t, n = np.nonzero(counts_TN)
    ax.scatter(
        (t + 0.5) * bin_ms, n, s=6 * counts_TN[t, n], marker="|", c=colors_N[n], linewidths=0.5
    )
    ax.set(xlim=(0, T * bin_ms), ylim=(-0.5, N - 0.5))


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
    groups = np.unique(labels_R)
    colors = dict(zip(groups.tolist(), condition_colors(len(groups)), strict=True))
    if behavior.ndim == 2:
        for c in groups:
            rows = behavior[labels_R == c]
            ax.plot(rows[:, -2], rows[:, -1], "o", markersize=2.5, color=colors[int(c)])
        ax.set(xlabel="next to last value", ylabel="last value", title="behaviour of the trials")
        return
    if behavior.shape[2] == 1:
        time_T = (np.arange(behavior.shape[1]) + 0.5) * bin_ms
        for r in range(min(len(behavior), MOST_PATHS)):
            ax.plot(time_T, behavior[r, :, 0], color=colors[int(labels_R[r])], linewidth=0.4)
        ax.set(xlabel="time (ms)", ylabel="behaviour", title="behaviour")
        return
    shown = behavior[:MOST_PATHS, :, :2]
    for r, path_TD in enumerate(paths(shown, bin_ms) if velocity else shown):
        ax.plot(*path_TD.T, color=colors[int(labels_R[r])], linewidth=0.5)
    ax.set_aspect("equal", adjustable="datalim")
    if velocity:
        ax.set(xlabel="x (mm)", ylabel="y (mm)", title="paths from the origin")
    else:
        ax.set(xlabel="first value", ylabel="second value", title="behaviour")
