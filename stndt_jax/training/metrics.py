"""Scores as mergeable sums: add them over batches, then ask for the value."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from stndt_jax.types import Array, Bool, Float


class BitsPerSpike(NamedTuple):
    """Sums over trials and bins, one entry a neuron; ``a + b`` through ``merge``.

    ``(NLL_null - NLL_model) / sum(counts) / ln 2`` with the Poisson NLL and, as the null
    model, each neuron's mean count over all trials and bins that were added. Source: Pei et
    al., NeurIPS 2021.
    """

    nll: Array
    spikes: Array
    entries: Array

    @classmethod
    def of(
        cls,
        rates: Float[Array, "B T n"],
        counts: Float[Array, "B T n"],
        has_count: Bool[Array, "B T n"],
    ) -> BitsPerSpike:
        """Sums of one batch; rates and counts per bin, entries not ``valid`` left out."""
        floor = jnp.where(rates == 0, 1e-9, rates)
        nll = jnp.where(has_count, floor - counts * jnp.log(floor), 0.0)
        # Bins first, trials second: shorter running sums lose fewer float32 digits.
        return cls(
            jnp.sum(jnp.sum(nll, axis=1), axis=0),
            jnp.sum(jnp.sum(jnp.where(has_count, counts, 0.0), axis=1), axis=0),
            jnp.sum(has_count, axis=(0, 1), dtype=jnp.float32),
        )

    def merge(self, other: BitsPerSpike) -> BitsPerSpike:
        """Sums of both."""
        return BitsPerSpike(*(a + b for a, b in zip(self, other, strict=True)))

    def value(self) -> Array:
        """Bits per spike; NaN where there is no spike at all."""
        mean = self.spikes / jnp.maximum(self.entries, 1.0)
        null = self.spikes - self.spikes * jnp.log(jnp.where(mean > 0, mean, 1.0))
        spikes = jnp.sum(self.spikes)
        bits = jnp.sum(null - self.nll) / jnp.log(2.0)
        return jnp.where(spikes > 0, bits / jnp.maximum(spikes, 1.0), jnp.nan)
