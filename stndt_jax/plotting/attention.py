"""Attention and importance as pictures, and what silenced neurons cost.

Like `plots.py`: arrays to a `matplotlib.figure.Figure`, which `plots.save` writes. Attention is
drawn relative to even attention, in which every neuron or bin receives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from stndt_jax.interpret import ablation
from stndt_jax.plotting.style import BEST, MINUS, OTHERS, TRUE, condition_colors, styled
from stndt_jax.types import Float, Int, NDArray

SEQUENTIAL = "viridis"
HELDIN, HELDOUT = TRUE, BEST
COLORS = {
    ablation.MOST_FIRST: BEST,
    ablation.RANDOM: "#666666",
    ablation.LEAST_FIRST: "#0072B2",
    ablation.BY_GRADIENTS: "#009E73",
}
STYLES: tuple[Any, ...] = ("-", "--")
MARKS = dict(zip(COLORS, "os^D", strict=True))


@styled
def attention_maps(
    spatial_LNN: Float[NDArray, "L N N"] | None,
    temporal_LTT: Float[NDArray, "L T T"],
    *,
    heldin: int,
    bins_observed: int,
    bin_ms: float,
) -> Figure:
    """Who attends (rows) to whom (columns), mean over trials; a column of panels a layer.

    Dotted lines part held-in from held-out neurons, and observed from forward bins. The colours
    end at the 99th percentile: what lies above has the last colour.

    Args:
        spatial_LNN: of neurons to neurons; None where the models have no such attention.
        temporal_LTT: of bins to bins.
        heldin: how many of the neurons are held-in.
        bins_observed: how many of the bins are observed.
        bin_ms: bin width, ms.
    """
    T = temporal_LTT.shape[-1]
    kinds: list[tuple[str, NDArray, float, float]] = []
    if spatial_LNN is not None:
        N = spatial_LNN.shape[-1]
        kinds.append(("neuron", spatial_LNN * N, 1.0, heldin - 0.5))
    kinds.append(("time (ms)", temporal_LTT * T, bin_ms, bins_observed * bin_ms))
    layers = len(temporal_LTT)
    size = (2.0 * layers + 1.1, 2.0 * len(kinds) + 0.6)
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(len(kinds), layers, squeeze=False)
    for row, (what, maps_LXX, scale, border) in enumerate(kinds):
        highest = np.nanpercentile(maps_LXX, 99)
        X = maps_LXX.shape[-1]
        box = (-0.5, X - 0.5, X - 0.5, -0.5) if row + 1 < len(kinds) else None
        box = box or (0, X * scale, X * scale, 0)
        image: Any = None
        for ax, map_XX in zip(axes[row], maps_LXX, strict=True):
            image = ax.imshow(
                map_XX, extent=box, cmap=SEQUENTIAL, vmin=0, vmax=highest, interpolation="nearest"
            )
            for line in (ax.axvline, ax.axhline):
                if box[0] < border < box[1]:
                    line(border, color="white", linewidth=0.7, linestyle=":")
            ax.set_xlabel(f"{what} attended to")
        axes[row, 0].set_ylabel(f"{what} that attends")
        label = "attention / even attention"
        fig.colorbar(image, ax=axes[row], label=label, extend="max", shrink=0.85, pad=0.02)
    for layer, ax in enumerate(axes[0]):
        ax.set_title(f"layer {layer + 1}")
    return fig


@styled
def lag_profiles(
    by_lag_KLG: Float[NDArray, "K L lags"], lags_ms: Float[NDArray, " lags"], *, bins: int
) -> Figure:
    """Temporal attention by lag: a line a layer, mean over members; thin lines are members.

    Args:
        by_lag_KLG: attention of every member and layer, NaN for layers that a member lacks.
        lags_ms: the lags, ms; above 0, attention to a later bin.
        bins: T, to which attention is relative: 1 is a T-th part.
    """
    K, L, _ = by_lag_KLG.shape
    fig = Figure(figsize=(3.6, 2.5), layout="constrained")
    ax = fig.subplots()
    # From purple, early layers, to yellow, late ones.
    for layer, color in enumerate(condition_colors(L)):
        rows_KG = by_lag_KLG[:, layer]
        rows_KG = rows_KG[np.isfinite(rows_KG).all(axis=1)] * bins
        if K > 1:
            ax.plot(lags_ms, rows_KG.T, color=color, linewidth=0.4, alpha=0.5)
        ax.plot(lags_ms, rows_KG.mean(axis=0), color=color, label=f"layer {layer + 1}")
    reached = lags_ms[np.nanmax(by_lag_KLG, axis=(0, 1)) > 1e-6]
    step = lags_ms[1] - lags_ms[0] if len(lags_ms) > 1 else 1.0
    if len(reached):
        ax.set_xlim(reached.min() - step, reached.max() + step)
    ax.axvline(0, color=OTHERS, linewidth=0.7, linestyle=":", zorder=0)
    ax.set_ylim(0, None)
    ax.set(xlabel="lag (ms), above 0 to later bins", ylabel="attention / even attention")
    ax.legend()
    return fig


@styled
def importances(
    importance_N: Float[NDArray, " N"] | None,
    by_member_KN: Float[NDArray, "K N"] | None,
    gradient_N: Float[NDArray, " N"] | None,
    rate_hz_N: Float[NDArray, " N"],
    *,
    heldin: int,
    correlations: Mapping[str, float],
) -> Figure:
    """Importance of the neurons, in order; against their rate; against integrated gradients.

    Args:
        importance_N: by attention, adding up to 1; None where there is none.
        by_member_KN: of every member.
        gradient_N: by integrated gradients, nats, NaN for held-out neurons; None if unknown.
        rate_hz_N: mean rates, spikes/s.
        heldin: how many of the neurons are held-in.
        correlations: Spearman's, of held-in neurons, for the titles: "attention and rate",
            "gradients and rate", "attention and gradients".
    """
    N = len(rate_hz_N)
    rate = ("mean rate (spikes/s)", rate_hz_N)
    gradient = ("integrated gradients (nats)", gradient_N)
    even = None if importance_N is None else ("attention received / even", importance_N * N)
    pairs: list[tuple[str, tuple[str, NDArray], tuple[str, Any]]] = []
    if even is not None:
        pairs.append(("attention and rate", rate, even))
    if gradient_N is not None:
        pairs.append(("gradients and rate", rate, gradient))
        if even is not None:
            pairs.append(("attention and gradients", gradient, even))  # type: ignore[arg-type]
    panels = len(pairs) + (even is not None)
    fig = Figure(figsize=(2.15 * panels + 0.5, 2.4), layout="constrained")
    axes = fig.subplots(1, panels, squeeze=False)[0]
    heldin_N = np.arange(N) < heldin
    if even is not None:
        assert by_member_KN is not None
        _in_order(axes[0], even, by_member_KN * N, heldin_N)
    for ax, (name, (x_label, x_N), (y_label, y_N)) in zip(
        axes[panels - len(pairs) :], pairs, strict=True
    ):
        for chosen_N, color in ((heldin_N, HELDIN), (~heldin_N, HELDOUT)):
            ax.plot(x_N[chosen_N], y_N[chosen_N], "o", color=color, markersize=2.5, alpha=0.8)
        ax.set(xlabel=x_label, ylabel=y_label)
        ax.set_ylim(0, None)
        value = correlations.get(name, float("nan"))
        if np.isfinite(value):
            ax.set_title(f"Spearman {value:.2f}".replace("-", MINUS))
    return fig


def _in_order(
    ax: Axes, what: tuple[str, NDArray], by_member_KN: NDArray, heldin_N: NDArray
) -> None:
    label, values_N = what
    order_N = np.argsort(-values_N, kind="stable")
    place_N = np.arange(1, len(values_N) + 1)
    if len(by_member_KN) > 1:
        for rows_N in by_member_KN[:, order_N]:
            ax.plot(place_N, rows_N, ".", color=OTHERS, markersize=2, zorder=1)
        ax.plot([], [], ".", color=OTHERS, label="one member")
    for chosen_N, color, name in ((heldin_N, HELDIN, "held-in"), (~heldin_N, HELDOUT, "held-out")):
        at = chosen_N[order_N]
        ax.plot(place_N[at], values_N[order_N][at], "o", color=color, markersize=2.5, label=name)
    ax.axhline(1, color=OTHERS, linewidth=0.7, linestyle=":", zorder=0)
    ax.set(xlabel="neuron, by importance", ylabel=label)
    ax.set_ylim(0, None)
    ax.legend(handletextpad=0.1)


@styled
def condition_importances(
    importance_CN: Float[NDArray, "C N"], conditions: Int[NDArray, " C"], *, most: int = 30
) -> Figure:
    """Attention that the most important neurons receive in every condition.

    Args:
        importance_CN: importance in every condition, adding up to 1 over neurons.
        conditions: the conditions.
        most: how many neurons to show, by their mean over conditions.
    """
    C, N = importance_CN.shape
    order = np.argsort(-importance_CN.mean(axis=0), kind="stable")[:most]
    size = (0.14 * len(order) + 1.6, min(0.16 * C + 0.9, 6.0))
    fig = Figure(figsize=size, layout="constrained")
    ax = fig.subplots()
    shown = importance_CN[:, order] * N
    image = ax.imshow(shown, aspect="auto", cmap=SEQUENTIAL, vmin=0, interpolation="nearest")
    step = max(1, C // 12)
    ax.set_yticks(range(0, C, step), [str(c) for c in conditions[::step]])
    ax.set_xticks(range(len(order)), [str(n) for n in order], rotation=90, fontsize=5)
    ax.set(xlabel="neuron, by importance", ylabel="condition")
    fig.colorbar(image, ax=ax, label="attention / even", pad=0.02)
    return fig


@styled
def agreements(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """How far rankings of neurons agree: rank correlation, and the top tenth they share.

    Args:
        rows: by what the rankings differ in: "spearman", "overlap", "chance", as of
            `importance.Agreement`.
    """
    known = {name: row for name, row in rows.items() if np.isfinite(_value(row["spearman"]))}
    fig = Figure(figsize=(5.6, 0.26 * len(known) + 0.8), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for place, row in enumerate(known.values()):
        axes[0].plot(row["spearman"], place, "o", color=BEST, markersize=5)
        axes[1].plot(row["overlap"], place, "o", color=BEST, markersize=5)
        axes[1].plot(row["chance"], place, "|", color=TRUE, markersize=9)
    axes[1].plot([], [], "|", color=TRUE, markersize=9, label="by chance")
    axes[1].legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes[0].axvline(0, color=TRUE, linewidth=0.7)
    lowest = min([0.0, *(row["spearman"] for row in known.values())])
    axes[0].set(xlabel="Spearman's correlation", xlim=(1.1 * lowest - 0.05, 1.05))
    axes[1].set(xlabel="share of the top tenth in common", xlim=(-0.05, 1.05))
    axes[0].set_yticks(range(len(known)), list(known))
    axes[0].set_ylim(len(known) - 0.5, -0.5)
    for ax in axes:
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    return fig


def _value(value: float | None) -> float:
    return float("nan") if value is None else value


@styled
def dropping_curves(found: Mapping[str, Any], *, scores: Sequence[str] | None = None) -> Figure:
    """Scores, and their change, against the share of held-in neurons that are silent.

    Solid lines are the first model, dashed the second. Around random orders, the band is their
    range. A score that the full model does not have above 0 has no relative change.

    Args:
        found: what `dropping.drop` gives.
        scores: which to draw; all by default.
    """
    models = found["models"]
    first = next(iter(models.values()))
    shown = list(scores or first[ablation.MOST_FIRST])
    fig = Figure(figsize=(2.4 * len(shown) + 0.5, 4.1), layout="constrained")
    axes = fig.subplots(2, len(shown), sharex=True, squeeze=False)
    x_F = np.array(found["fractions"], float)
    for column, score in enumerate(shown):
        for (name, orders), style in zip(models.items(), STYLES, strict=False):
            for order, by_score in orders.items():
                rows = np.array(by_score[score], float)
                rows = rows[np.isfinite(rows).all(axis=1)]
                if not len(rows):
                    continue
                look: dict[str, Any] = {"color": COLORS[order], "linestyle": style}
                look |= {"marker": MARKS[order], "markersize": 2.5, "linewidth": 1.0}
                label = f"{name}, {order}"
                changes = ablation.relative_change(rows.tolist())
                for ax, values in ((axes[0, column], rows), (axes[1, column], changes)):
                    ax.plot(x_F, values.mean(axis=0), label=label, **look)
                    if len(values) > 1:
                        ends = values.min(axis=0), values.max(axis=0)
                        ax.fill_between(x_F, *ends, color=COLORS[order], alpha=0.15, linewidth=0)
        axes[0, column].set_ylabel(f"{score} (bits/spike)" if score == "co-bps" else score)
        axes[0, column].axhline(0, color=OTHERS, linewidth=0.7, zorder=0)
        axes[1, column].axhline(0, color=OTHERS, linewidth=0.7, zorder=0)
        axes[1, column].set_ylabel(f"change of {score}")
        axes[1, column].set_ylim(max(-2.5, axes[1, column].get_ylim()[0]), None)
        axes[1, column].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1, 0].xaxis.set_major_formatter(PercentFormatter(1.0))
    fig.supxlabel("held-in neurons silenced", fontsize=8)
    fig.align_ylabels(axes)
    key = [
        Line2D([], [], color=color, marker=MARKS[order], markersize=3.5, label=order)
        for order, color in COLORS.items()
        if order in first
    ]
    if len(models) > 1:
        styles = zip(models, STYLES, strict=False)
        key += [Line2D([], [], color=TRUE, linestyle=style, label=name) for name, style in styles]
    columns = 1 if len(shown) == 1 else 3 if len(shown) > 2 else 2
    fig.legend(handles=key, loc="outside upper center", ncols=columns)
    return fig
