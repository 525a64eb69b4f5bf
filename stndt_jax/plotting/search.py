"""A hyperparameter search: the score of every trial, and which parameters it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stndt_jax.plotting.style import BEST, OTHERS, styled
from stndt_jax.types import Bool, Float, Int, NDArray


@styled
def history(
    numbers_R: Int[NDArray, " R"],
    scores_R: Float[NDArray, " R"],
    pruned_R: Bool[NDArray, " R"],
    *,
    score: str = "validation co-bps (bits/spike)",
) -> Figure:
    """Score of every trial of the search by its number, and the best so far as steps.

    The axis begins near the 10% quantile of the unpruned trials: trials that learned nothing would
    flatten all others.

    Args:
        numbers_R: of the trials, ascending.
        scores_R: their scores; NaN for a failed trial.
        pruned_R: which were stopped early by the pruner.
        score: label of the score's axis.
    """
    fig = Figure(figsize=(4.2, 2.8), layout="constrained")
    ax = fig.subplots()
    known_R = np.isfinite(scores_R)
    for chosen_R, marker, label in (
        (known_R & ~pruned_R, "o", "trial"),
        (known_R & pruned_R, "x", "pruned"),
    ):
        if chosen_R.any():
            ax.plot(
                numbers_R[chosen_R], scores_R[chosen_R], marker, color=OTHERS, ms=3.5, label=label
            )
    if known_R.any():
        best_R = np.fmax.accumulate(scores_R[known_R])
        ax.step(numbers_R[known_R], best_R, where="post", color=BEST, label="best so far")
        top = best_R[-1]
        whole = scores_R[known_R & ~pruned_R]
        low = np.quantile(whole if whole.size else scores_R[known_R], 0.1)
        ax.set_ylim(low - 0.1 * (top - low) - 1e-3, top + 0.1 * (top - low) + 1e-3)
        fig.legend(loc="outside upper center", ncols=3)
    ax.set(xlabel="trial of the search", ylabel=score)
    return fig


@styled
def importance(fractions: Mapping[str, float]) -> Figure:
    """Bars of the fraction of the score's variance that each parameter explains, largest on top."""
    names: Sequence[str] = sorted(fractions, key=lambda name: fractions[name])
    fig = Figure(figsize=(4.2, 0.6 + 0.2 * max(len(names), 3)), layout="constrained")
    ax = fig.subplots()
    positions = np.arange(len(names))
    ax.barh(positions, [fractions[name] for name in names], color=BEST, height=0.7)
    ax.set_yticks(positions, [name.replace("_", " ") for name in names])
    ax.set(xlabel="fraction of the variance of the score", xlim=(0, None))
    return fig
