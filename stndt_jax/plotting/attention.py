"""Attention of trained models: maps by layer, and attention over time lags.

Attention is drawn relative to uniform attention, in which every neuron, factor or bin receives the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stndt_jax.interpret.rankings import mean_known
from stndt_jax.plotting import style
from stndt_jax.plotting.style import ON_IMAGE, OTHERS, SEQUENTIAL, styled
from stndt_jax.types import Bool, Float, NDArray

RELATIVE = "attention / uniform attention"


class _Maps(NamedTuple):
    """A row of panels: maps of one kind of attention, one per layer.

    Attributes:
        what: what attends to what, "neuron", "factor" or "time".
        unit: of the axes, in brackets.
        relative: attention / uniform attention.
        extent: of the images: left, right, bottom, top.
        border: where held-out neurons or forward bins begin; -1 where nothing begins.
        areas: area of every neuron, in the order of the rows; None where they are in another one.
        few: where few trials have both bins; None for nowhere.
    """

    what: str
    unit: str
    relative: Float[NDArray, "L X X"]
    extent: tuple[float, float, float, float]
    border: float
    areas: Sequence[str] | None = None
    few: Bool[NDArray, "T T"] | None = None


@styled
def attention_maps(
    spatial_LDD: Float[NDArray, "l D D"] | None,
    temporal_LTT: Float[NDArray, "L T T"],
    *,
    heldin: int | None,
    bins_observed: int,
    bin_ms: float,
    even_TT: Float[NDArray, "T T"] | None = None,
    few_TT: Bool[NDArray, "T T"] | None = None,
    areas: Sequence[str] | None = None,
    narrow: bool = False,
) -> Figure:
    """What attends (rows) to what (columns), mean over trials; a column of panels per layer.

    Dotted lines separate held-in from held-out neurons, and observed from forward bins; solid ones
    separate areas, if neurons are ordered by them. The colours end at the 99th percentile: values
    above it have the last colour. Hatched are pairs of bins that few trials have.

    Args:
        spatial_LDD: attention of neurons to neurons or of factors to factors, of as many layers
            or fewer; None for models without it.
        temporal_LTT: attention of bins to bins; NaN for bins that no trial has.
        heldin: number of held-in neurons; None where factors attend.
        bins_observed: number of observed bins.
        bin_ms: bin width, ms.
        even_TT: uniform attention of bins to bins; 1 / T by default.
        few_TT: pairs of bins that few trials have; by default none.
        areas: area of every neuron, which orders the neurons; not for factors.
        narrow: for a phone, two layers in a row.
    """
    layers, T, _ = temporal_LTT.shape
    kinds = []
    if spatial_LDD is not None:
        kinds.append(_spatial(spatial_LDD, heldin, areas))
    extent = (0, T * bin_ms, T * bin_ms, 0)
    relative = temporal_LTT * T if even_TT is None else temporal_LTT / even_TT
    border = bins_observed * bin_ms
    kinds.append(_Maps("time", " (ms)", relative, extent, border, few=few_TT))
    groups = style.parts_of(range(layers), 2 if narrow else None)
    width = style.NARROW if narrow else 2.0 * layers + 1.1
    fig, parts = style.stacked(width, [(2.4 if narrow else 2.0) * len(kinds) + 0.6] * len(groups))
    for part, group in zip(parts, groups, strict=True):
        axes = part.subplots(len(kinds), len(group), squeeze=False)
        for row, kind in zip(axes, kinds, strict=True):
            shown = [layer for layer in group if layer < len(kind.relative)]
            image: Any = None
            for ax in row[len(shown) :]:
                ax.set_axis_off()
            for ax, layer in zip(row, shown, strict=False):
                image = _map(ax, kind, layer)
                short = narrow and kind.areas is not None
                ax.set_xlabel(f"attended {kind.what}{'' if short else kind.unit}")
            if image is not None:
                row[0].set_ylabel(f"attending {kind.what}{kind.unit}")
                look: dict[str, Any] = {"shrink": 0.85, "pad": 0.02}
                if narrow:
                    look = {"location": "bottom"}
                part.colorbar(image, ax=row, label=RELATIVE, extend="max", **look)
        for ax, layer in zip(axes[0], group, strict=True):
            ax.set_title(f"layer {layer + 1}")
    return fig


def _spatial(
    spatial_LDD: Float[NDArray, "l D D"], heldin: int | None, areas: Sequence[str] | None
) -> _Maps:
    """Maps of neurons, ordered by area if areas are known, or of factors."""
    D = spatial_LDD.shape[-1]
    extent = (-0.5, D - 0.5, D - 0.5, -0.5)
    if heldin is None:
        return _Maps("factor", "", spatial_LDD * D, extent, -1.0)
    if areas is None:
        return _Maps("neuron", "", spatial_LDD * D, extent, heldin - 0.5)
    order_N = np.argsort(np.asarray(areas), kind="stable")
    ordered_LNN = spatial_LDD[:, order_N][:, :, order_N] * D
    return _Maps("neuron", ", by area", ordered_LNN, extent, -1.0, [areas[n] for n in order_N])


def _map(ax: Axes, kind: _Maps, layer: int) -> Any:
    """One map; returns its image."""
    look: dict[str, Any] = {"cmap": SEQUENTIAL, "vmin": 0, "interpolation": "nearest"}
    highest = np.nanpercentile(kind.relative, 99)
    image = ax.imshow(kind.relative[layer], extent=kind.extent, vmax=highest, **look)
    if kind.extent[0] < kind.border < kind.extent[1]:
        for line in (ax.axvline, ax.axhline):
            line(kind.border, color=ON_IMAGE, linewidth=0.7, linestyle=":")
    if kind.areas is not None:
        style.area_ticks(ax, kind.areas, across=True, color=ON_IMAGE)
    if kind.few is not None:
        _hatch(ax, kind.few, kind.extent)
    return image


def _hatch(
    ax: Axes, few_TT: Bool[NDArray, "T T"], extent: tuple[float, float, float, float]
) -> None:
    """Hatches some cells of a map, row by row."""
    left, right, bottom, _ = extent
    T = len(few_TT)
    wide, tall = (right - left) / T, bottom / T
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": ON_IMAGE, "linewidth": 0}
    for t, few_T in enumerate(few_TT):
        ends = np.flatnonzero(np.diff(np.pad(few_T.astype(int), 1)))
        for first, end in ends.reshape(-1, 2).tolist():
            corner = (left + first * wide, t * tall)
            ax.add_patch(Rectangle(corner, (end - first) * wide, tall, hatch="////", **look))


@styled
def lag_profiles(
    by_lag_KLG: Float[NDArray, "K L lags"],
    lags_ms: Float[NDArray, " lags"],
    *,
    even_G: Float[NDArray, " lags"],
    few_G: Bool[NDArray, " lags"] | None = None,
    narrow: bool = False,
) -> Figure:
    """Temporal attention by lag: a line per layer, mean over members; thin lines are members.

    Lags at which few trials have any two bins are drawn dotted, and those of no trial not at all.

    Args:
        by_lag_KLG: attention of every member and layer, NaN for layers that a member lacks, and at
            lags that no trial has.
        lags_ms: the lags, ms; above 0, attention to a later bin.
        even_G: uniform attention at every lag.
        few_G: lags at which few trials have two bins; by default none.
        narrow: for a phone.
    """
    K, L, G = by_lag_KLG.shape
    few_G = np.zeros(G, bool) if few_G is None else few_G
    fig = Figure(figsize=(style.NARROW if narrow else 3.6, 2.7), layout="constrained")
    ax = fig.subplots()
    relative_KLG = by_lag_KLG / even_G
    # From purple, early layers, to yellow, late ones.
    for layer, color in enumerate(style.condition_colors(L)):
        rows_KG = relative_KLG[:, layer]
        rows_KG = rows_KG[np.isfinite(rows_KG).any(axis=1)]
        if not len(rows_KG):
            continue
        if K > 1:
            ax.plot(lags_ms, rows_KG.T, color=color, linewidth=0.4, alpha=0.5)
        mean_G = mean_known(rows_KG, axis=0)
        # The solid line ends where the dotted one begins.
        ax.plot(lags_ms, np.where(few_G, np.nan, mean_G), color=color, label=f"layer {layer + 1}")
        beside_G = few_G | np.pad(few_G, 1)[2:] | np.pad(few_G, 1)[:-2]
        if few_G.any():
            ax.plot(lags_ms, np.where(beside_G, mean_G, np.nan), ":", color=color, label="_few")
    highest_G = np.where(np.isfinite(relative_KLG), relative_KLG, 0).max(axis=(0, 1))
    reached = lags_ms[highest_G > 1e-6]
    step = lags_ms[1] - lags_ms[0] if len(lags_ms) > 1 else 1.0
    if len(reached):
        ax.set_xlim(reached.min() - step, reached.max() + step)
    ax.axvline(0, color=OTHERS, linewidth=0.7, linestyle=":", zorder=0)
    ax.set_ylim(0, None)
    ax.set(xlabel="lag of the attended bin (ms)", ylabel=RELATIVE)
    style.legend_above(fig, ax, min(L, 3))
    return fig
