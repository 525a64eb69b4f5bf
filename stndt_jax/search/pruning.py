"""Which members of a population are not worth training on, judged by the trials before them.

Scores compared are the best of each trial by the same epoch. What was decided is written to
``judged.json`` in the run directory before it takes effect, so that a run that was killed decides
the same again, whatever the other trials have done since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stndt_jax import files
from stndt_jax.search.study import Study, Trial
from stndt_jax.types import Bool, Float, NDArray

PRUNERS = ("none", "median", "halving")
JUDGED = "judged.json"
# Of whole trials, before the median means anything.
ENOUGH = 4


def epochs(kind: str, epochs: int, every: int) -> list[int]:
    """After which epochs members are judged; all are such that end with a validation.

    ``median``: a quarter of the epochs, and each further eighth. ``halving``: an eighth, a
    quarter and half of them.

    Args:
      kind: one of ``PRUNERS``.
      epochs: of the whole training.
      every: epochs between validations.
    """
    eighths = {"none": (), "median": (2, 3, 4, 5, 6, 7), "halving": (1, 2, 4)}[kind]
    rounded = {-(-epochs * n // 8 // every) * every for n in eighths}
    return sorted(epoch for epoch in rounded if 0 < epoch < epochs)


def median(mine_K: Float[NDArray, " K"], whole: Sequence[float]) -> Bool[NDArray, " K"]:
    """Keeps who is at least as good as the median of the whole trials at this epoch."""
    if len(whole) < ENOUGH:
        return np.ones(len(mine_K), bool)
    return mine_K >= np.median(whole)


def halving(mine_K: Float[NDArray, " K"], others: Sequence[float]) -> Bool[NDArray, " K"]:
    """Keeps who is in the better half of all who have come to this epoch, oneself included."""
    everybody = np.sort(np.concatenate([mine_K, np.asarray(others, float)]))[::-1]
    return mine_K >= everybody[math.ceil(len(everybody) / 2) - 1]


class Pruner:
    """Judges the members of one population at its validations."""

    def __init__(
        self, kind: str, at: Sequence[int], run: Path, study: Study, numbers: Sequence[int]
    ) -> None:
        """Reads what was decided before.

        Args:
          kind: one of ``PRUNERS``.
          at: after which epochs.
          run: the run directory.
          study: where the other trials' scores are.
          numbers: of the members' own trials.
        """
        self._kind, self._at, self._study = kind, set(at), study
        self._numbers, self._path = list(numbers), run / JUDGED
        self._decided = decided(run)

    def __call__(self, epoch: int, best_K: Float[NDArray, " K"]) -> Bool[NDArray, " K"]:
        """Who goes on after a validation.

        Args:
          epoch: that has just ended.
          best_K: best score of each member so far; not finite where there is none.
        """
        # Of a run that begins again from before, what was decided later has not happened yet.
        out = pruned({when: who for when, who in self._decided.items() if int(when) <= epoch})
        keep_K = np.array([k not in out for k in range(len(best_K))])
        if epoch not in self._at:
            return keep_K
        if str(epoch) not in self._decided:
            new = ~self._pruned(epoch, best_K, keep_K) & keep_K
            self._decided[str(epoch)] = [int(k) for k in np.flatnonzero(new)]
            files.write_json(self._path, self._decided)
        keep_K[self._decided[str(epoch)]] = False
        return keep_K

    def _pruned(
        self, epoch: int, best_K: Float[NDArray, " K"], still_K: Bool[NDArray, " K"]
    ) -> Bool[NDArray, " K"]:
        mine_K = np.where(np.isfinite(best_K) & still_K, best_K, -np.inf)
        for number, value in zip(self._numbers, mine_K, strict=True):
            if np.isfinite(value):
                self._study.report(number, epoch, float(value))
        others = [t for t in self._study.trials() if t.number not in self._numbers]
        if self._kind == "halving":
            keep_K = still_K.copy()
            keep_K[still_K] = halving(mine_K[still_K], _at(others, epoch))
            return keep_K
        return median(mine_K, _at([t for t in others if t.state == "complete"], epoch))


def _at(trials: Sequence[Trial], epoch: int) -> list[float]:
    return [t.reported[epoch] for t in trials if epoch in t.reported]


def decided(run: Path) -> dict[str, list[int]]:
    """Epoch -> the members pruned after it, of a run directory."""
    path = run / JUDGED
    return files.read_json(path) if path.exists() else {}


def pruned(decisions: dict[str, list[int]]) -> set[int]:
    """All members that were ever pruned."""
    return {k for members in decisions.values() for k in members}
