"""Decoded behaviour: hand velocity in single trials, and the paths it leads along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from stndt_jax.plotting import style
from stndt_jax.plotting.style import INFERRED, TRUE, styled
from stndt_jax.types import Float, Int, NDArray


def paths(velocity_RTD: Float[NDArray, "R T D"], bin_ms: float) -> Float[NDArray, "R T+1 D"]:
    """Velocity summed over bins times the bin width, from the origin; NaN adds nothing."""
    steps_RTD = np.nan_to_num(velocity_RTD) * (bin_ms / 1000.0)
    return np.pad(np.cumsum(steps_RTD, axis=1), ((0, 0), (1, 0), (0, 0)))


@styled
def velocity(
    true_RTD: Float[NDArray, "R T 2"],
    decoded_RTD: Float[NDArray, "R T 2"],
    conditions_R: Int[NDArray, " R"] | None,
    *,
    bin_ms: float,
    trials: Sequence[int],
    unit: str = "mm",
) -> Figure:
    """Decoded and true hand velocity of some trials over time, and the hand paths of all.

    A path is the velocity summed over bins times the bin width, from the origin; a bin whose
    velocity is unknown (NaN) adds nothing.

    Args:
        true_RTD: velocity, `unit`/s.
        decoded_RTD: decoded velocity, `unit`/s.
        conditions_R: condition of every trial, which gives its path a colour; None for none.
        bin_ms: bin width, ms.
        trials: whose velocity to draw over time.
        unit: of length.
    """
    columns = len(trials)
    fig = Figure(figsize=(1.6 * columns + 3.0, 3.6), layout="constrained")
    halves: Any = fig.subfigures(1, 2, width_ratios=(1.6 * columns + 0.6, 2.4))
    _over_time(halves[0], true_RTD, decoded_RTD, bin_ms, trials, unit)
    groups_R = np.zeros(len(true_RTD), int) if conditions_R is None else conditions_R
    both = {"true": true_RTD, "decoded": decoded_RTD}
    color_of = style.color_of_condition(groups_R)
    axes = halves[1].subplots(2, 1, sharex=True, sharey=True)
    for ax, (name, x_RTD) in zip(axes, both.items(), strict=True):
        for r, path_TD in enumerate(paths(x_RTD, bin_ms)):
            ax.plot(*path_TD.T, color=color_of[int(groups_R[r])], linewidth=0.8)
        ax.set_aspect("equal")
        ax.set_title(f"{name} hand paths")
        ax.set_ylabel(f"y ({unit})")
    axes[1].set_xlabel(f"x ({unit})")
    return fig


def _over_time(
    fig: SubFigure,
    true_RTD: NDArray,
    decoded_RTD: NDArray,
    bin_ms: float,
    trials: Sequence[int],
    unit: str,
) -> None:
    """A row for x and y each, a column per trial."""
    time = style.bin_centres(true_RTD.shape[1], bin_ms)
    axes = fig.subplots(2, len(trials), sharex=True, sharey=True, squeeze=False)
    for d, name in enumerate("xy"):
        for column, r in enumerate(trials):
            ax = axes[d, column]
            ax.axhline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
            ax.plot(time, true_RTD[r, :, d], color=TRUE, linewidth=1.0, label="true")
            ax.plot(time, decoded_RTD[r, :, d], color=INFERRED, label="decoded")
            if d == 0:
                ax.set_title(f"trial {r}")
        axes[d, 0].set_ylabel(f"{name} velocity ({unit}/s)")
    fig.supxlabel("time (ms)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2)
