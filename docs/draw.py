"""Draws the figure of the first page from a demo's directory.

python docs/draw.py demo    (after make demo)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import stndt_jax as stndt
from stndt_jax.plotting import style
from stndt_jax.run import Run

OUT = Path(__file__).resolve().parent / "images" / "demo.png"
TRUE, INFERRED = "#404040", "#1f77b4"


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


def main() -> None:
    """Writes the figure."""
    (path,) = sorted(Path(sys.argv[1]).glob("run_*"))
    OUT.parent.mkdir(exist_ok=True)
    draw(stndt.load_run(path)).savefig(OUT, dpi=120)


if __name__ == "__main__":
    main()
