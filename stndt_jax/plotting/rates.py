"""Rates as pictures: their correlations, whole populations, latent paths, and how true they are.

Like `plots.py`: arrays to a `matplotlib.figure.Figure`, which `plots.save` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from scipy.cluster import hierarchy
from scipy.stats import chi2

from stndt_jax.plotting.style import (
    BEST,
    MINUS,
    OTHERS,
    TRUE,
    condition_colors,
    condition_means,
    styled,
)
from stndt_jax.types import Bool, Float, Int, NDArray, Shaped

MOST_PATHS = 60  # single trials drawn behind the condition means
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
HELDIN, HELDOUT = TRUE, BEST


def correlation(x_RTN: Float[NDArray, "R T N"]) -> Float[NDArray, "N N"]:
    """Correlation of every two neurons over the bins that are known (not NaN) of all trials.

    A neuron that never changes has correlation 0 with the others.
    """
    rows_SN = x_RTN.reshape(-1, x_RTN.shape[-1])
    rows_SN = rows_SN[np.isfinite(rows_SN).all(axis=1)]
    around_SN = rows_SN - rows_SN.mean(axis=0)
    length_N = np.linalg.norm(around_SN, axis=0)
    # What never changes is left with rounding errors of its mean.
    varies_N = length_N > 1e-9 * np.linalg.norm(rows_SN, axis=0)
    around_SN = np.where(varies_N, around_SN / np.where(varies_N, length_N, 1.0), 0.0)
    found_NN = np.clip(around_SN.T @ around_SN, -1, 1)
    np.fill_diagonal(found_NN, 1.0)
    return found_NN


@styled
def correlations(
    matrices: Mapping[str, Float[NDArray, "N N"]], *, order_by: str, compare_with: str | None = None
) -> Figure:
    """Correlations among neurons, a panel a kind of rate, all in one order and one scale.

    Args:
        matrices: by what they are of, such as spikes or inferred rates.
        order_by: which of them orders the neurons, so that similar ones are neighbours.
        compare_with: the true one; the titles of the others tell how much they are like it.
    """
    first = matrices[order_by]
    apart_NN = 1 - (first + first.T) / 2
    away = hierarchy.distance.squareform(np.maximum(apart_NN, 0), checks=False)
    order = hierarchy.leaves_list(hierarchy.linkage(away, "average")) if len(first) > 2 else None
    fig = Figure(figsize=(2.1 * len(matrices) + 0.7, 2.5), layout="constrained")
    axes = fig.subplots(1, len(matrices), sharex=True, sharey=True, squeeze=False)[0]
    upper = np.triu_indices(len(first), 1)
    image: Any = None
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        shown = matrix if order is None else matrix[np.ix_(order, order)]
        image = ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
        title = name
        if compare_with and compare_with in matrices and name != compare_with and len(first) > 2:
            like = np.corrcoef(matrix[upper], matrices[compare_with][upper])[0, 1]
            title += f"\nlike the true: {like:.2f}".replace("-", MINUS)
        ax.set_title(title)
        ax.set_xlabel("neuron, by likeness")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("neuron, by likeness")
    fig.colorbar(image, ax=axes, label="correlation", shrink=0.8, pad=0.02)
    return fig


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

    Neurons stand in the order of the bin in which their mean rate over trials is highest. A rate is
    relative to the neuron's own highest inferred rate in the trials that are drawn.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        true_RTN: true rates of simulated spikes.
        bins_observed: where forward bins begin.
        heldin: how many of the neurons are held-in; the others' spikes have their own colour.
    """
    _, T, N = inferred_RTN.shape
    order_N = np.argsort(np.argmax(inferred_RTN.mean(axis=0), axis=0), kind="stable")
    highest_N = inferred_RTN[list(trials)].max(axis=(0, 1))
    highest_N = np.where(highest_N > 0, highest_N, 1.0)
    rows = [("inferred", inferred_RTN)] + ([("true", true_RTN)] if true_RTN is not None else [])
    count = 1 + len(rows)
    fig = Figure(figsize=(1.9 * len(trials) + 1.2, 1.6 * count + 0.5), layout="constrained")
    axes = fig.subplots(count, len(trials), sharex=True, sharey=True, squeeze=False)
    colors_N = np.where(np.arange(N) < (N if heldin is None else heldin), HELDIN, HELDOUT)[order_N]
    box = (0, T * bin_ms, -0.5, N - 0.5)
    image: Any = None
    for column, r in enumerate(trials):
        counts_TN = np.nan_to_num(np.asarray(spikes_RTN[r], float))[:, order_N]
        t, n = np.nonzero(counts_TN)
        look: dict[str, Any] = {"s": 5 * counts_TN[t, n], "c": colors_N[n], "linewidths": 0.5}
        axes[0, column].scatter((t + 0.5) * bin_ms, n, marker="|", **look)
        axes[0, column].set_title(f"trial {r}")
        for row, (_, rates_RTN) in enumerate(rows, start=1):
            shown = (rates_RTN[r] / highest_N)[:, order_N].T
            image = axes[row, column].imshow(
                shown, extent=box, origin="lower", aspect="auto", vmin=0, vmax=1, cmap=SEQUENTIAL
            )
        for ax in axes[:, column]:
            ax.set(xlim=box[:2], ylim=box[2:])
            if bins_observed is not None and bins_observed < T:
                ax.axvline(bins_observed * bin_ms, color=OTHERS, linewidth=0.8, linestyle="--")
    for ax, name in zip(axes[:, 0], ("spikes", *(name for name, _ in rows)), strict=True):
        ax.set_ylabel(f"{name}\nneuron, by peak")
    fig.supxlabel("time (ms)", fontsize=8)
    fig.colorbar(image, ax=axes[1:], label="rate / highest inferred", shrink=0.8, pad=0.01)
    return fig


class Components(NamedTuple):
    """Principal components of rates.

    Attributes:
        scores: of every trial and bin.
        explained: share of the variance of every component, largest first.
    """

    scores: Float[NDArray, "R T P"]
    explained: Float[NDArray, " N"]


def components(rates_RTN: Float[NDArray, "R T N"], bin_ms: float, number: int = 3) -> Components:
    """Principal components of the square roots of rates, in root spikes/s; NaN bins stay NaN.

    Square roots, so that neurons of high rate do not make up the first components alone.
    """
    x_RTN = np.sqrt(np.asarray(rates_RTN, float) * (1000.0 / bin_ms))
    rows_SN = x_RTN.reshape(-1, x_RTN.shape[-1])
    rows_SN = rows_SN[np.isfinite(rows_SN).all(axis=1)]
    mean_N = rows_SN.mean(axis=0)
    around_SN = rows_SN - mean_N
    values_N, vectors_NN = np.linalg.eigh(around_SN.T @ around_SN)
    values_N, vectors_NN = np.maximum(values_N[::-1], 0), vectors_NN[:, ::-1]
    vectors_NP = vectors_NN[:, : min(number, len(values_N))]
    # A vector's sign is arbitrary: its largest entry is made positive.
    largest_P = np.take_along_axis(vectors_NP, np.abs(vectors_NP).argmax(axis=0)[None], axis=0)
    scores_RTP = (x_RTN - mean_N) @ (vectors_NP * np.where(largest_P < 0, -1, 1))
    return Components(scores_RTP, values_N / max(values_N.sum(), 1e-30))


@styled
def latents(found: Components, conditions_R: Int[NDArray, " R"] | None, *, bin_ms: float) -> Figure:
    """Paths of the population in its first principal components, and how much those explain.

    Thick lines are means of conditions, thin ones single trials; a dot is a trial's beginning.

    Args:
        found: what `components` gives, of two components or more.
        conditions_R: condition of every trial, -1 for none; None where they are not known.
        bin_ms: bin width, ms.
    """
    scores_RTP = found.scores
    labels_R = np.zeros(len(scores_RTP), int) if conditions_R is None else conditions_R
    groups = np.unique(labels_R[labels_R >= 0])
    colors = dict(zip(groups.tolist(), condition_colors(len(groups)), strict=True))
    pairs = [(0, 1), (0, 2)] if scores_RTP.shape[-1] > 2 else [(0, 1)]
    fig = Figure(figsize=(2.6 * len(pairs) + 2.2, 2.6), layout="constrained")
    widths = [1.25] * len(pairs) + [0.8]
    axes = fig.subplots(1, len(pairs) + 1, width_ratios=widths, squeeze=False)[0]
    means_CTP = condition_means(scores_RTP, labels_R, int(groups.max()) + 1 if len(groups) else 0)
    for ax, (a, b) in zip(axes, pairs, strict=False):
        for r in range(min(len(scores_RTP), MOST_PATHS)):
            color = colors.get(int(labels_R[r]), OTHERS)
            ax.plot(*scores_RTP[r][:, [a, b]].T, color=color, linewidth=0.4, alpha=0.35)
        for c in groups:
            path_T2 = means_CTP[c][:, [a, b]]
            ax.plot(*path_T2.T, color=colors[int(c)], linewidth=1.5)
            ax.plot(*path_T2[0], "o", color=colors[int(c)], markersize=4, zorder=4)
        for name, axis in (("xlabel", a), ("ylabel", b)):
            share = found.explained[axis]
            ax.set(**{name: f"component {axis + 1}, {share:.0%} (√spikes/s)"})
        ax.set_aspect("equal", adjustable="datalim")
    cumulative = np.cumsum(found.explained)[:10]
    axes[-1].bar(np.arange(1, len(cumulative) + 1), cumulative, color=OTHERS, width=0.7)
    axes[-1].set(xlabel="components", ylabel="share of the variance", ylim=(0, 1))
    axes[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    milliseconds = scores_RTP.shape[1] * bin_ms
    fig.suptitle(f"{milliseconds:g} ms of inferred rates, from the dot on", fontsize=8)
    return fig


class Calibration(NamedTuple):
    """Predicted against observed counts in groups of equally many bins, by predicted rate.

    Attributes:
        predicted: mean predicted count per bin of every group, lowest first.
        observed: mean observed count per bin.
        low: lower end of the 95% interval of the observed mean, as of Poisson counts.
        high: upper end.
    """

    predicted: Float[NDArray, " G"]
    observed: Float[NDArray, " G"]
    low: Float[NDArray, " G"]
    high: Float[NDArray, " G"]


def calibration_of(
    rates: Float[NDArray, "..."],
    counts: Shaped[NDArray, "..."],
    known: Bool[NDArray, "..."],
    groups: int = 10,
) -> Calibration:
    """Groups entries by their predicted rate and compares the mean prediction and count."""
    rates_S, counts_S = np.asarray(rates, float)[known], np.asarray(counts, float)[known]
    parts = np.array_split(np.argsort(rates_S, kind="stable"), groups)
    parts = [part for part in parts if len(part)]
    size = np.array([len(part) for part in parts], float)
    total = np.array([counts_S[part].sum() for part in parts])
    low = np.where(total > 0, chi2.ppf(0.025, np.maximum(2 * total, 1)) / 2, 0.0)
    high = chi2.ppf(0.975, 2 * total + 2) / 2
    predicted = np.array([rates_S[part].mean() for part in parts])
    return Calibration(predicted, total / size, low / size, high / size)


@styled
def calibration(found: Mapping[str, Calibration], *, bin_ms: float) -> Figure:
    """Observed against predicted rate by deciles of the prediction; on the diagonal they agree.

    Args:
        found: by the neurons that they are of; the first is drawn black, the second orange.
        bin_ms: bin width, ms.
    """
    hz = 1000.0 / bin_ms
    fig = Figure(figsize=(3.1, 2.9), layout="constrained")
    ax = fig.subplots()
    values = [x for one in found.values() for part in (one.predicted, one.observed) for x in part]
    positive = [value * hz for value in values if value > 0] or [1.0]
    ends = (0.6 * min(positive), 1.6 * max(positive))
    ax.plot(ends, ends, color=OTHERS, linewidth=0.8, linestyle="--", zorder=0)
    for (name, one), color in zip(found.items(), (HELDIN, HELDOUT), strict=False):
        # A group without any spike has no place on a logarithmic axis but its upper end.
        middle = np.maximum(one.observed * hz, ends[0])
        errors = [middle - np.maximum(one.low * hz, ends[0]), one.high * hz - middle]
        look: dict[str, Any] = {"markersize": 3.5, "linewidth": 0.8, "capsize": 1.5}
        ax.errorbar(
            one.predicted * hz, middle, yerr=np.maximum(errors, 0), fmt="o", color=color,
            label=name, **look,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set(xlabel="predicted (spikes/s)", ylabel="observed (spikes/s)")
    ax.legend(loc="upper left")
    return fig
