"""Scores of several methods as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stndt_jax.plotting import style
from stndt_jax.plotting.style import BEST, OTHERS, TRUE, styled
from stndt_jax.runs.score_names import axis_label


@styled
def score_bars(
    scores: Mapping[str, Mapping[str, float]],
    *,
    metrics: Sequence[str] = ("co_bps",),
    highlight: str | None = None,
) -> Figure:
    """Scores of several methods as bars, a panel per score.

    Args:
        scores: the scores of every method by its name, as `scoring.score` returns them; a method
            without a score has no bar for it.
        metrics: which scores to draw.
        highlight: the method whose bars are highlighted.
    """
    names = list(scores)
    height = 0.28 * len(names) + 0.5
    fig, axes = style.panels(1, len(metrics), width=2.2, height=height, share="row")
    for ax, metric in zip(axes[0], metrics, strict=True):
        values = [float(scores[name].get(metric, np.nan)) for name in names]
        colors = [BEST if name == highlight else OTHERS for name in names]
        bars = ax.barh(range(len(names)), values, color=colors, height=0.65)
        texts = ["" if np.isnan(value) else style.signed(value, 3) for value in values]
        ax.bar_label(bars, texts, padding=3, fontsize=7)
        ax.axvline(0, color=TRUE, linewidth=0.7)
        ax.margins(x=0.22)
        ax.set_xlabel(axis_label(metric))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    return fig
