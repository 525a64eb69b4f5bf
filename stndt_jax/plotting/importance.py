"""Importance of neurons: how it is distributed, how reliable it is, and what silencing them costs.

Importance by attention is drawn relative to uniform importance, in which all neurons that can have
one have the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from stndt_jax.interpret import ablation
from stndt_jax.plotting import style
from stndt_jax.plotting.style import BEST, HELDIN, HELDOUT, OTHERS, SEQUENTIAL, TRUE, styled
from stndt_jax.runs.score_names import axis_label, typeset
from stndt_jax.types import Bool, Float, NDArray

RECEIVED = "attention received / uniform"
BROUGHT = "importance / uniform"
ORDER_COLORS = {
    ablation.MOST_FIRST: BEST,
    ablation.RANDOM: "#666666",
    ablation.LEAST_FIRST: "#0072B2",
    ablation.BY_GRADIENTS: "#009E73",
}
ORDER_MARKERS = dict(zip(ORDER_COLORS, "os^D", strict=True))
MODEL_LINES: tuple[Any, ...] = ("-", "--")


class Scale(NamedTuple):
    """How importance by attention is drawn.

    Attributes:
        label: of the axis.
        uniform: the importance that is drawn as 1.
    """

    label: str
    uniform: float


class _Measure(NamedTuple):
    """A quantity of every neuron, and the label of its axis."""

    label: str
    values: Float[NDArray, " N"]


@styled
def importances(
    importance_N: Float[NDArray, " N"] | None,
    by_member_KN: Float[NDArray, "K N"] | None,
    gradient_N: Float[NDArray, " N"] | None,
    rate_hz_N: Float[NDArray, " N"],
    *,
    heldin: int,
    scale: Scale,
    correlations: Mapping[str, float],
    narrow: bool = False,
) -> Figure:
    """Importance of the neurons: sorted, against their mean rate, against integrated gradients.

    Args:
        importance_N: by attention, adding up to 1; None if there is none.
        by_member_KN: of every member.
        gradient_N: by integrated gradients, nats, NaN for held-out neurons; None if unknown.
        rate_hz_N: mean rates, spikes/s.
        heldin: number of held-in neurons.
        scale: of the importance by attention.
        correlations: Spearman's, over held-in neurons, for the titles: "attention and rate",
            "gradients and rate", "attention and gradients".
        narrow: for a phone, one below another.
    """
    N = len(rate_hz_N)
    rate = _Measure("mean rate (spikes/s)", rate_hz_N)
    received = None
    if importance_N is not None:
        received = _Measure(scale.label, importance_N / scale.uniform)
    gradient = None if gradient_N is None else _Measure("gradients (nats)", gradient_N)
    pairs = {
        "attention and rate": (rate, received),
        "gradients and rate": (rate, gradient),
        "attention and gradients": (gradient, received),
    }
    known = {name: (x, y) for name, (x, y) in pairs.items() if x is not None and y is not None}
    heldin_N = np.arange(N) < heldin
    count = len(known) + (received is not None)
    columns = 1 if narrow else count
    rows = -(-count // columns)
    size = (style.NARROW, 2.3 * rows + 0.3) if narrow else (2.15 * count + 0.5, 2.6)
    fig = Figure(figsize=size, layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False)
    axes = grid.flat[:count]
    for ax in grid.flat[count:]:
        ax.set_axis_off()
    if received is not None:
        assert by_member_KN is not None
        _sorted(axes[0], received, by_member_KN / scale.uniform, heldin_N)
    for ax, (name, (x, y)) in zip(axes[count - len(known) :], known.items(), strict=True):
        _scatter(ax, x, y, heldin_N)
        r = correlations.get(name, float("nan"))
        if np.isfinite(r):
            ax.set_title(f"Spearman {style.signed(r, 2)}")
    style.legend_above(fig, axes[0], 3)
    return fig


def _sorted(
    ax: Axes,
    received: _Measure,
    by_member_KN: Float[NDArray, "K N"],
    heldin_N: Bool[NDArray, " N"],
) -> None:
    """Neurons from the most to the least important."""
    received_N = received.values
    order_N = np.argsort(-received_N, kind="stable")
    rank_N = np.arange(1, len(received_N) + 1)
    if len(by_member_KN) > 1:
        for rows_N in by_member_KN[:, order_N]:
            ax.plot(rank_N, rows_N, ".", color=OTHERS, markersize=2, zorder=1)
        ax.plot([], [], ".", color=OTHERS, label="one member")
    for chosen_N, color, name in ((heldin_N, HELDIN, "held-in"), (~heldin_N, HELDOUT, "held-out")):
        at = chosen_N[order_N]
        ax.plot(rank_N[at], received_N[order_N][at], "o", color=color, markersize=2.5, label=name)
    ax.axhline(1, color=OTHERS, linewidth=0.7, linestyle=":", zorder=0)
    ax.set(xlabel="neuron, by importance", ylabel=received.label)
    ax.set_ylim(0, None)


def _scatter(ax: Axes, x: _Measure, y: _Measure, heldin_N: Bool[NDArray, " N"]) -> None:
    for chosen_N, color, name in ((heldin_N, HELDIN, "held-in"), (~heldin_N, HELDOUT, "held-out")):
        look: dict[str, Any] = {"color": color, "markersize": 2.5, "alpha": 0.8, "label": name}
        ax.plot(x.values[chosen_N], y.values[chosen_N], "o", **look)
    ax.set(xlabel=x.label, ylabel=y.label)
    ax.set_ylim(0, None)


@styled
def condition_importances(
    importance_CN: Float[NDArray, "C N"],
    conditions: Sequence[str],
    *,
    scale: Scale,
    most: int = 30,
    narrow: bool = False,
) -> Figure:
    """Importance of the most important neurons, by attention, in every condition.

    Args:
        importance_CN: importance in every condition, adding up to 1 over neurons.
        conditions: names of the conditions.
        scale: of the importance.
        most: how many neurons to show, by their mean over conditions.
        narrow: for a phone, with half as many neurons.
    """
    C = len(importance_CN)
    most = most // 2 if narrow else most
    order = np.argsort(-importance_CN.mean(axis=0), kind="stable")[:most]
    width = style.NARROW if narrow else 0.14 * len(order) + 1.8
    size = (width, min(0.16 * C + 0.9, 6.0))
    fig = Figure(figsize=size, layout="constrained")
    ax = fig.subplots()
    shown = importance_CN[:, order] / scale.uniform
    image = ax.imshow(shown, aspect="auto", cmap=SEQUENTIAL, vmin=0, interpolation="nearest")
    step = max(1, C // 12)
    ax.set_yticks(
        range(0, C, step), [c if len(c) < 20 else c[:18] + "…" for c in conditions[::step]]
    )
    ax.set_xticks(range(len(order)), [str(n) for n in order], rotation=90, fontsize=5)
    ax.set(xlabel="neuron, by importance", ylabel="condition")
    fig.colorbar(image, ax=ax, label=scale.label, pad=0.02)
    return fig


@styled
def area_importances(
    areas: Sequence[str],
    measures: Mapping[str, Float[NDArray, " N_in"]],
    *,
    narrow: bool = False,
) -> Figure:
    """Importance of held-in neurons by area: a dot per neuron, a line at the mean of an area.

    Args:
        areas: area of every held-in neuron.
        measures: importance of every held-in neuron by the name of its measure; drawn relative to
            its mean.
        narrow: for a phone.
    """
    names = sorted(set(areas))
    across = np.array([names.index(area) for area in areas])
    # Neurons of an area are spread, so that they do not hide each other.
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(across))
    count = len(measures)
    height = 0.34 * len(names) + 0.9
    size = (style.NARROW, height * count) if narrow else (3.1 * count + 0.6, height)
    fig = Figure(figsize=size, layout="constrained")
    shape = (count, 1) if narrow else (1, count)
    axes = fig.subplots(*shape, sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes.flat, measures.items(), strict=True):
        relative = np.asarray(values) / np.mean(values)
        ax.plot(relative, across + jitter, "o", color=OTHERS, markersize=2, alpha=0.8)
        means = [relative[across == a].mean() for a in range(len(names))]
        ax.plot(means, range(len(names)), "|", color=BEST, markersize=14, markeredgewidth=2)
        ax.axvline(1, color=TRUE, linewidth=0.7, linestyle=":", zorder=0)
        ax.set(xlabel=f"{name}, relative to the mean")
        ax.set_xlim(-0.03 * max(relative.max(), 1), None)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    return fig


@styled
def agreements(rows: Mapping[str, Mapping[str, float | None]], *, narrow: bool = False) -> Figure:
    """How far rankings of neurons agree: rank correlation, and the top tenth they share.

    Args:
        rows: by what the rankings differ in: "spearman", "overlap", "chance", as of
            `rankings.Agreement`. Rows whose correlation is not known are left out.
        narrow: for a phone.
    """
    known = {name: row for name, row in rows.items() if _is_finite(row["spearman"])}
    height = 0.26 * len(known) + 0.8
    size = (style.NARROW, 2 * height) if narrow else (5.6, height)
    fig = Figure(figsize=size, layout="constrained")
    left, right = fig.subplots(2, 1, sharey=True) if narrow else fig.subplots(1, 2, sharey=True)
    at = range(len(known))
    spearman, overlap, chance = (
        np.array([row[name] for row in known.values()], float)
        for name in ("spearman", "overlap", "chance")
    )
    left.plot(spearman, at, "o", color=BEST, markersize=5)
    left.axvline(0, color=TRUE, linewidth=0.7)
    lowest = min([0.0, *spearman])
    left.set(xlabel="Spearman's correlation", xlim=(1.1 * lowest - 0.05, 1.05))
    left.set_yticks(at, list(known))
    left.set_ylim(len(known) - 0.5, -0.5)
    right.plot(overlap, at, "o", color=BEST, markersize=5)
    right.plot(chance, at, "|", color=TRUE, markersize=9, label="chance")
    right.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    shared = "top tenth shared" if narrow else "fraction of the top tenth shared"
    right.set(xlabel=shared, xlim=(-0.05, 1.05))
    for ax in (left, right):
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    return fig


def _is_finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


@styled
def dropping_curves(
    found: Mapping[str, Any], *, scores: Sequence[str] | None = None, narrow: bool = False
) -> Figure:
    """Scores, and their relative change, against the fraction of held-in neurons silenced.

    Solid lines are the first run, dashed ones the second. Around random orders, the band is their
    range. The relative change is cut off at -250%.

    Args:
        found: result of `ablation.drop`.
        scores: which to draw; all by default.
        narrow: for a phone, one below another.
    """
    runs = found["models"]
    orders = next(iter(runs.values()))
    shown = list(scores or orders[ablation.MOST_FIRST])
    size = (style.NARROW, 3.4 * len(shown) + 0.7) if narrow else (2.4 * len(shown) + 0.5, 4.1)
    fig = Figure(figsize=size, layout="constrained")
    shape = (2 * len(shown), 1) if narrow else (2, len(shown))
    axes = fig.subplots(*shape, sharex=True, squeeze=False)
    fractions = np.array(found["fractions"], float)
    pairs = axes.reshape(-1, 2) if narrow else axes.T
    for (above, below), score in zip(pairs, shown, strict=True):
        for label, look, rows in _curves(runs, score):
            _curve(above, fractions, rows, label, look)
            _curve(below, fractions, ablation.relative_change(rows.tolist()), label, look)
        above.set_ylabel(axis_label(score))
        below.set_ylabel(f"change of {typeset(score)}")
        below.set_ylim(max(-2.5, below.get_ylim()[0]), None)
        below.yaxis.set_major_formatter(PercentFormatter(1.0))
        for ax in (above, below):
            ax.axhline(0, color=OTHERS, linewidth=0.7, zorder=0)
    axes[-1, 0].xaxis.set_major_formatter(PercentFormatter(1.0))
    fig.supxlabel("held-in neurons silenced", fontsize=8)
    fig.align_ylabels(axes)
    key = _key(runs, orders)
    columns = 1 if narrow else len(shown) if len(shown) < 3 else 4 if len(key) == 4 else 3
    fig.legend(handles=key, loc="outside upper center", ncols=columns)
    return fig


def _key(runs: Mapping[str, Any], orders: Mapping[str, Any]) -> list[Line2D]:
    """What the colours, markers and lines of dropping curves mean."""
    key = [
        Line2D([], [], color=color, marker=marker, markersize=3.5, label=ablation.ORDERS[order])
        for (order, color), marker in zip(ORDER_COLORS.items(), ORDER_MARKERS.values(), strict=True)
        if order in orders
    ]
    if len(runs) > 1:
        lines = zip(runs, MODEL_LINES, strict=False)
        key += [Line2D([], [], color=TRUE, linestyle=line, label=name) for name, line in lines]
    return key


def _curves(
    runs: Mapping[str, Any], score: str
) -> Iterator[tuple[str, dict[str, Any], Float[NDArray, "repeats F"]]]:
    """Label, look and values of a score's curves, of every run and order."""
    for (name, orders), line in zip(runs.items(), MODEL_LINES, strict=False):
        for order, by_score in orders.items():
            rows = np.array(by_score[score], float)
            rows = rows[np.isfinite(rows).all(axis=1)]
            look = {"color": ORDER_COLORS[order], "marker": ORDER_MARKERS[order], "linestyle": line}
            if len(rows):
                yield f"{name}, {ablation.ORDERS[order]}", look, rows


def _curve(
    ax: Axes, x_F: NDArray, rows: Float[NDArray, "repeats F"], label: str, look: Mapping[str, Any]
) -> None:
    """The mean over repeats, and their range as a band."""
    ax.plot(x_F, rows.mean(axis=0), label=label, markersize=2.5, linewidth=1.0, **look)
    if len(rows) > 1:
        low, high = rows.min(axis=0), rows.max(axis=0)
        ax.fill_between(x_F, low, high, color=look["color"], alpha=0.15, linewidth=0)
