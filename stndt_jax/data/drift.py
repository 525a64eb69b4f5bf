"""Units that were found or lost in the middle of a recording that does not say so.

Spike sorters follow a unit only as long as it is near the electrode. Without observation intervals
its silence before or afterwards looks like a rate of 0. It is told apart by a Poisson test against
the unit's own rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.types import Float, NDArray

# A silence is certainly no chance if so many spikes are missing: p = exp(-30) < 1e-13.
CERTAIN_SPIKES = 30.0
# It is worth a word if so many are: p = exp(-14) < 1e-6.
DOUBTFUL_SPIKES = 14.0
# Either must be longer than any other silence of the unit by this factor: units fire in bursts.
CERTAIN_GAPS = 3.0
FEWEST_SPIKES = 20  # of a unit whose rate is known well enough


class Presence(NamedTuple):
    """When a unit fired.

    Attributes:
      first: time of its first spike, s; inf without any.
      last: time of its last spike, s; -inf without any.
      spikes: their number.
      longest: the longest time without a spike between them, s.
    """

    first: float = np.inf
    last: float = -np.inf
    spikes: int = 0
    longest: float = 0.0

    def with_block(self, times: Float[NDArray, " s"]) -> Presence:
        """After some more spikes, in order and later than those before."""
        before = self.last if self.spikes else times[0]
        gap = float(np.max(np.diff(times, prepend=before)))
        return Presence(
            min(self.first, float(times[0])),
            float(times[-1]),
            self.spikes + len(times),
            max(self.longest, gap),
        )

    @property
    def rate_hz(self) -> float:
        """Spikes/s between the first and the last spike; 0 of fewer than two."""
        span = self.last - self.first
        return (self.spikes - 1) / span if span > 0 else 0.0


def present(
    units: Sequence[Presence], begin: float, end: float, missing: float = CERTAIN_SPIKES
) -> list[tuple[float, float] | None]:
    """When each unit was certainly, or in all likelihood, no longer or not yet there.

    Args:
      units: when the units fired.
      begin: when the recording began, s.
      end: when it ended, s.
      missing: how many spikes must be missing.

    Returns:
      For each unit the interval in which it was there, s, an end that is not certain infinite; None
      if it was there all the time for all that is known.
    """
    found = []
    for unit in units:
        low = unit.first if _is_missing(unit, unit.first - begin, missing) else -np.inf
        high = unit.last if _is_missing(unit, end - unit.last, missing) else np.inf
        found.append((low, high) if np.isfinite(low) or np.isfinite(high) else None)
    return found


def _is_missing(unit: Presence, silence: float, missing: float) -> bool:
    is_long = silence > CERTAIN_GAPS * unit.longest
    return unit.spikes >= FEWEST_SPIKES and unit.rate_hz * silence > missing and is_long
