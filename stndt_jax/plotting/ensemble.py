"""Choosing an ensemble: how the score of a mean rate grows with the number of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stndt_jax.plotting import style
from stndt_jax.plotting.style import BEST, OTHERS, SMOOTHED, TRUE, styled
from stndt_jax.runs.score_names import axis_label


@styled
def ensemble_curve(
    curve: Mapping[str, Any], chosen: tuple[int, float], each: Sequence[float]
) -> Figure:
    """Validation co-bps of the mean rate against the number of models in it.

    Drawn are the best n models, greedy selection if it was computed, random sets with their mean
    and 95% range, and the chosen set. Small dots on the left are single models; those far below
    the others lie outside the axis.

    Args:
        curve: `curve` of `ensemble.json`.
        chosen: number of chosen models and their co-bps.
        each: co-bps of every candidate.
    """
    fig = Figure(figsize=(4.4, 2.7), layout="constrained")
    ax = fig.subplots()
    size, random = np.asarray(curve["size"]), curve["random"]
    low, high = (np.asarray(random[f"percentile_{name}"]) for name in ("2_5", "97_5"))
    ax.fill_between(
        size, low, high, color=OTHERS, alpha=0.35, linewidth=0,
        label="random sets, 95% range",
    )  # fmt: skip
    ax.plot(size, random["mean"], color=OTHERS, label="random sets, mean")
    ax.plot(size, curve["top"], color=TRUE, linewidth=1.0, label="best n models")
    if curve["greedy"] is not None:
        path = curve["greedy"]
        ax.plot(np.arange(1, len(path) + 1), path, color=SMOOTHED, label="greedy selection")
    ax.plot(*chosen, "o", color=BEST, markersize=5, label="chosen set", zorder=4)
    jitter = np.random.default_rng(0).uniform(0.35, 0.65, len(each))
    ax.plot(jitter, each, ".", color=OTHERS, markersize=2.5, zorder=1, label="single models")
    lowest = min(low[0], min(curve["top"]))
    highest = max([chosen[1], *curve["top"], *high])
    margin = 0.08 * max(highest - lowest, 1e-4)
    ax.set_ylim(lowest - margin, highest + margin)
    ax.set_xlim(0, None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("number of models")
    ax.set_ylabel(axis_label("validation_co_bps"))
    style.legend_above(fig, ax, 3)
    return fig


def save(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes the curve of an ensemble's score against its size.

    Args:
        found: the content of ``ensemble.json``, with a curve.
        folder: directory to write to.

    Returns:
        The files written.
    """
    chosen = (found["size"], found["validation_co_bps"])
    each = [row["validation_co_bps"] for row in found["candidates"]]
    folder.mkdir(exist_ok=True)
    figure = ensemble_curve(found["curve"], chosen, each)
    return style.save(figure, folder / "ensemble_curve.png", pdf=True)
