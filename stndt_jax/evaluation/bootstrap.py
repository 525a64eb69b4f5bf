"""Confidence intervals: of scores by bootstrap over trials, and of means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from stndt_jax.runs.score_names import INTERVAL
from stndt_jax.types import Float, NDArray, Shaped

SAMPLES = 1000
# nlb_tools scores a rate of 0 as this.
_FLOOR = 1e-9


def bits_per_spike(
    rates_RTN: Float[NDArray, "R T N"],
    counts_RTN: Shaped[NDArray, "R T N"],
    *,
    samples: int = SAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> list[float]:
    """Interval of bits per spike: percentiles over samples of R trials with replacement.

    The null model, each neuron's mean count, is that of all trials. Fitted to each sample again, it
    would gain from every trial that is sampled twice, and the interval would be too low.

    Args:
      rates_RTN: expected counts per bin.
      counts_RTN: counts; NaN where there is none.
      samples: how many.
      level: confidence level.
      seed: of the samples.

    Returns:
      Lower and upper bound.
    """
    known_RTN = np.isfinite(counts_RTN) & np.isfinite(rates_RTN)
    x_RTN = np.where(known_RTN, counts_RTN, 0).astype(np.float64)
    floor_RTN = np.where(rates_RTN == 0, _FLOOR, rates_RTN).astype(np.float64)
    nll_RTN = np.where(known_RTN, floor_RTN - x_RTN * np.log(floor_RTN), 0.0)
    mean_N = x_RTN.sum(axis=(0, 1)) / np.maximum(known_RTN.sum(axis=(0, 1)), 1)
    null_RTN = mean_N - x_RTN * np.log(np.where(mean_N > 0, mean_N, 1.0))
    # A sample of trials needs the sums over each trial only.
    gain_R = np.where(known_RTN, null_RTN - nll_RTN, 0.0).sum(axis=(1, 2))
    spikes_R = x_RTN.sum(axis=(1, 2))
    rng, R = np.random.default_rng(seed), len(x_RTN)
    times_DR = np.stack([np.bincount(rng.integers(0, R, R), minlength=R) for _ in range(samples)])
    total_D = times_DR @ spikes_R
    bits_D = times_DR @ gain_R / np.log(2.0) / np.maximum(total_D, 1)
    return _percentiles(bits_D[total_D > 0], level)


def of_scores(
    rates: Mapping[str, NDArray], targets: Mapping[str, NDArray], *, seed: int = 0
) -> dict[str, list[float]]:
    """95% intervals of the scores in bits per spike, as ``"co_bps_interval": [low, high]``.

    Args:
      rates: a submission, as ``scoring.score`` takes it.
      targets: the targets of the evaluated trials.
      seed: of the samples of trials.
    """
    blocks = {
        "co_bps": ("heldout",),
        "fp_bps": ("heldin_forward", "heldout_forward"),
    }
    found = {}
    for name, parts in blocks.items():
        if all(f"eval_rates_{p}" in rates and f"eval_spikes_{p}" in targets for p in parts):
            predicted_RTN = np.concatenate([rates[f"eval_rates_{p}"] for p in parts], axis=-1)
            counts = [np.asarray(targets[f"eval_spikes_{p}"], np.float64) for p in parts]
            counts_RTN = np.concatenate(counts, axis=-1)
            if np.nansum(counts_RTN) > 0:
                found[name + INTERVAL] = bits_per_spike(predicted_RTN, counts_RTN, seed=seed)
    return found


def of_mean(values: Float[NDArray, " n"], *, level: float = 0.95, seed: int = 0) -> dict[str, list]:
    """Intervals of the mean of independent values: Student's t, and bootstrap over the values.

    Empty for a single value.
    """
    n = len(values)
    if n < 2:
        return {}
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / n**0.5
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    samples_Dn = np.random.default_rng(seed).choice(values, (SAMPLES, n))
    return {
        "t_interval": [mean - reach, mean + reach],
        "bootstrap_interval": _percentiles(samples_Dn.mean(axis=1), level),
    }


def _percentiles(values: Float[NDArray, " D"], level: float) -> list[float]:
    ends = (50 * (1 - level), 50 * (1 + level))
    return [float(v) for v in np.percentile(values, ends)]
