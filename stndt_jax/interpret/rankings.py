"""Rankings of neurons by importance: how far several agree, and whether they follow the rates.

A ranking is a row with one value per neuron. Rankings are compared by Spearman's rank correlation
and by the overlap of their top tenths. Two random sets of k among N neurons share k^2 / N neurons
on average (the mean of the hypergeometric distribution), so the overlap due to chance is k / N.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from stndt_jax.types import Float, Int, NDArray

TOP = 0.1
"""The fraction of neurons that counts as the top of a ranking."""


class Agreement(NamedTuple):
    """How far several rankings of the same neurons agree: means over all pairs of rankings.

    Attributes:
        rankings: their number, without those that rank nothing (all values equal).
        spearman: rank correlation; NaN for fewer than two rankings.
        overlap: fraction of the top neurons that two rankings have in common.
        chance: that fraction for random rankings.
    """

    rankings: int
    spearman: float
    overlap: float
    chance: float


def agreement(
    rows_SN: Float[NDArray, "S N"], *, given: Float[NDArray, " N"] | None = None
) -> Agreement:
    """Mean agreement of every pair of rankings, in time linear in their number.

    With centred ranks of unit length r, the sum of the products of all pairs of different rows is
    ``|sum r|^2 - S``; a neuron at the top of c rankings is shared by c (c - 1) / 2 pairs.

    Args:
        rows_SN: rankings; rows with NaN are left out.
        given: a quantity of the neurons, such as their rate, to control for: the part of the ranks
            that is linear in its ranks is removed first, so that the correlation is a partial one.
    """
    N = rows_SN.shape[1]
    top = top_count(N)
    rows_SN = rows_SN[np.isfinite(rows_SN).all(axis=1)]
    ranks_SN = _unit_ranks(rows_SN, given) if len(rows_SN) else rows_SN
    varies_S = np.linalg.norm(ranks_SN, axis=1) > 0.5
    ranks_SN, rows_SN = ranks_SN[varies_S], rows_SN[varies_S]
    S = len(ranks_SN)
    if S < 2:
        return Agreement(S, float("nan"), float("nan"), top / N)
    pairs = S * (S - 1)
    spearman = (np.sum(ranks_SN.sum(axis=0) ** 2) - S) / pairs
    # With `given`, the top is that of the residual ranks.
    ordered_SN = rows_SN if given is None else ranks_SN
    first_SK = np.argsort(-ordered_SN, axis=1, kind="stable")[:, :top]
    times_N = np.bincount(first_SK.ravel(), minlength=N)
    overlap = np.sum(times_N * (times_N - 1)) / pairs / top
    return Agreement(S, float(spearman), float(overlap), top / N)


def spearman(
    a: Float[NDArray, " N"], b: Float[NDArray, " N"], given: Float[NDArray, " N"] | None = None
) -> float:
    """Rank correlation of two quantities, partial if a third is given; NaN if undefined."""
    return agreement(np.stack([a, b]), given=given).spearman


def top_count(neurons: int) -> int:
    """The number of neurons that are the top of a ranking."""
    return max(1, round(TOP * neurons))


def ranks(values: Float[NDArray, " N"]) -> Int[NDArray, " N"]:
    """1 for the largest value; equal values are ranked in the order of the neurons."""
    ranks_N = np.empty(len(values), int)
    ranks_N[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return ranks_N


def ranks_by_group(values: Float[NDArray, " N"], heldin: int) -> Int[NDArray, " N"]:
    """Ranks among the held-in neurons, then among the held-out ones, each from 1."""
    return np.concatenate([ranks(values[:heldin]), ranks(values[heldin:])])


def lag_profile(
    temporal: Float[NDArray, "... T T"], pairs: Int[NDArray, "T T"]
) -> Float[NDArray, "... lags"]:
    """Mean attention by lag from ``-(T - 1)`` to ``T - 1`` bins; above 0, to a later bin.

    The mean is over all trials and bins for which the other bin exists, so that long lags are not
    smaller only because fewer bins have them. NaN where there is none.

    Args:
        temporal: mean attention of bins (rows) to bins over trials.
        pairs: number of trials that each mean is over.
    """
    T = temporal.shape[-1]
    rows = []
    for lag in range(-(T - 1), T):
        number_d = np.diagonal(pairs, lag).astype(float)
        known_d = np.where(number_d > 0, np.diagonal(temporal, lag, axis1=-2, axis2=-1), 0.0)
        total = number_d.sum()
        rows.append(known_d @ number_d / (total if total else np.nan))
    return np.stack(rows, axis=-1)


def mean_known(x: Float[NDArray, "..."], axis: int | tuple[int, ...]) -> Float[NDArray, "..."]:
    """Mean over an axis of what is not NaN; NaN where all of it is."""
    known = np.isfinite(x)
    number = known.sum(axis=axis)
    return np.where(known, x, 0.0).sum(axis=axis) / np.where(number > 0, number, np.nan)


def _unit_ranks(rows_SN: NDArray, given: NDArray | None) -> NDArray:
    """Centred ranks of every row, of length 1; of length 0 if all values are equal."""
    ranks_SN = rankdata(rows_SN, axis=1)
    ranks_SN = ranks_SN - ranks_SN.mean(axis=1, keepdims=True)
    if given is not None:
        (along_N,) = _unit_ranks(np.asarray(given, float)[None], None)
        ranks_SN = ranks_SN - (ranks_SN @ along_N)[:, None] * along_N
    length_S1 = np.linalg.norm(ranks_SN, axis=1, keepdims=True)
    # Rounding leaves about 1e-12 of ranks that `given` explains completely.
    return np.where(length_S1 > 1e-6, ranks_SN / np.maximum(length_S1, 1e-6), 0.0)
