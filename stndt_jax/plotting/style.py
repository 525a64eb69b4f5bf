"""What all figures share: look, colours, units, panels, and writing them to files.

Every other module of this package has functions from arrays to a `matplotlib.figure.Figure`,
drawn without a display and without matplotlib's global state; `save` writes it. Rates are expected
counts per bin, as everywhere in the package, and are drawn in spikes/s. The colours are those of
Okabe and Ito, and viridis, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from stndt_jax import files
from stndt_jax.types import Int, NDArray, Shaped

TRUE, INFERRED, SMOOTHED, SPIKES = "#000000", "#D55E00", "#56B4E9", "#555555"
BEST, OTHERS = "#D55E00", "#9AA5B1"
HELDIN, HELDOUT = TRUE, BEST
FORWARD = "#EEEEEE"  # shade of forward bins
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
MINUS = "\N{MINUS SIGN}"  # as on the axes
# White lines on pictures, which stay white where the report turns colours for the dark scheme.
ON_IMAGE = "#FFFFFE"
NARROW = 3.1  # inches: the width of a figure that is as wide as a phone

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
Item = TypeVar("Item")


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
    kinds = ("png", *["pdf"] * pdf, *["svg"] * svg)
    return [_write(fig, Path(path).with_suffix(f".{kind}"), dpi) for kind in kinds]


def save_svg(fig: Figure, path: Path, dpi: int = 200) -> Path:
    """Writes a figure as SVG only.

    Args:
        fig: the figure.
        path: the file.
        dpi: resolution of the pictures in it.

    Raises:
        UserError: the file cannot be written.
    """
    return _write(fig, path, dpi)


def _write(fig: Figure, path: Path, dpi: int) -> Path:
    # Without a date, so that the same arrays give the same file.
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    kind = path.suffix[1:]
    with files.replacing(path) as partial, matplotlib.rc_context(STYLE):
        fig.savefig(partial, format=kind, dpi=dpi, metadata=undated.get(kind, {}))
    return path


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


def parts_of(items: Sequence[Item], most: int | None) -> list[Sequence[Item]]:
    """Items in groups of ``most``, the last one smaller; one group if that is None."""
    size = most or max(len(items), 1)
    return [items[i : i + size] for i in range(0, len(items), size)]


def stacked(
    width: float, heights: Sequence[float], extra: float = 0.0
) -> tuple[Figure, list[Figure | SubFigure]]:
    """A figure with parts below one another, each like a figure of its own.

    Args:
        width: of the figure, inches.
        heights: of the parts, inches.
        extra: height for what is outside of all parts, such as a legend.
    """
    fig = Figure(figsize=(width, sum(heights) + extra), layout="constrained")
    if len(heights) == 1:
        return fig, [fig]
    parts = fig.subfigures(len(heights), 1, height_ratios=heights)
    return fig, list(np.ravel(np.asarray(parts, object)))


def share_y(groups: Sequence[Sequence[Axes]]) -> None:
    """Gives the panels of several parts of a figure, which share y among themselves, one range."""
    ends = [axes[0].get_ylim() for axes in groups]
    for axes in groups:
        axes[0].set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def legend_above(fig: Figure, ax: Axes, columns: int) -> None:
    """The legend of a panel above all panels of its figure, so that it covers no marks."""
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=columns)


def area_ticks(
    ax: Axes, names: Sequence[str], *, across: bool = False, color: str = OTHERS
) -> None:
    """Names of areas beside the rows of a picture whose neurons are ordered by area.

    Args:
        ax: whose rows, at 0, 1, 2, ..., are neurons.
        names: the area of every row.
        across: whether the columns are neurons too.
        color: of the lines between areas.
    """
    at = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    edges = [0, *at, len(names)]
    middles = [(low + high - 1) / 2 for low, high in pairwise(edges)]
    shown = [names[edge] for edge in edges[:-1]]
    ax.set_yticks(middles, shown)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)  # the first one on top
    if across:
        ax.set_xticks(middles, shown, rotation=90)
        ax.tick_params(axis="x", length=0)
    for edge in at:
        ax.axhline(edge - 0.5, color=color, linewidth=0.6)
        if across:
            ax.axvline(edge - 0.5, color=color, linewidth=0.6)


def panels(
    rows: int, columns: int, *, width: float, height: float, share: Literal["col", "row", "none"]
) -> tuple[Figure, NDArray]:
    """Panels of a given size in inches, with room for labels; ``share`` names who shares y."""
    fig = Figure(figsize=(width * columns + 0.8, height * rows + 0.7), layout="constrained")
    sharex: Literal["all", "none"] = "all" if rows > 1 else "none"
    return fig, fig.subplots(rows, columns, sharex=sharex, sharey=share, squeeze=False)


def start_at_zero(axes: Sequence[Axes], *, headroom: float) -> None:
    """Sets the y limits of panels to the same: from 0 to ``headroom`` times the highest line."""
    highest = max(ax.dataLim.y1 for ax in axes)
    for ax in axes:
        ax.set_ylim(0, headroom * highest if 0 < highest < np.inf else 1)


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
