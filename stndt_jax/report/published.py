"""Published scores that a run's scores may be compared with."""

from __future__ import annotations

from collections.abc import Mapping

from stndt_jax.evaluation import leaderboard

# A little fewer trials than the whole recordings have. With fewer trials or other neurons, a
# recording is a part of one, and no published score is comparable.
_LEAST = {"mc_maze": 2000, "mc_rtt": 1000, "area2_bump": 300, "dmfc_rsg": 900}


def scores(
    name: str, *, bin_ms: float, neurons: int, trials: int
) -> dict[str, Mapping[str, float]]:
    """Published scores by method; none if the recording is not one of these data sets as a whole.

    Args:
        name: of the recording.
        bin_ms: bin width, ms.
        neurons: held-in and held-out.
        trials: to train on and to evaluate.
    """
    whole = leaderboard.SIZES.get(name)
    if whole is None or (bin_ms, neurons) != (5, whole.neurons) or trials < _LEAST[name]:
        return {}
    return {row.method: row.scores for row in leaderboard.rows(name)}
