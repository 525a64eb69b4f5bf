"""Brain areas: how important each area's neurons are, and which areas attend to which.

Importance by attention is of neurons, so it is averaged over the neurons of an area, whichever kind
of model it comes from. Attention between areas is a mean of the attention between their neurons,
which only models without factors have: a factor is read in from neurons of all areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stndt_jax.types import Bool, Float, NDArray

NO_PAIRS = (
    "attention between areas is not given: these models attend among factors, each of which is "
    "read in from neurons of all areas; importance by area is that of the areas' neurons"
)


def names(areas: Sequence[str]) -> list[str]:
    """The areas that occur, sorted."""
    return sorted(set(areas))


def order(areas: Sequence[str]) -> NDArray:
    """Indices of the neurons, area by area, in each area in the order that they had."""
    return np.argsort(np.asarray(areas), kind="stable")


def rows(
    areas: Sequence[str],
    heldin: int,
    rate_hz: Float[NDArray, " N"],
    measures: dict[str, Float[NDArray, " N"] | None],
) -> list[dict[str, Any]]:
    """What is known of every area, for tables.

    Args:
        areas: of every neuron, held-in then held-out.
        heldin: N_in.
        rate_hz: mean rate of every neuron, spikes/s.
        measures: importance of the neurons by the name of its measure; None where unknown.

    Returns:
        A dict for each area: ``area``, ``heldin``, ``heldout`` (numbers of neurons), ``rate_hz``
        (their mean), and under the name of each measure the mean importance of the area's held-in
        neurons, relative to that of all held-in neurons; None where it is unknown.
    """
    found = []
    for name in names(areas):
        of_area = _members(areas, name)
        row: dict[str, Any] = {
            "area": name,
            "heldin": int(of_area[:heldin].sum()),
            "heldout": int(of_area[heldin:].sum()),
            "rate_hz": float(rate_hz[of_area].mean()),
        }
        for measure, values in measures.items():
            row[measure] = None
            if values is not None and row["heldin"]:
                inside = values[:heldin]
                row[measure] = float(inside[of_area[:heldin]].mean() / inside.mean())
        found.append(row)
    return found


def between(areas: Sequence[str], spatial: Float[NDArray, "N N"]) -> Float[NDArray, "A A"]:
    """Attention of areas (rows) to areas (columns), relative to uniform attention of neurons.

    The attention of an area is the mean over its neurons, and what an area receives is the sum over
    its neurons. With uniform attention, an area receives its fraction of the neurons.

    Args:
        areas: of every neuron.
        spatial: attention of neurons (rows) to neurons; rows add up to 1.
    """
    of_area_AN = np.stack([_members(areas, name) for name in names(areas)]).astype(float)
    size_A = of_area_AN.sum(axis=1)
    attended_AA = (of_area_AN / size_A[:, None]) @ spatial @ of_area_AN.T
    return attended_AA / (size_A / size_A.sum())


def sentences(areas: Sequence[str], relative: Float[NDArray, "A A"]) -> list[str]:
    """For every area, which other one receives most of its attention, against uniform attention.

    Args:
        areas: of every neuron.
        relative: result of `between`.
    """
    shown = names(areas)
    share_A = np.array([_members(areas, name).mean() for name in shown])
    found = []
    for a, name in enumerate(shown if len(shown) > 1 else []):
        others = [b for b in range(len(shown)) if b != a]
        b = max(others, key=lambda b: relative[a, b])
        found.append(
            f"{shown[b]} receives {relative[a, b] * share_A[b]:.0%} of the attention of {name} "
            f"(uniform: {share_A[b]:.0%})"
        )
    return found


def _members(areas: Sequence[str], name: str) -> Bool[NDArray, " N"]:
    return np.array([area == name for area in areas])
