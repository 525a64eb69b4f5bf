"""Latent trajectories: the inferred population activity in its first principal components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stndt_jax.plotting import style
from stndt_jax.plotting.rates import ENOUGH, condition_means
from stndt_jax.plotting.style import OTHERS, styled
from stndt_jax.types import Float, Int, NDArray

MOST_TRIALS = 60  # single trials drawn behind the condition means


class Components(NamedTuple):
    """Principal components of rates.

    Attributes:
        scores: of every trial and bin, in square roots of spikes/s.
        explained: fraction of the variance that every component explains, largest first.
    """

    scores: Float[NDArray, "R T P"]
    explained: Float[NDArray, " N"]


def components(rates_RTN: Float[NDArray, "R T N"], bin_ms: float, number: int = 3) -> Components:
    """Principal components of the square roots of rates; NaN bins stay NaN.

    The square root keeps neurons of high rate from dominating the first components.

    Args:
        rates_RTN: counts per bin.
        bin_ms: bin width, ms.
        number: how many components to keep.
    """
    x_RTN = np.sqrt(style.hz(np.asarray(rates_RTN, float), bin_ms))
    rows_SN = x_RTN.reshape(-1, x_RTN.shape[-1])
    rows_SN = rows_SN[np.isfinite(rows_SN).all(axis=1)]
    mean_N = rows_SN.mean(axis=0)
    centred_SN = rows_SN - mean_N
    values_N, vectors_NN = np.linalg.eigh(centred_SN.T @ centred_SN)
    values_N, vectors_NN = np.maximum(values_N[::-1], 0), vectors_NN[:, ::-1]
    vectors_NP = vectors_NN[:, : min(number, len(values_N))]
    # A vector's sign is arbitrary: its largest entry is made positive.
    largest_P = np.take_along_axis(vectors_NP, np.abs(vectors_NP).argmax(axis=0)[None], axis=0)
    scores_RTP = (x_RTN - mean_N) @ (vectors_NP * np.where(largest_P < 0, -1, 1))
    return Components(scores_RTP, values_N / max(values_N.sum(), 1e-30))


@styled
def latents(
    found: Components,
    conditions_R: Int[NDArray, " R"] | None,
    *,
    bin_ms: float,
    narrow: bool = False,
) -> Figure:
    """Trajectories in the first principal components, and the variance that these explain.

    Thick lines are condition means over the bins that at least half of a condition's trials have,
    thin ones single trials; a dot is the first bin. Without conditions, single trials are coloured
    by time.

    Args:
        found: result of `components`, with two components or more.
        conditions_R: condition of every trial, -1 for none; None if they are not known.
        bin_ms: bin width, ms.
        narrow: for a phone.
    """
    scores_RTP = found.scores
    has_conditions = conditions_R is not None and bool(np.any(conditions_R >= 0))
    pairs = [(0, 1), (0, 2)] if scores_RTP.shape[-1] > 2 else [(0, 1)]
    number = len(pairs)
    if narrow:
        fig = Figure(figsize=(style.NARROW, 2.4 * number + 2.1), layout="constrained")
        heights = [1.25] * number + [0.8]
        *axes, last = fig.subplots(number + 1, 1, height_ratios=heights, squeeze=False)[:, 0]
    else:
        fig = Figure(figsize=(2.6 * number + 2.4, 2.6), layout="constrained")
        widths = [1.25] * number + [0.8]
        *axes, last = fig.subplots(1, number + 1, width_ratios=widths, squeeze=False)[0]
    for ax, (a, b) in zip(axes, pairs, strict=True):
        if has_conditions:
            assert conditions_R is not None
            _trajectories(ax, scores_RTP[..., [a, b]], conditions_R)
        else:
            lines = _by_time(ax, scores_RTP[..., [a, b]], bin_ms)
            fig.colorbar(lines, ax=ax, label="time (ms)")
        ax.set(
            xlabel=f"PC {a + 1}, {found.explained[a]:.0%} (√spikes/s)",
            ylabel=f"PC {b + 1}, {found.explained[b]:.0%} (√spikes/s)",
        )
    cumulative = np.cumsum(found.explained)[:10]
    last.bar(np.arange(1, len(cumulative) + 1), cumulative, color=OTHERS, width=0.7)
    last.set(xlabel="components", ylabel="fraction of variance explained", ylim=(0, 1))
    last.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return fig


def _by_time(ax: Axes, points_RT2: Float[NDArray, "R T 2"], bin_ms: float) -> LineCollection:
    """Single trials, each piece in the colour of its time."""
    shown = points_RT2[:MOST_TRIALS]
    T = shown.shape[1]
    # Few colours, which the colour bar draws as lines are drawn, not as a picture.
    steps = min(max(T - 1, 2), 24)
    colors = ListedColormap(style.condition_colors(steps))
    pieces = np.stack([shown[:, :-1], shown[:, 1:]], axis=2).reshape(-1, 2, 2)
    time_S = np.tile(np.arange(1, T) * bin_ms, len(shown))
    known_S = np.isfinite(pieces).all(axis=(1, 2))
    lines = LineCollection(
        list(pieces[known_S]), array=time_S[known_S], cmap=colors, linewidths=0.7, alpha=0.8
    )
    lines.set_clim(0, T * bin_ms)
    ax.add_collection(lines)
    for points_T2 in shown:
        begun = np.flatnonzero(np.isfinite(points_T2).all(axis=1))
        if begun.size:
            ax.plot(*points_T2[begun[0]], "o", color=colors(0), markersize=2)
    ax.set_aspect("equal", adjustable="datalim")
    ax.autoscale_view()
    return lines


def _trajectories(
    ax: Axes, points_RT2: Float[NDArray, "R T 2"], labels_R: Int[NDArray, " R"]
) -> None:
    groups = np.unique(labels_R[labels_R >= 0])
    color_of = style.color_of_condition(groups)
    for points_T2, label in zip(points_RT2[:MOST_TRIALS], labels_R[:MOST_TRIALS], strict=True):
        color = color_of.get(int(label), OTHERS)
        ax.plot(*points_T2.T, color=color, linewidth=0.4, alpha=0.35)
    means_CT2 = condition_means(points_RT2, labels_R, int(groups.max()) + 1, share=ENOUGH)
    for c in groups:
        ax.plot(*means_CT2[c].T, color=color_of[int(c)], linewidth=1.5)
        begun = np.flatnonzero(np.isfinite(means_CT2[c]).all(axis=1))
        if begun.size:
            first = means_CT2[c][begun[0]]
            ax.plot(*first, "o", color=color_of[int(c)], markersize=4, zorder=4)
    ax.set_aspect("equal", adjustable="datalim")
