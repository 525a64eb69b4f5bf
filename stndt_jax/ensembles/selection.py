"""Which models to average: sets of models and their sizes, by the co-bps of the mean rate.

The Poisson loss of a mean rate needs little of the rates: their sum, which is linear in the models,
and the rates where a neuron spiked. These are a few hundredths of all rates, so that those of
hundreds of models fit into memory and thousands of sets can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.types import Bool, Float, Int, NDArray, Shaped

# nlb_tools scores a rate of 0 as this.
_FLOOR = 1e-9
# A smaller gain is rounding, bits per spike.
_GAIN = 1e-9
_CHUNK = 16


class Spikes(NamedTuple):
    """The counts that rates are scored against.

    Attributes:
      has_count: which entries are scored.
      places: flat indices of the S entries with spikes.
      counts: the number of spikes there.
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
        """Of counts, and where they are available."""
        has_count_RTN = np.ascontiguousarray(has_count_RTN)
        x_RTN = np.where(has_count_RTN, counts_RTN, 0)
        spikes_N = x_RTN.sum(axis=(0, 1), dtype=np.float64)
        mean_N = spikes_N / np.maximum(has_count_RTN.sum(axis=(0, 1)), 1)
        null = np.sum(spikes_N - spikes_N * np.log(np.where(mean_N > 0, mean_N, 1.0)))
        places = np.flatnonzero(x_RTN)
        return cls(has_count_RTN, places, x_RTN.ravel()[places].astype(np.float64), float(null))

    def of_rates(self, rates_RTN: Float[NDArray, "R T N"]) -> RatesAtSpikes:
        """What co-bps needs of a model's rates."""
        total = float(rates_RTN.sum(where=self.has_count, dtype=np.float64))
        return RatesAtSpikes(rates_RTN.ravel()[self.places].astype(np.float32), total)

    def cobps(
        self, at_MS: Float[NDArray, "M S"], totals_M: Float[NDArray, " M"]
    ) -> Float[NDArray, " M"]:
        """Bits per spike of M models or means of models, from rates at spikes and sums of rates."""
        nll_M = totals_M - np.log(np.where(at_MS == 0, _FLOOR, at_MS)) @ self.counts
        return (self.null - nll_M) / np.log(2.0) / self.counts.sum()


class RatesAtSpikes(NamedTuple):
    """A model's rates where there are spikes, and the sum of all its rates."""

    at: Float[NDArray, " S"]
    total: float


class Pool(NamedTuple):
    """The rates of M models, scored against the same counts."""

    spikes: Spikes
    rates: Float[NDArray, "M S"]
    totals: Float[NDArray, " M"]

    @classmethod
    def of(cls, spikes: Spikes, models: Sequence[RatesAtSpikes]) -> Pool:
        """Of one model or more."""
        rates_MS = np.stack([model.at for model in models])
        return cls(spikes, rates_MS, np.array([model.total for model in models]))

    def each(self) -> Float[NDArray, " M"]:
        """Co-bps of every model by itself."""
        return self._in_chunks(np.zeros(self.rates.shape[1]), 0.0, 0)

    def mean(self, members: Sequence[int], weights: Sequence[float] | None = None) -> float:
        """Co-bps of the mean rate of some models, by weights, or as often as each is listed."""
        rows = np.asarray(members)
        w_m = np.full(len(rows), 1 / len(rows)) if weights is None else np.asarray(weights)
        at_S = sum(w * self.rates[m].astype(np.float64) for w, m in zip(w_m, rows, strict=True))
        return float(self.spikes.cobps(np.asarray(at_S)[None], (w_m @ self.totals[rows])[None])[0])

    def with_each(self, members: Sequence[int]) -> Float[NDArray, " M"]:
        """Co-bps of the mean rate of some models and one more, for each of the M that it may be."""
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


def ranked(pool: Pool) -> list[int]:
    """The models, best by co-bps first."""
    return [int(m) for m in np.argsort(-pool.each(), kind="stable")]


def top(pool: Pool, most: int) -> tuple[list[int], Float[NDArray, " n"]]:
    """The best n models, with the n from 1 to ``most`` whose mean rate is best.

    Returns:
      The models, best first, and the co-bps of every size.
    """
    order = ranked(pool)
    curve = pool.along(order, most)
    return order[: int(np.argmax(curve)) + 1], curve


def greedy(pool: Pool, most: int) -> tuple[list[int], Float[NDArray, " n"]]:
    """Models added one by one, each time the one that raises the co-bps of the mean rate most.

    A model may be added again, which gives it more weight. This is done twice, starting from the
    best model and from the best n of :func:`top`, and the better result is kept: it is never below
    that of :func:`top`.

    Returns:
      At most ``most`` models, repeated as often as they were added, and the co-bps after each.
    """
    best_n, curve = top(pool, most)
    ends = [
        _added(pool, list(start), list(path), most)
        for start, path in ((best_n[:1], curve[:1]), (best_n, curve[: len(best_n)]))
    ]
    return max(ends, key=lambda end: end[1][-1])


def _added(
    pool: Pool, chosen: list[int], path: list[float], most: int
) -> tuple[list[int], Float[NDArray, " n"]]:
    while len(chosen) < most:
        scores = pool.with_each(chosen)
        best = int(np.argmax(scores))
        if not scores[best] > path[-1] + _GAIN:
            break
        chosen.append(best)
        path.append(float(scores[best]))
    return chosen, np.array(path)


def weights(chosen: Sequence[int]) -> dict[int, float]:
    """Each model's weight in the mean rate, in the order in which the models were selected."""
    return {m: chosen.count(m) / len(chosen) for m in dict.fromkeys(chosen)}


def random_sets(pool: Pool, most: int, samples: int, seed: int) -> Float[NDArray, "D n"]:
    """Co-bps of the mean rate of random models, without repetition, by their number.

    Every sample is a random order of the models, whose first n are a random set of n.

    Returns:
      One row per sample, one column per size from 1 to ``most``, or to the number of models.
    """
    rng = np.random.default_rng(seed)
    M = len(pool.rates)
    orders = [rng.permutation(M) for _ in range(samples)]
    return np.stack([pool.along([int(m) for m in order], most) for order in orders])
