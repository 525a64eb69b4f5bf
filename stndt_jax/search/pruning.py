"""Pruning: which members of a population to stop early, given the scores of other trials.

Compared are the best scores so far, at the same epoch. Decisions are written to ``judged.json`` in
the run directory before they take effect, so that a run that was killed and resumed repeats them,
whatever the other trials have reached since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.runs import records
from stndt_jax.search.study import Study, Trial
from stndt_jax.types import Bool, Float, NDArray

PRUNERS = ("none", "median", "halving")
DECISIONS = "judged.json"
# Complete trials that the median needs.
ENOUGH = 4


def epochs(kind: str, epochs: int, every: int) -> list[int]:
    """After which epochs members are compared; a validation ends each.

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


def median(scores_K: Float[NDArray, " K"], complete: Sequence[float]) -> Bool[NDArray, " K"]:
    """Keeps the members at or above the median of the complete trials at this epoch."""
    if len(complete) < ENOUGH:
        return np.ones(len(scores_K), bool)
    return scores_K >= np.median(complete)


def halving(scores_K: Float[NDArray, " K"], others: Sequence[float]) -> Bool[NDArray, " K"]:
    """Keeps the members in the better half of all trials that reached this epoch."""
    every = np.sort(np.concatenate([scores_K, np.asarray(others, float)]))[::-1]
    return scores_K >= every[math.ceil(len(every) / 2) - 1]


class Pruner:
    """Decides at each validation of one population which of its members train on."""

    def __init__(
        self, kind: str, at: Sequence[int], run: Path, study: Study, numbers: Sequence[int]
    ) -> None:
        """Reads the decisions made so far.

        Args:
          kind: one of ``PRUNERS``.
          at: after which epochs members are compared.
          run: the run directory.
          study: holds the scores of the other trials.
          numbers: of the members' own trials.
        """
        self._kind, self._at, self._study = kind, set(at), study
        self._numbers, self._path = list(numbers), run / DECISIONS
        self._decided = decided(run)

    def __call__(self, epoch: int, best_K: Float[NDArray, " K"]) -> Bool[NDArray, " K"]:
        """Which members train on after a validation.

        Args:
          epoch: that has just ended.
          best_K: best score of each member so far; not finite where there is none.
        """
        # A run that was reset to an earlier checkpoint has not yet reached later decisions.
        out = pruned({when: who for when, who in self._decided.items() if int(when) <= epoch})
        keep_K = np.array([k not in out for k in range(len(best_K))])
        if epoch not in self._at:
            return keep_K
        if str(epoch) not in self._decided:
            new = keep_K & ~self._good(epoch, best_K, keep_K)
            self._decided[str(epoch)] = [int(k) for k in np.flatnonzero(new)]
            records.write(self._path, {"pruned": self._decided})
        keep_K[self._decided[str(epoch)]] = False
        return keep_K

    def _good(
        self, epoch: int, best_K: Float[NDArray, " K"], training_K: Bool[NDArray, " K"]
    ) -> Bool[NDArray, " K"]:
        """Reports the members' scores and compares them with those of other trials."""
        scores_K = np.where(np.isfinite(best_K) & training_K, best_K, -np.inf)
        for number, score in zip(self._numbers, scores_K, strict=True):
            if np.isfinite(score):
                self._study.report(number, epoch, float(score))
        others = [t for t in self._study.trials() if t.number not in self._numbers]
        if self._kind == "halving":
            good_K = training_K.copy()
            good_K[training_K] = halving(scores_K[training_K], _at(others, epoch))
            return good_K
        return median(scores_K, _at([t for t in others if t.state == "complete"], epoch))


def _at(trials: Sequence[Trial], epoch: int) -> list[float]:
    """The scores of the trials that reported one at an epoch."""
    return [t.reported[epoch] for t in trials if epoch in t.reported]


def decided(run: Path) -> dict[str, list[int]]:
    """The decisions of a run directory: epoch -> the members pruned after it."""
    path = run / DECISIONS
    if not path.exists():
        return {}
    found = records.read(path, under="pruned").get("pruned")
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no decisions; {files.RESTORE}")
    return found


def pruned(decisions: dict[str, list[int]]) -> set[int]:
    """All members that were pruned."""
    return {k for members in decisions.values() for k in members}
