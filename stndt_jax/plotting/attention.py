"""Attention of trained models: maps by layer, and attention over time lags.

Attention is drawn relative to uniform attention, in which every neuron, factor or bin receives the
same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from stndt_jax.plotting import style
from stndt_jax.plotting.style import OTHERS, SEQUENTIAL, styled
from stndt_jax.types import Float, NDArray

RELATIVE = "attention / uniform attention"


class _Maps(NamedTuple):
    """A row of panels: maps of one kind of attention, one per layer.

    Attributes:
        what: what attends to what, "neuron", "factor" or "time".
        unit: of the axes, in brackets.
        relative: attention / uniform attention.
        extent: of the images: left, right, bottom, top.
        border: where held-out neurons or forward bins begin; -1 where nothing begins.
    """

    what: str
    unit: str
    relative: Float[NDArray, "L X X"]
    extent: tuple[float, float, float, float]
    border: float


@styled
def attention_maps(
    spatial_LDD: Float[NDArray, "l D D"] | None,
    temporal_LTT: Float[NDArray, "L T T"],
    *,
    heldin: int | None,
    bins_observed: int,
    bin_ms: float,
) -> Figure:
    """What attends (rows) to what (columns), mean over trials; a column of panels per layer.

    Dotted lines separate held-in from held-out neurons, and observed from forward bins. The
    colours end at the 99th percentile: values above it have the last colour.

    Args:
        spatial_LDD: attention of neurons to neurons or of factors to factors, of as many layers
            or fewer; None for models without it.
        temporal_LTT: attention of bins to bins.
        heldin: number of held-in neurons; None where factors attend.
        bins_observed: number of observed bins.
        bin_ms: bin width, ms.
    """
    layers, T, _ = temporal_LTT.shape
    kinds = []
    if spatial_LDD is not None:
        D = spatial_LDD.shape[-1]
        extent = (-0.5, D - 0.5, D - 0.5, -0.5)
        what, border = ("factor", -1.0) if heldin is None else ("neuron", heldin - 0.5)
        kinds.append(_Maps(what, "", spatial_LDD * D, extent, border))
    extent = (0, T * bin_ms, T * bin_ms, 0)
    kinds.append(_Maps("time", " (ms)", temporal_LTT * T, extent, bins_observed * bin_ms))
    size = (2.0 * layers + 1.1, 2.0 * len(kinds) + 0.6)
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(len(kinds), layers, squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        highest = np.nanpercentile(kind.relative, 99)
        look: dict[str, Any] = {"cmap": SEQUENTIAL, "vmin": 0, "vmax": highest}
        image: Any = None
        for ax in row[len(kind.relative) :]:
            ax.set_axis_off()
        for ax, map_XX in zip(row, kind.relative, strict=False):
            image = ax.imshow(map_XX, extent=kind.extent, interpolation="nearest", **look)
            if kind.extent[0] < kind.border < kind.extent[1]:
                for line in (ax.axvline, ax.axhline):
                    line(kind.border, color="white", linewidth=0.7, linestyle=":")
            ax.set_xlabel(f"attended {kind.what}{kind.unit}")
        row[0].set_ylabel(f"attending {kind.what}{kind.unit}")
        fig.colorbar(image, ax=row, label=RELATIVE, extend="max", shrink=0.85, pad=0.02)
    for layer, ax in enumerate(axes[0]):
        ax.set_title(f"layer {layer + 1}")
    return fig


@styled
def lag_profiles(
    by_lag_KLG: Float[NDArray, "K L lags"], lags_ms: Float[NDArray, " lags"], *, bins: int
) -> Figure:
    """Temporal attention by lag: a line per layer, mean over members; thin lines are members.

    Args:
        by_lag_KLG: attention of every member and layer, NaN for layers that a member lacks.
        lags_ms: the lags, ms; above 0, attention to a later bin.
        bins: T; uniform attention is 1 / T.
    """
    K, L, _ = by_lag_KLG.shape
    fig = Figure(figsize=(3.6, 2.5), layout="constrained")
    ax = fig.subplots()
    # From purple, early layers, to yellow, late ones.
    for layer, color in enumerate(style.condition_colors(L)):
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
    ax.set(xlabel="lag of the attended bin (ms)", ylabel=RELATIVE)
    ax.legend()
    return fig
