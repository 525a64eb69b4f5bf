"""Draws the figure of the first page from a demo's directory, and the diagram of the model.

python docs/draw.py demo    (after make demo)
python docs/draw.py         (the diagram alone)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import stndt_jax as stndt
from stndt_jax.plotting import style
from stndt_jax.run import Run

IMAGES = Path(__file__).resolve().parent / "images"
TRUE, INFERRED = "#404040", "#1f77b4"
# Boxes of the diagram: over time, over factors, everything else.
TIME, FACTORS, OTHER = "#dbe9f6", "#fbe3cf", "#eeeeee"


def draw(run: Run) -> Figure:
    """One trial: spikes of the held-in neurons, and rates of the four fastest held-out ones."""
    heldin = run.data.dims.heldin
    counts_RTN, rates_RTN, true_RTN = run.counts(), run.rates(), run.true_rates()
    assert true_RTN is not None
    observed, width = run.data.dims.bins_observed, run.data.bin_ms
    time_T = style.bin_centres(observed, width)
    trial = int(np.argmax(counts_RTN[:, :observed].sum((1, 2))))
    depth_N = np.ptp(true_RTN[trial, :observed, heldin:], axis=0)
    shown = heldin + np.argsort(-depth_N)[:4]
    order = np.argsort(np.argmax(true_RTN[trial, :observed, :heldin], axis=0))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        fig = Figure(figsize=(8.4, 3.4), layout="constrained")
        parts: Any = fig.subfigures(1, 2, width_ratios=(1.0, 1.5))
        left, right = parts
        ax = left.subplots()
        bins, neurons = np.nonzero(counts_RTN[trial, :observed][:, order])
        ax.plot(time_T[bins], neurons, "|", color="black", markersize=2.5, markeredgewidth=0.6)
        ax.set(xlabel="time (ms)", ylabel="held-in neuron", title="what the model sees")
        axes = right.subplots(2, 2, sharex=True)
        for panel, n in zip(axes.flat, shown, strict=True):
            panel.plot(time_T, style.hz(true_RTN[trial, :observed, n], width), color=TRUE)
            panel.plot(time_T, style.hz(rates_RTN[trial, :observed, n], width), color=INFERRED)
            at = time_T[np.nonzero(counts_RTN[trial, :observed, n])[0]]
            top = panel.get_ylim()[1] * 1.12
            panel.plot(at, np.full(len(at), top), "|", color="black", markersize=6)
            panel.set_ylim(0, top * 1.08)
        axes[0, 0].text(0.03, 0.78, "true rate", color=TRUE, transform=axes[0, 0].transAxes)
        axes[0, 0].text(0.03, 0.64, "inferred", color=INFERRED, transform=axes[0, 0].transAxes)
        right.suptitle("held-out neurons in the same trial: spikes never seen", fontsize=9)
        right.supxlabel("time (ms)", fontsize=9)
        right.supylabel("spikes/s", fontsize=9)
    return fig


def diagram() -> Figure:
    """The model: from the counts of a trial to its rates, and what is compared with what."""
    fig = Figure(figsize=(5.6, 6.6))
    ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set(xlim=(0, 100), ylim=(0, 118))
    ax.axis("off")

    def box(x: float, y: float, width: float, text: str, color: str, height: float = 9) -> None:
        style = "round,pad=0,rounding_size=1.5"
        ax.add_patch(FancyBboxPatch((x, y), width, height, style, fc=color, ec=TRUE, lw=0.8))
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9.5)

    def arrow(x0: float, y0: float, x1: float, y1: float) -> None:
        how = {"arrowstyle": "-|>", "color": TRUE, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=how)

    box(14, 106, 72, "spike counts of a trial: bins x held-in neurons", OTHER)
    arrow(50, 106, 50, 101)
    box(14, 92, 72, "mask some entries; read in to D factors", OTHER)
    arrow(31, 92, 31, 87)
    arrow(72, 92, 72, 87)
    box(8, 75, 42, "a token for each bin\nD numbers", TIME, 12)
    box(55, 75, 37, "a token for each factor\nT numbers", FACTORS, 12)
    ax.add_patch(
        FancyBboxPatch((4, 28), 92, 41, boxstyle="round,pad=0,rounding_size=2", fill=False)
    )
    ax.text(93, 30.5, "x layers", ha="right", fontsize=9.5)
    steps = (
        (58, "attention over time", TIME),
        (48.5, "feed-forward", TIME),
        (39, "attention over factors", FACTORS),
        (29.5, "feed-forward", FACTORS),
    )
    arrow(29, 75, 29, 66)
    for y, text, color in steps:
        box(8, y, 42, text, color, 8)
        arrow(29, y, 29, y - 1.5 if y > 30 else 23)
    ax.plot((73, 73), (75, 43), color=TRUE, linewidth=1)
    arrow(73, 43, 50, 43)
    ax.text(75, 46, "who attends\nto whom", fontsize=8.5, va="center")
    box(14, 14, 72, "read out to all neurons; exp", OTHER)
    arrow(50, 14, 50, 9)
    box(14, 0.5, 72, "rates: bins x neurons, expected counts per bin", OTHER, 8.5)
    return fig


def main() -> None:
    """Writes the diagram and, given a demo's directory, the figure."""
    IMAGES.mkdir(exist_ok=True)
    # Texts stay texts, and the file is the same each time.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "stndt", "font.family": "sans-serif"}
    ):
        diagram().savefig(IMAGES / "model.svg", metadata={"Date": None})
    if len(sys.argv) > 1:
        (path,) = sorted(Path(sys.argv[1]).glob("run_*"))
        draw(stndt.load_run(path)).savefig(IMAGES / "demo.png", dpi=120)


if __name__ == "__main__":
    main()
