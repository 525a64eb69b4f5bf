"""Figures of attention and importance, with captions: from an interpretation to drawings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from stndt_jax.data.labels import listed
from stndt_jax.interpret import rankings
from stndt_jax.interpret.summary import AGREEMENT, Interpretation
from stndt_jax.plotting import attention, importance
from stndt_jax.plotting.figures import Drawing
from stndt_jax.types import Bool, Float, NDArray

# A pair of bins is marked if fewer than this fraction of the trials have both.
FEW = 0.25


def of_interpretation(
    found: Interpretation, dropped: dict[str, Any] | None = None
) -> Iterator[Drawing]:
    """Figures of attention and importance, and of the scores with neurons dropped if known."""
    yield _attention(found)
    yield _lags(found)
    for draw in (_importance, _areas, _agreement, _conditions):
        if (drawing := draw(found)) is not None:
            yield drawing
    if dropped is not None:
        yield _dropping(dropped)


def _pairs(found: Interpretation) -> NDArray:
    """Number of trials with both of two bins; in old files, which do not have it, all or none."""
    if found.pairs is not None:
        return found.pairs
    # Where no trial had a bin, these files hold 0; any other row adds up to 1.
    has_T = np.nan_to_num(found.temporal_by_layer).sum(axis=(0, 1, 3)) > 0
    return np.where(has_T[:, None] & has_T[None], found.trials, 0)


def _few(found: Interpretation) -> Bool[NDArray, "T T"] | None:
    """Pairs of bins that some trials have, but few; None without any."""
    pairs_TT = _pairs(found)
    few_TT = (pairs_TT > 0) & (pairs_TT < FEW * found.trials)
    return few_TT if few_TT.any() else None


def _even(found: Interpretation) -> Float[NDArray, "T T"]:
    """Uniform attention."""
    T = found.temporal_by_layer.shape[-1]
    return np.full((T, T), 1 / T) if found.even is None else found.even


def _attention(found: Interpretation) -> Drawing:
    what = "factor" if found.shows_factors else "neuron"
    panels = f"among {what}s (above) and among bins (below)"
    if found.spatial_by_layer is None:
        panels = "among bins"
    areas = None
    if found.areas is not None and not found.shows_factors and found.spatial_by_layer is not None:
        areas = found.areas.tolist()
    apart = ["observed from forward bins"] * (
        found.bins_observed < found.temporal_by_layer.shape[-1]
    )
    if areas is None and not found.shows_factors and found.spatial_by_layer is not None:
        apart.append("held-in from held-out neurons")
    lines = f"Dotted lines separate {listed(apart)}." if apart else ""
    if areas is not None:
        lines += " Neurons are ordered by area; in an area, held-in ones come first."
    few_TT, pairs_TT = _few(found), _pairs(found)
    temporal_LTT = rankings.mean_known(found.temporal_by_layer, axis=0)
    words = [
        f"Attention {panels}, mean over trials and members: a row attends, a column is attended "
        f"to. A bright column is a {what}, or a time, that all others attend to. {lines}".strip(),
    ]
    if (pairs_TT < found.trials).any():
        words.append("Bins after the end of a trial, or before its beginning, are in no mean.")
    if few_TT is not None:
        words.append(f"Hatched: pairs of bins that fewer than {FEW:.0%} of the trials have.")
    if found.shows_factors:
        words.append("Factors are no neurons: for neurons and areas, see their importance.")
    if maps := str(found.summary.get("maps", "")):
        words.append(f"{maps[:1].upper()}{maps[1:]}.")
    return Drawing(
        "attention",
        "Attention by layer",
        " ".join(words),
        partial(
            attention.attention_maps,
            found.shown_by_layer,
            np.where(pairs_TT > 0, temporal_LTT, np.nan),
            heldin=None if found.shows_factors else found.heldin,
            bins_observed=found.bins_observed,
            bin_ms=found.bin_ms,
            even_TT=_even(found),
            few_TT=few_TT,
            areas=areas,
        ),
    )


def _lags(found: Interpretation) -> Drawing:
    pairs_TT = _pairs(found)
    T = len(pairs_TT)
    most_G = np.array([np.diagonal(pairs_TT, lag).max() for lag in range(1 - T, T)])
    few_G = (most_G > 0) & (most_G < FEW * found.trials)
    by_lag_KLG = found.by_lag_and_layer
    if found.pairs is None:
        by_lag_KLG = rankings.lag_profile(found.temporal_by_layer, pairs_TT)
    few = ""
    if few_G.any():
        few = f" Dotted: lags between bins that fewer than {FEW:.0%} of the trials have."
    return Drawing(
        "lags",
        "Attention over time lags",
        "How much a bin attends to earlier (left) and to later bins (right). A line is a layer, "
        "thin lines are single members. 1 is attention spread evenly over the trial; outside the "
        f"context window it is 0.{few}",
        partial(
            attention.lag_profiles,
            by_lag_KLG,
            found.lags_ms,
            even_G=rankings.lag_profile(_even(found), pairs_TT),
            few_G=few_G,
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
        partial(
            importance.importances,
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


def _areas(found: Interpretation) -> Drawing | None:
    n = found.heldin
    known = {
        "importance by attention": found.importance,
        "importance by gradients": found.gradient_importance,
    }
    measures = {name: values[:n] for name, values in known.items() if values is not None}
    if found.areas is None or not measures:
        return None
    factors = ""
    if found.has_factors:
        factors = (
            " Attention itself is among factors, each of which is read in from all areas, so that "
            "attention between areas is not given."
        )
    return Drawing(
        "areas",
        "Importance by area",
        "Importance of held-in neurons, a dot each, and its mean over those of an area (orange), "
        f"relative to the mean over all of them.{factors}",
        partial(importance.area_importances, found.areas[:n].tolist(), measures),
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
        partial(importance.agreements, rows),
    )


def _conditions(found: Interpretation) -> Drawing | None:
    if found.importance_by_condition is None or found.conditions is None:
        return None
    return Drawing(
        "conditions",
        "Importance by condition",
        "Importance of the most important neurons, by attention, in every condition. A column of "
        "one colour is a neuron that is equally important in all.",
        partial(
            importance.condition_importances,
            found.importance_by_condition,
            found.condition_labels,
            scale=_scale(found),
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
        "the least important first (triangles) costs less."
        + "".join(
            f" {note[:1].upper()}{note[1:].replace('R2', 'R²')}."
            for note in map(str, dropped.get("notes", []))
        ),
        partial(importance.dropping_curves, dropped),
    )
