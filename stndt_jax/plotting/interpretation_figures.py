"""Figures of attention and importance, with captions: from an interpretation to drawings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stndt_jax.interpret.summary import AGREEMENT, Interpretation
from stndt_jax.plotting import attention, importance
from stndt_jax.plotting.figures import Drawing


def of_interpretation(
    found: Interpretation, dropped: dict[str, Any] | None = None
) -> Iterator[Drawing]:
    """Figures of attention and importance, and of the scores with neurons dropped if known."""
    yield _attention(found)
    yield _lags(found)
    for draw in (_importance, _agreement, _conditions):
        if (drawing := draw(found)) is not None:
            yield drawing
    if dropped is not None:
        yield _dropping(dropped)


def _attention(found: Interpretation) -> Drawing:
    what = "factor" if found.shows_factors else "neuron"
    panels = f"among {what}s (above) and among bins (below)"
    if found.spatial_by_layer is None:
        panels = "among bins"
    lines = "" if found.shows_factors else "held-in from held-out neurons and "
    maps = str(found.summary.get("maps", ""))
    return Drawing(
        "attention",
        "Attention by layer",
        f"Attention {panels}, mean over trials and members: a row attends, a column is "
        f"attended to. A bright column is a {what}, or a time, that all others attend to. Dotted "
        f"lines separate {lines}observed from forward bins."
        + (f" {maps[:1].upper()}{maps[1:]}." if maps else ""),
        attention.attention_maps(
            found.shown_by_layer,
            np.nanmean(found.temporal_by_layer, axis=0),
            heldin=None if found.shows_factors else found.heldin,
            bins_observed=found.bins_observed,
            bin_ms=found.bin_ms,
        ),
    )


def _lags(found: Interpretation) -> Drawing:
    return Drawing(
        "lags",
        "Attention over time lags",
        "How much a bin attends to earlier (left) and to later bins (right). A line is a layer, "
        "thin lines are single members. 1 is attention spread evenly over the trial; outside the "
        "context window it is 0.",
        attention.lag_profiles(
            found.by_lag_and_layer, found.lags_ms, bins=found.temporal_by_layer.shape[-1]
        ),
    )


def _importance(found: Interpretation) -> Drawing | None:
    if found.importance is None and found.gradient_importance is None:
        return None
    gradient = found.summary.get("gradients", {})
    measure = "attention received"
    if found.has_factors:
        measure = "the attention that factors receive, brought to neurons by the read-in,"
    return Drawing(
        "importance",
        "Importance of neurons",
        f"Importance of every neuron (orange: held-out), by {measure} and, if computed, by "
        "integrated gradients; grey dots are single members. Where members disagree, or the two "
        "measures do, the importance of a neuron is not established."
        + (" Held-out neurons are not read in to factors." if found.has_factors else ""),
        importance.importances(
            found.importance,
            found.importance_by_member,
            found.gradient_importance,
            found.rate_hz,
            heldin=found.heldin,
            scale=_scale(found),
            correlations={
                "attention and rate": found.summary.get("importance_and_rate", np.nan),
                "gradients and rate": gradient.get("and_rate", np.nan),
                "attention and gradients": gradient.get("and_attention", np.nan),
            },
        ),
    )


def _agreement(found: Interpretation) -> Drawing | None:
    agreement = found.summary.get("agreement", {})
    rows = {AGREEMENT.get(key, key): row for key, row in agreement.items()}
    if "gradients" in found.summary:
        rows["members, by gradients"] = found.summary["gradients"]["members"]
    # NaN is null in a file, so None when it is read.
    if not any(
        row["spearman"] is not None and np.isfinite(row["spearman"]) for row in rows.values()
    ):
        return None
    return Drawing(
        "agreement",
        "Reliability of importance",
        "How far rankings of the held-in neurons agree across single trials, layers, members: 1 is "
        "the same ranking, 0 is chance. Right: the fraction of the top tenth that two rankings "
        "share; bars mark what is expected by chance."
        + (
            " The read-in of a member is the same in all its trials and layers, so that agreement "
            "across these says little; across members it says more."
            if found.has_factors
            else ""
        ),
        importance.agreements(rows),
    )


def _conditions(found: Interpretation) -> Drawing | None:
    if found.importance_by_condition is None or found.conditions is None:
        return None
    return Drawing(
        "conditions",
        "Importance by condition",
        "Importance of the most important neurons, by attention, in every condition. A column of "
        "one colour is a neuron that is equally important in all.",
        importance.condition_importances(
            found.importance_by_condition, found.conditions, scale=_scale(found)
        ),
    )


def _scale(found: Interpretation) -> importance.Scale:
    return importance.Scale(
        importance.BROUGHT if found.has_factors else importance.RECEIVED, found.uniform
    )


def _dropping(dropped: dict[str, Any]) -> Drawing:
    return Drawing(
        "dropping",
        "Dropping neurons",
        "Scores with more and more held-in neurons silenced, and their relative change. If "
        "importance is real, silencing the most important neurons first (circles; by gradients: "
        "diamonds) costs more than silencing random ones (squares; band: range), and silencing "
        "the least important first (triangles) costs less.",
        importance.dropping_curves(dropped),
    )
