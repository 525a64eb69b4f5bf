"""Which models to average: sets and sizes of ensembles by the co-bps of their mean rate.

The Poisson loss of mean rates needs little of the rates: their sum, which is linear in the
members, and the rates where a neuron spiked. That is a few hundredths of all of them, so that
the rates of hundreds of members fit into memory and thousands of sets can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.types import Bool, Float, Int, NDArray, Shaped

# What nlb_tools takes a rate of 0 for.
_FLOOR = 1e-9
# A gain below this is rounding, bits a spike.
_GAIN = 1e-9
_CHUNK = 16


class Spikes(NamedTuple):
    """Counts to be predicted: where a neuron spiked, and the loss of the null model.

    Attributes:
      known: which entries are scored at all.
      places: flat indices of the entries with spikes, S of them.
      counts: how many spikes there are.
      null: Poisson loss of the null model, each neuron's mean count; nats.
    """

    has_count: Bool[NDArray, "R T N"]
    places: Int[NDArray, " S"]
    counts: Float[NDArray, " S"]
    null: float

    @classmethod
    def of(
        cls, counts_RTN: Shaped[NDArray, "R T N"], has_count_RTN: Bool[NDArray, "R T N"]
    ) -> Spikes:
        """From counts, and where they are known."""
        has_count_RTN = np.ascontiguousarray(has_count_RTN)
        x_RTN = np.where(has_count_RTN, counts_RTN, 0)
        spikes_N = x_RTN.sum(axis=(0, 1), dtype=np.float64)
        mean_N = spikes_N / np.maximum(has_count_RTN.sum(axis=(0, 1)), 1)
        null = np.sum(spikes_N - spikes_N * np.log(np.where(mean_N > 0, mean_N, 1.0)))
        places = np.flatnonzero(x_RTN)
        return cls(has_count_RTN, places, x_RTN.ravel()[places].astype(np.float64), float(null))

    def vote(self, rates_RTN: Float[NDArray, "R T N"]) -> Vote:
        """What is kept of a model's rates."""
        total = float(rates_RTN.sum(where=self.has_count, dtype=np.float64))
        return Vote(rates_RTN.ravel()[self.places].astype(np.float32), total)

    def cobps(
        self, at_MS: Float[NDArray, "M S"], totals_M: Float[NDArray, " M"]
    ) -> Float[NDArray, " M"]:
        """Bits per spike of M models or means of models, from their rates and summed rates."""
        nll_M = totals_M - np.log(np.where(at_MS == 0, _FLOOR, at_MS)) @ self.counts
        return (self.null - nll_M) / np.log(2.0) / self.counts.sum()


class Vote(NamedTuple):
    """A model's rates where there are spikes, and the sum of all its rates."""

    rates: Float[NDArray, " S"]
    total: float


class Votes(NamedTuple):
    """The votes of M models on the same counts."""

    spikes: Spikes
    rates: Float[NDArray, "M S"]
    totals: Float[NDArray, " M"]

    @classmethod
    def of(cls, spikes: Spikes, votes: Sequence[Vote]) -> Votes:
        """Of one model or more."""
        rates_MS = np.stack([vote.rates for vote in votes])
        return cls(spikes, rates_MS, np.array([vote.total for vote in votes]))

    def each(self) -> Float[NDArray, " M"]:
        """Co-bps of every model by itself."""
        return self._in_chunks(np.zeros(self.rates.shape[1]), 0.0, 0)

    def mean(self, members: Sequence[int], weights: Sequence[float] | None = None) -> float:
        """Co-bps of the mean rate of some models, each as often as it is named."""
        rows = np.asarray(members)
        share = np.full(len(rows), 1 / len(rows)) if weights is None else np.asarray(weights)
        at_S = sum(w * self.rates[m].astype(np.float64) for w, m in zip(share, rows, strict=True))
        return float(
            self.spikes.cobps(np.asarray(at_S)[None], (share @ self.totals[rows])[None])[0]
        )

    def with_each(self, members: Sequence[int]) -> Float[NDArray, " M"]:
        """Co-bps of the mean rate of some models and one more, for every one that may be it."""
        sum_S = np.zeros(self.rates.shape[1])
        for m in members:
            sum_S += self.rates[m]
        return self._in_chunks(sum_S, float(self.totals[list(members)].sum()), len(members))

    def along(self, order: Sequence[int], most: int) -> Float[NDArray, " n"]:
        """Co-bps of the mean rate of the first 1, 2, ... models of an order, by running sums."""
        at_S, total, found = np.zeros(self.rates.shape[1]), 0.0, []
        for n, m in enumerate(order[:most], start=1):
            at_S += self.rates[m]
            total += self.totals[m]
            found.append(self.spikes.cobps(at_S[None] / n, np.array([total / n]))[0])
        return np.array(found)

    def _in_chunks(self, sum_S: NDArray, total: float, size: int) -> Float[NDArray, " M"]:
        """Co-bps with each model added to a sum of ``size`` models, a few at a time."""
        found = []
        for first in range(0, len(self.rates), _CHUNK):
            rows = slice(first, first + _CHUNK)
            at_MS = (sum_S + self.rates[rows]) / (size + 1)
            found.append(self.spikes.cobps(at_MS, (total + self.totals[rows]) / (size + 1)))
        return np.concatenate(found)


def ranked(votes: Votes) -> list[int]:
    """The models, best by co-bps first."""
    return [int(m) for m in np.argsort(-votes.each(), kind="stable")]


def top(votes: Votes, most: int) -> tuple[list[int], Float[NDArray, " n"]]:
    """The best n models, for the n from 1 to ``most`` whose mean rate is best.

    Returns:
      The models, best first, and the co-bps of every size.
    """
    order = ranked(votes)
    curve = votes.along(order, most)
    return order[: int(np.argmax(curve)) + 1], curve


def greedy(votes: Votes, most: int) -> tuple[list[int], Float[NDArray, " n"]]:
    """Models added one by one, each time the one that raises the mean rate's co-bps most.

    A model may be added again, which gives it more weight. Adding starts twice, from the best
    model and from the best n of :func:`top`, and the better end is taken: the result is never
    below that of :func:`top`.

    Returns:
      At most ``most`` models, repeated as often as they were added, and the co-bps on the way to
      them.
    """
    best_n, curve = top(votes, most)
    ends = [
        _added(votes, list(start), list(path), most)
        for start, path in ((best_n[:1], curve[:1]), (best_n, curve[: len(best_n)]))
    ]
    return max(ends, key=lambda end: end[1][-1])


def _added(
    votes: Votes, chosen: list[int], path: list[float], most: int
) -> tuple[list[int], Float[NDArray, " n"]]:
    while len(chosen) < most:
        scores = votes.with_each(chosen)
        best = int(np.argmax(scores))
        if not scores[best] > path[-1] + _GAIN:
            break
        chosen.append(best)
        path.append(float(scores[best]))
    return chosen, np.array(path)


def weights(chosen: Sequence[int]) -> dict[int, float]:
    """Each model's share of the mean rate, in the order in which the models were chosen."""
    return {m: chosen.count(m) / len(chosen) for m in dict.fromkeys(chosen)}


def spread(votes: Votes, most: int, draws: int, seed: int) -> Float[NDArray, "D n"]:
    """Co-bps of the mean rate of random models, without repetition, against their number.

    Every draw is a random order, whose first n models are a random set of n.

    Returns:
      A row a draw, a column a size from 1 to ``most``, or to all there are.
    """
    rng = np.random.default_rng(seed)
    M = len(votes.rates)
    orders = [rng.permutation(M) for _ in range(draws)]
    return np.stack([votes.along([int(m) for m in order], most) for order in orders])
