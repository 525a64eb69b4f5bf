"""Arrays to figures: PSTHs, single trials, decoded velocity, training curves, scores.

Every function takes arrays and returns a `matplotlib.figure.Figure`, drawn without a display and
without matplotlib's global state; `save` writes it. Rates come as expected counts per bin, as
everywhere, and are drawn in spikes/s. Colours are those of Okabe and Ito, and viridis, which
readers with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray, Shaped

TRUE, INFERRED, SMOOTHED, SPIKES = "#000000", "#D55E00", "#56B4E9", "#555555"
BEST, OTHERS = "#D55E00", "#9AA5B1"
MINUS = "\N{MINUS SIGN}"  # as on the axes

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so figures look alike everywhere
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
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "stndt",  # names inside the file are the same every time
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws under STYLE, whatever the user's own settings are."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return drawn


def condition_means(
    x_RTN: Float[NDArray, "R T N"], conditions_R: Int[NDArray, " R"], conditions: int
) -> Float[NDArray, "C T N"]:
    """Mean over the trials of every condition, NaN for one without trials: PSTHs of rates."""
    means_CTN = np.full((conditions, *x_RTN.shape[1:]), np.nan)
    for c in range(conditions):
        if np.any(conditions_R == c):
            means_CTN[c] = x_RTN[conditions_R == c].mean(axis=0)
    return means_CTN


@styled
def psths(
    true_CTN: Float[NDArray, "C T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    conditions_R: Int[NDArray, " R"],
    *,
    bin_ms: float,
    neurons: Sequence[int],
    true_label: str = "recorded",
) -> Figure:
    """PSTHs above, condition means of inferred rates below; a column a neuron.

    A neuron's two panels share their axes and a condition its colour.

    Args:
        true_CTN: PSTHs, counts per bin; empirical ones, or means of true rates.
        inferred_RTN: rates of single trials, counts per bin.
        conditions_R: row of `true_CTN` that a trial belongs to; -1 for none.
        bin_ms: bin width, ms.
        neurons: which neurons to draw.
        true_label: what the upper row shows.
    """
    inferred_CTN = condition_means(inferred_RTN, conditions_R, len(true_CTN))
    shown = [c for c in range(len(true_CTN)) if np.any(conditions_R == c)]
    colors = dict(zip(shown, condition_colors(len(shown)), strict=True))
    time = _bin_centres(true_CTN.shape[1], bin_ms)
    fig, axes = _grid(2, len(neurons), width=1.9, height=1.45, share="col")
    for column, n in enumerate(neurons):
        for row, (means_CTN, label) in enumerate(
            ((true_CTN, true_label), (inferred_CTN, "inferred"))
        ):
            ax = axes[row, column]
            for c in shown:
                ax.plot(time, _hz(means_CTN[c, :, n], bin_ms), color=colors[c], label=f"{c}")
            if row == 0:
                ax.set_title(f"neuron {n}")
            if column == 0:
                ax.set_ylabel(f"{label}\n(spikes/s)")
        _from_zero(axes[:, column], room=1.05)
    fig.supxlabel("time (ms)", fontsize=8)
    if 1 < len(shown) <= 12:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, title="condition", loc="outside right center")
    return fig


@styled
def single_trials(
    spikes_RTN: Shaped[NDArray, "R T N"],
    inferred_RTN: Float[NDArray, "R T N"],
    *,
    bin_ms: float,
    trials: Sequence[int],
    neurons: Sequence[int],
    true_RTN: Float[NDArray, "R T N"] | None = None,
    smoothed_RTN: Float[NDArray, "R T N"] | None = None,
    bins_observed: int | None = None,
) -> Figure:
    """Spikes and rates of single trials: a row a neuron, a column a trial.

    Spikes are ticks above the rates. Several spikes in one bin are spread over its width.

    Args:
        spikes_RTN: spike counts; NaN where unknown.
        inferred_RTN: inferred rates, counts per bin.
        bin_ms: bin width, ms.
        trials: which trials to draw.
        neurons: which neurons to draw.
        true_RTN: true rates, counts per bin, of simulated spikes.
        smoothed_RTN: smoothed spikes or the baseline's rates, counts per bin.
        bins_observed: where forward bins begin; they are shaded.
    """
    rates: list[tuple[NDArray | None, str, dict[str, Any]]] = [
        (smoothed_RTN, "smoothed", {"color": SMOOTHED}),
        (true_RTN, "true rate", {"color": TRUE, "linewidth": 1.0}),
        (inferred_RTN, "inferred rate", {"color": INFERRED}),
    ]
    bins = spikes_RTN.shape[1]
    time = _bin_centres(bins, bin_ms)
    fig, axes = _grid(len(neurons), len(trials), width=1.7, height=1.15, share="row")
    for row, n in enumerate(neurons):
        for column, r in enumerate(trials):
            ax = axes[row, column]
            for values_RTN, label, look in rates:
                if values_RTN is not None:
                    ax.plot(time, _hz(values_RTN[r, :, n], bin_ms), label=label, **look)
            if bins_observed is not None and bins_observed < bins:
                ax.axvspan(bins_observed * bin_ms, bins * bin_ms, color="#EEEEEE", zorder=0)
        _from_zero(axes[row], room=1.2)
        for column, r in enumerate(trials):
            ax = axes[row, column]
            ticks = _spike_times(spikes_RTN[r, :, n], bin_ms)
            # At a fixed height of the panel, in the room left above the rates.
            ax.plot(
                ticks,
                np.full(len(ticks), 0.94),
                "|",
                transform=ax.get_xaxis_transform(),
                color=SPIKES,
                markersize=6,
                markeredgewidth=0.7,
                label="spikes",
            )
            if row == 0:
                ax.set_title(f"trial {r}")
        axes[row, 0].set_ylabel(f"neuron {n}\n(spikes/s)")
    fig.supxlabel("time (ms)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


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
    """Decoded against true hand velocity: courses of some trials, and the paths of all.

    A path is the velocity summed over bins times the bin width, from the origin; a bin whose
    velocity is unknown (NaN) adds nothing.

    Args:
        true_RTD: velocity, `unit`/s.
        decoded_RTD: decoded velocity, `unit`/s.
        conditions_R: condition of every trial, which colours its path; None for no conditions.
        bin_ms: bin width, ms.
        trials: whose courses to draw.
        unit: of length.
    """
    time = _bin_centres(true_RTD.shape[1], bin_ms)
    columns = len(trials)
    fig = Figure(figsize=(1.6 * columns + 3.0, 3.6), layout="constrained")
    halves: Any = fig.subfigures(1, 2, width_ratios=(1.6 * columns + 0.6, 2.4))
    left, right = halves
    axes = left.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    for d, name in enumerate("xy"):
        for column, r in enumerate(trials):
            ax = axes[d, column]
            ax.axhline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
            ax.plot(time, true_RTD[r, :, d], color=TRUE, linewidth=1.0, label="true")
            ax.plot(time, decoded_RTD[r, :, d], color=INFERRED, label="decoded")
            if d == 0:
                ax.set_title(f"trial {r}")
        axes[d, 0].set_ylabel(f"{name} velocity ({unit}/s)")
    left.supxlabel("time (ms)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    left.legend(handles, labels, loc="outside upper center", ncols=2)

    groups_R = np.zeros(len(true_RTD), int) if conditions_R is None else conditions_R
    groups = np.unique(groups_R)
    color_of = dict(zip(groups.tolist(), condition_colors(len(groups)), strict=True))
    panels = right.subplots(2, 1, sharex=True, sharey=True)
    for ax, x_RTD, title in zip(panels, (true_RTD, decoded_RTD), ("true", "decoded"), strict=True):
        for r, path_TD in enumerate(paths(x_RTD, bin_ms)):
            ax.plot(*path_TD.T, color=color_of[int(groups_R[r])], linewidth=0.8)
        ax.set_aspect("equal")
        ax.set_title(f"{title} hand paths")
        ax.set_ylabel(f"y ({unit})")
    panels[1].set_xlabel(f"x ({unit})")
    return fig


@styled
def training_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    losses: Mapping[str, str] = MappingProxyType(
        {"training": "train_masked_loss", "validation": "valid_masked_loss"}
    ),
    score: str = "valid_cobps",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Loss and validation co-bps against epochs, a line a member; the best one stands out.

    Args:
        rows: logged metrics, as `log.read_metrics` gives them: `epoch` and, under every other
            key, a number or one a member, None or NaN where it is unknown. A row may lack keys.
        losses: what to call a loss, and its key; the first is drawn solid, the second dashed.
        score: key of co-bps; its largest value in any row tells the best member.
        references: co-bps of other methods by name, drawn as horizontal lines.

    Raises:
        UserError: no row holds the epoch and any of the keys.
    """
    curves = {key: _curve(rows, key) for key in (*losses.values(), score)}
    if not any(len(epochs) for epochs, _ in curves.values()):
        raise UserError(
            f"no row of the metrics holds epoch and any of {', '.join(curves)}: train for a "
            "validation or more, then draw"
        )
    scores_EK = np.where(np.isfinite(curves[score][1]), curves[score][1], -np.inf)
    best = int(np.argmax(scores_EK.max(axis=0))) if np.isfinite(scores_EK).any() else None
    fig, axes = _grid(1, 2, width=3.1, height=2.2, share="none")
    for (name, key), look in zip(losses.items(), ("-", "--", ":"), strict=False):
        _members(axes[0, 0], *curves[key], best=best, label=name, linestyle=look)
    axes[0, 0].set_ylabel("masked loss (nats/target)")
    _members(axes[0, 1], *curves[score], best=best, label="validation", linestyle="-")
    axes[0, 1].set_ylabel("validation co-bps (bits/spike)")
    for name, value in (references or {}).items():
        ax = axes[0, 1]
        ax.axhline(value, color=TRUE, linewidth=0.8, linestyle=(0, (1, 2)))
        place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "bottom"}
        ax.text(1, value, name, fontsize=7, **place)
    if best is not None:
        epochs, at = curves[score][0], int(np.argmax(scores_EK[:, best]))
        axes[0, 1].plot(epochs[at], scores_EK[at, best], "o", color=BEST, markersize=4)
        which = f", member {best}" if scores_EK.shape[1] > 1 else ""
        axes[0, 1].set_title(f"best: {scores_EK[at, best]:.4f} at epoch {epochs[at]:g}{which}")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
    if axes[0, 0].lines:
        axes[0, 0].legend()
    return fig


@styled
def score_bars(
    scores: Mapping[str, Mapping[str, float]],
    *,
    metrics: Sequence[str] = ("co-bps",),
    highlight: str | None = None,
) -> Figure:
    """Scores of several methods as bars, a panel a metric.

    Args:
        scores: the scores of every method by its name, as `scoring.score` gives them; a method
            without a metric has no bar for it.
        metrics: which scores to draw.
        highlight: the method whose bars stand out.
    """
    names = list(scores)
    fig, axes = _grid(1, len(metrics), width=2.2, height=0.28 * len(names) + 0.5, share="row")
    for ax, metric in zip(axes[0], metrics, strict=True):
        values = [float(scores[name].get(metric, np.nan)) for name in names]
        colors = [BEST if name == highlight else OTHERS for name in names]
        bars = ax.barh(range(len(names)), values, color=colors, height=0.65)
        texts = ["" if np.isnan(value) else f"{value:.3f}".replace("-", MINUS) for value in values]
        ax.bar_label(bars, texts, padding=3, fontsize=7)
        ax.axvline(0, color=TRUE, linewidth=0.7)
        ax.margins(x=0.22)
        ax.set_xlabel(f"{metric} (bits/spike)" if metric.endswith("bps") else metric)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    return fig


def save(
    fig: Figure, path: str | Path, *, pdf: bool = False, svg: bool = False, dpi: int = 200
) -> list[Path]:
    """Writes a figure as PNG, and as PDF or SVG beside it.

    Args:
        fig: the figure.
        path: the PNG's path; another ending is replaced.
        pdf: whether to write a PDF as well.
        svg: whether to write an SVG as well.
        dpi: the PNG's resolution, dots per inch.

    Returns:
        The files written.

    Raises:
        UserError: a file cannot be written there.
    """
    written = []
    for kind in ("png", *["pdf"] * pdf, *["svg"] * svg):
        target = Path(path).with_suffix(f".{kind}")
        # No date, so that the same arrays give the same file.
        undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        with files.replacing(target) as partial, matplotlib.rc_context(STYLE):
            fig.savefig(partial, format=kind, dpi=dpi, metadata=undated.get(kind, {}))
        written.append(target)
    return written


def _hz(counts: NDArray, bin_ms: float) -> NDArray:
    return counts * (1000.0 / bin_ms)


def _bin_centres(bins: int, bin_ms: float) -> NDArray:
    return (np.arange(bins) + 0.5) * bin_ms


def _spike_times(counts_T: NDArray, bin_ms: float) -> NDArray:
    """Times in ms; k spikes of a bin stand at the middles of its k equal parts."""
    times = [
        (t + (np.arange(int(count)) + 0.5) / count) * bin_ms
        for t, count in enumerate(np.nan_to_num(counts_T))
        if count > 0
    ]
    return np.concatenate(times) if times else np.zeros(0)


def paths(velocity_RTD: NDArray, bin_ms: float) -> NDArray:
    """Velocity summed over bins times the bin width, from the origin; NaN adds nothing."""
    steps_RTD = np.nan_to_num(velocity_RTD) * (bin_ms / 1000.0)
    return np.pad(np.cumsum(steps_RTD, axis=1), ((0, 0), (1, 0), (0, 0)))


def condition_colors(count: int) -> list[tuple[float, ...]]:
    """A colour for every condition, from viridis."""
    # The last tenth of viridis is too pale on white.
    return [tuple(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.9, count))]


def _grid(
    rows: int, columns: int, *, width: float, height: float, share: Literal["col", "row", "none"]
) -> tuple[Figure, NDArray]:
    """Panels of a given size in inches, with room for labels; `share` says who shares y."""
    fig = Figure(figsize=(width * columns + 0.8, height * rows + 0.7), layout="constrained")
    sharex: Literal["all", "none"] = "all" if rows > 1 else "none"
    return fig, fig.subplots(rows, columns, sharex=sharex, sharey=share, squeeze=False)


def _from_zero(panels: NDArray, *, room: float) -> None:
    """Panels that share y start at 0 and hold the highest of their lines."""
    highest = max(ax.dataLim.y1 for ax in panels)
    panels[0].set_ylim(0, room * highest if highest > 0 else 1)


def _curve(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray, NDArray]:
    """Epochs (E,) and values (E, K) of the rows that hold a key."""
    held = [row for row in rows if key in row and "epoch" in row]
    epochs = np.array([row["epoch"] for row in held], float)
    values = [np.atleast_1d(np.asarray(row[key], float)) for row in held]
    return epochs, np.stack(values) if values else np.zeros((0, 1))


def _members(
    ax: Axes, epochs: NDArray, values_EK: NDArray, *, best: int | None, label: str, linestyle: str
) -> None:
    if not len(epochs):
        return
    members = values_EK.shape[1]
    for k in range(members):
        stands_out = k == best or members == 1
        ax.plot(
            epochs,
            values_EK[:, k],
            linestyle=linestyle,
            color=BEST if stands_out else OTHERS,
            linewidth=1.3 if stands_out else 0.7,
            zorder=3 if stands_out else 2,
            label=label if k == (best if best is not None else 0) else None,
        )
