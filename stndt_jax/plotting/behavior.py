"""Decoded behaviour: its values in single trials, and the paths that a velocity leads along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from stndt_jax.data.labels import Behavior
from stndt_jax.plotting import style
from stndt_jax.plotting.style import INFERRED, TRUE, styled
from stndt_jax.types import Bool, Float, Int, NDArray

MOST_DIMENSIONS = 4  # rows of the figure


def paths(
    velocity_RTD: Float[NDArray, "R T D"], bin_ms: float, in_trial_RT: Bool[NDArray, "R T"]
) -> Float[NDArray, "R T+1 D"]:
    """Velocity summed over the bins of a trial times the bin width, from the origin.

    A bin of the trial whose velocity is unknown (NaN) adds nothing. Before the trial begins and
    after it ends, the path is NaN.

    Args:
        velocity_RTD: velocity, length per s.
        bin_ms: bin width, ms.
        in_trial_RT: bins that a trial has.
    """
    steps_RTD = np.nan_to_num(velocity_RTD) * (bin_ms / 1000.0) * in_trial_RT[..., None]
    path_RTD = np.pad(np.cumsum(steps_RTD, axis=1), ((0, 0), (1, 0), (0, 0)))
    # The ends of the bins that a trial has, and the beginning of its first.
    padded_RT = np.pad(in_trial_RT, ((0, 0), (1, 1)))
    on_path_RT = padded_RT[:, 1:] | padded_RT[:, :-1]
    return np.where(on_path_RT[..., None], path_RTD, np.nan)


@styled
def decoded(
    true_RTD: Float[NDArray, "R T D"],
    decoded_RTD: Float[NDArray, "R T D"],
    conditions_R: Int[NDArray, " R"] | None,
    *,
    called: Behavior,
    in_trial_RT: Bool[NDArray, "R T"],
    bin_ms: float,
    trials: Sequence[int],
    titles: Sequence[str],
    narrow: bool = False,
) -> Figure:
    """Decoded and true behaviour of some trials over time, and the paths of all if a velocity.

    Nothing is drawn outside a trial. A path is the velocity of the first two dimensions, summed
    over bins times the bin width, from the origin; a bin whose velocity is unknown (NaN) adds
    nothing.

    Args:
        true_RTD: behaviour.
        decoded_RTD: what is decoded from rates, in the same unit.
        conditions_R: condition of every trial, which gives its path a colour; None for none.
        called: names and unit of behaviour, and whether it is a velocity.
        in_trial_RT: bins that a trial has.
        bin_ms: bin width, ms.
        trials: whose behaviour to draw over time.
        titles: of these trials.
        narrow: for a phone.
    """
    true_RTD, decoded_RTD = (
        np.where(in_trial_RT[..., None], x_RTD, np.nan) for x_RTD in (true_RTD, decoded_RTD)
    )
    D = min(true_RTD.shape[2], MOST_DIMENSIONS)
    groups = style.parts_of(list(zip(trials, titles, strict=True)), 2 if narrow else None)
    with_paths = called.is_velocity and true_RTD.shape[2] > 1
    left = 1.6 * len(trials) + 0.8
    height = 1.4 * D + 0.7
    parts: list[Any]
    if narrow:
        heights = [height] * len(groups) + [2.1] * with_paths
        fig, parts = style.stacked(style.NARROW, heights, extra=0.3)
    else:
        tall = max(height, 3.6 if with_paths else 0)
        fig = Figure(figsize=(left + 2.4 * with_paths, tall), layout="constrained")
        ratios = (left, 2.4)
        parts = [fig]
        if with_paths:
            parts = [*np.ravel(np.asarray(fig.subfigures(1, 2, width_ratios=ratios), object))]
    for part, group in zip(parts, groups, strict=False):
        _over_time(part, true_RTD, decoded_RTD, group, called, bin_ms)
    style.share_y([part.axes for part, _ in zip(parts, groups, strict=False)])
    if with_paths:
        both = {"true": true_RTD, "decoded": decoded_RTD}
        drawn = {name: paths(x[..., :2], bin_ms, in_trial_RT) for name, x in both.items()}
        _paths(parts[-1], drawn, conditions_R, called, narrow)
    style.legend_above(fig, fig.axes[0], 2)
    return fig


def _over_time(
    part: Figure | SubFigure,
    true_RTD: NDArray,
    decoded_RTD: NDArray,
    group: Sequence[tuple[int, str]],
    called: Behavior,
    bin_ms: float,
) -> None:
    """A row per dimension, a column per trial."""
    T = true_RTD.shape[1]
    time = style.bin_centres(T, bin_ms)
    D = min(true_RTD.shape[2], MOST_DIMENSIONS)
    axes = part.subplots(D, len(group), sharex=True, sharey=True, squeeze=False)
    for d in range(D):
        for ax, (r, title) in zip(axes[d], group, strict=True):
            ax.axhline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
            ax.plot(time, true_RTD[r, :, d], color=TRUE, linewidth=1.0, label="true")
            ax.plot(time, decoded_RTD[r, :, d], color=INFERRED, label="decoded")
            ax.set_xlim(0, T * bin_ms)
            if d == 0:
                ax.set_title(title)
        axes[d, 0].set_ylabel(called.axis(d))
    part.supxlabel("time (ms)", fontsize=8)


def _paths(
    part: Figure | SubFigure,
    paths_of: dict[str, NDArray],
    conditions_R: Int[NDArray, " R"] | None,
    called: Behavior,
    narrow: bool,
) -> None:
    """True and decoded paths of all trials, coloured by condition."""
    shape = (1, 2) if narrow else (2, 1)
    axes: NDArray = part.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    for ax, (name, path_RTD) in zip(axes.flat, paths_of.items(), strict=True):
        draw_paths(ax, path_RTD, conditions_R)
        ax.set_title(f"{name} paths")
        ax.set_aspect("equal", adjustable="box")
    for ax in axes[:, 0]:
        ax.set_ylabel(called.path_axis(1))
    if narrow:
        part.supxlabel(called.path_axis(0), fontsize=8)
    else:
        axes[-1, 0].set_xlabel(called.path_axis(0))


def draw_paths(
    ax: Axes, path_RT2: Float[NDArray, "R T 2"], conditions_R: Int[NDArray, " R"] | None
) -> None:
    """A line per trial in the colour of its condition; none where it is NaN.

    Args:
        ax: where to draw.
        path_RT2: positions.
        conditions_R: condition of every trial; None for one colour.
    """
    groups_R = np.zeros(len(path_RT2), int) if conditions_R is None else conditions_R
    color_of = style.color_of_condition(groups_R)
    for r, path_T2 in enumerate(path_RT2):
        ax.plot(*path_T2.T, color=color_of[int(groups_R[r])], linewidth=0.8)
