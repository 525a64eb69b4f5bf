"""What all figures share: look, colours, units, panels, and writing them to files.

Every other module of this package has functions from arrays to a `matplotlib.figure.Figure`,
drawn without a display and without matplotlib's global state; `save` writes it. Rates are expected
counts per bin, as everywhere in the package, and are drawn in spikes/s. The colours are those of
Okabe and Ito, and viridis, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stndt_jax import files
from stndt_jax.types import Int, NDArray, Shaped

TRUE, INFERRED, SMOOTHED, SPIKES = "#000000", "#D55E00", "#56B4E9", "#555555"
BEST, OTHERS = "#D55E00", "#9AA5B1"
HELDIN, HELDOUT = TRUE, BEST
FORWARD = "#EEEEEE"  # shade of forward bins
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
MINUS = "\N{MINUS SIGN}"  # as on the axes

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib, so figures look the same everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.2,
    "figure.dpi": 100,
    "pdf.fonttype": 42,  # text is stored as text
    "svg.fonttype": "none",
    "svg.hashsalt": "stndt",  # makes identifiers inside the file reproducible
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws with STYLE, whatever the user's own settings are."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return drawn


def save(
    fig: Figure, path: str | Path, *, pdf: bool = False, svg: bool = False, dpi: int = 200
) -> list[Path]:
    """Writes a figure as PNG, and as PDF or SVG beside it.

    Args:
        fig: the figure.
        path: the PNG's path; another suffix is replaced.
        pdf: whether to write a PDF too.
        svg: whether to write an SVG too.
        dpi: resolution of the PNG, dots per inch.

    Returns:
        The files written.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    # Without a date, so that the same arrays give the same file.
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    for kind in ("png", *["pdf"] * pdf, *["svg"] * svg):
        target = Path(path).with_suffix(f".{kind}")
        with files.replacing(target) as partial, matplotlib.rc_context(STYLE):
            fig.savefig(partial, format=kind, dpi=dpi, metadata=undated.get(kind, {}))
        written.append(target)
    return written


def hz(counts: NDArray, bin_ms: float) -> NDArray:
    """Counts per bin as spikes/s."""
    return counts * (1000.0 / bin_ms)


def bin_centres(bins: int, bin_ms: float) -> NDArray:
    """The middle of every bin, ms."""
    return (np.arange(bins) + 0.5) * bin_ms


def signed(value: float, digits: int) -> str:
    """A number with a fixed number of decimals and a minus sign as on the axes."""
    return f"{value:.{digits}f}".replace("-", MINUS)


def condition_colors(count: int) -> list[tuple[float, ...]]:
    """A colour for each of ``count`` conditions, from viridis."""
    # The last tenth of viridis is too pale on white.
    return [tuple(c) for c in matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 0.9, count))]


def color_of_condition(conditions: Int[NDArray, " R"]) -> dict[int, tuple[float, ...]]:
    """The colour of every condition that occurs."""
    groups = np.unique(conditions).tolist()
    return dict(zip(groups, condition_colors(len(groups)), strict=True))


def panels(
    rows: int, columns: int, *, width: float, height: float, share: Literal["col", "row", "none"]
) -> tuple[Figure, NDArray]:
    """Panels of a given size in inches, with room for labels; ``share`` names who shares y."""
    fig = Figure(figsize=(width * columns + 0.8, height * rows + 0.7), layout="constrained")
    sharex: Literal["all", "none"] = "all" if rows > 1 else "none"
    return fig, fig.subplots(rows, columns, sharex=sharex, sharey=share, squeeze=False)


def start_at_zero(axes: NDArray, *, headroom: float) -> None:
    """Sets the y limits of panels that share y: from 0 to ``headroom`` times the highest line."""
    highest = max(ax.dataLim.y1 for ax in axes)
    axes[0].set_ylim(0, headroom * highest if highest > 0 else 1)


def raster(
    ax: Axes,
    counts_TN: Shaped[NDArray, "T N"],
    colors_N: Shaped[NDArray, " N"],
    *,
    bin_ms: float,
    size: float,
) -> None:
    """A tick for every bin with spikes, a row per neuron; NaN counts are drawn as 0.

    Args:
        ax: where to draw; its limits are set to the bins and neurons.
        counts_TN: spike counts.
        colors_N: a colour for every neuron.
        bin_ms: bin width, ms.
        size: area of a tick of one spike, points squared; it grows with the count.
    """
    counts_TN = np.nan_to_num(np.asarray(counts_TN, float))
    bins, neurons = np.nonzero(counts_TN)
    areas = size * counts_TN[bins, neurons]
    look: dict[str, Any] = {"s": areas, "c": colors_N[neurons], "linewidths": 0.5}
    ax.scatter((bins + 0.5) * bin_ms, neurons, marker="|", **look)
    T, N = counts_TN.shape
    ax.set(xlim=(0, T * bin_ms), ylim=(-0.5, N - 0.5))
