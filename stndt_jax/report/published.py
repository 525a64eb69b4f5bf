"""Which published scores a run's may stand beside."""

from __future__ import annotations

from collections.abc import Mapping

from stndt_jax.evaluation import leaderboard

# Fewer trials than the whole recordings have: what has other neurons or fewer trials is a part of
# one, and no published number is comparable with it.
_LEAST = {"mc_maze": 2000, "mc_rtt": 1000, "area2_bump": 300, "dmfc_rsg": 900}


def scores(
    name: str, *, bin_ms: float, neurons: int, trials: int
) -> dict[str, Mapping[str, float]]:
    """Published scores by method; none for a recording that is not a whole data set of these."""
    whole = leaderboard.SIZES.get(name)
    if whole is None or (bin_ms, neurons) != (5, whole.neurons) or trials < _LEAST[name]:
        return {}
    return {row.method: row.scores for row in leaderboard.rows(name)}
