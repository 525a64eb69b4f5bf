"""Rates without a network, which a model should exceed.

`smoothing` is the benchmark's smoothing baseline: spikes of held-in neurons, convolved with a
Gaussian kernel, and a Poisson regression from them to every held-out neuron. `psth` predicts for
every trial the mean of its condition, which models do not know.

Source: F. Pei et al., Neural Latents Benchmark '21, NeurIPS 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import xlogy
from sklearn.linear_model import PoissonRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn needs it

from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import BLOCKS, SpikeData, Trials, block_slices
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, NDArray, Shaped

SDS_MS = (30.0, 50.0, 80.0)
"""Standard deviations that `choose_kernel` tries by default, ms."""

SHOWN_SD_MS = 50.0
"""Standard deviation of smoothed spikes in figures and reports, ms."""

_FOLDS = 3
# Bounds the time of the choice in recordings of thousands of trials.
_TRIALS_TO_CHOOSE = 128


class Regression(NamedTuple):
    """Log-rates of M neurons, linear in N features, and the rates they are clipped to."""

    weight: NDArray  # (N, M)
    bias: NDArray  # (M,)
    highest: NDArray  # (M,)

    def rates(self, x_RTN: NDArray) -> NDArray:
        return np.exp(np.minimum(x_RTN @ self.weight + self.bias, np.log(self.highest)))


def smooth(
    counts_RTN: Shaped[NDArray, "R T N"],
    sd_bins: float,
    has_count_RTN: Bool[NDArray, "R T N"] | None = None,
) -> Float[NDArray, "R T N"]:
    """Smooths spike counts in time with a Gaussian kernel, cut at four standard deviations.

    Every bin becomes the mean of the counts near it, weighted by the kernel. Bins outside the trial
    and bins without a count have no weight, so that rates do not fall towards the ends of a trial.
    A bin without any count near it gets its neuron's mean.

    Args:
        counts_RTN: spike counts.
        sd_bins: standard deviation of the kernel, bins.
        has_count_RTN: where there is a count; None for everywhere.

    Returns:
        Expected counts per bin, 0 or more.
    """
    weight_RTN = np.ones(counts_RTN.shape) if has_count_RTN is None else has_count_RTN.astype(float)
    total_RTN = counts_RTN * weight_RTN
    mean_N = total_RTN.sum(axis=(0, 1)) / np.maximum(weight_RTN.sum(axis=(0, 1)), 1)
    near_RTN, reach_RTN = (
        gaussian_filter1d(x, sd_bins, axis=1, mode="constant", truncate=4.0)
        for x in (total_RTN, weight_RTN)
    )
    nothing = reach_RTN == 0
    return np.where(nothing, mean_N, near_RTN / np.where(nothing, 1.0, reach_RTN))


def choose_kernel(
    data: SpikeData,
    sds_ms: tuple[float, ...] = SDS_MS,
    *,
    alphas: tuple[float, ...] = (0.1,),
    offset: float = 0.01,
) -> tuple[float, float]:
    """Chooses kernel and penalty by three-fold cross-validation over training trials.

    The criterion is the Poisson loss of the held-out neurons in the trials left out. Of more than
    128 training trials, 128 evenly spaced ones are used.

    Args:
        data: the recording; only its training trials are used.
        sds_ms: standard deviations to try, ms.
        alphas: penalties to try, as in `smoothing`.
        offset: as in `smoothing`.

    Returns:
        Standard deviation (ms) and penalty.

    Raises:
        UserError: fewer than two training trials, or no held-out neuron.
    """
    trials = len(data.train)
    if trials < 2 or data.heldout == 0:
        raise UserError(
            f"{data.name} has {counted(trials, 'training trial')} and "
            f"{counted(data.heldout, 'held-out neuron')}, too "
            "few to choose a kernel; give sd_ms and alpha"
        )
    chosen = np.unique(np.linspace(0, trials - 1, min(trials, _TRIALS_TO_CHOOSE)).astype(int))
    fold_R = np.arange(len(chosen)) % min(_FOLDS, len(chosen))
    y_RTM, has_count_RTM = _heldout(data, chosen)
    losses = {}
    for sd_ms in progress.each(sds_ms, "kernels"):
        x_RTN = _features(data.train, sd_ms / data.bin_ms, offset)[chosen]
        for alpha in alphas:
            loss = 0.0
            for fold in np.unique(fold_R):
                fit, left = fold_R != fold, fold_R == fold
                model = regress(x_RTN[fit], y_RTM[fit], has_count_RTM[fit], alpha)
                rate_RTM = model.rates(x_RTN[left])
                loss += np.sum((rate_RTM - xlogy(y_RTM[left], rate_RTM))[has_count_RTM[left]])
            losses[sd_ms, alpha] = loss
    return min(losses, key=lambda pair: losses[pair])


def smoothing(
    data: SpikeData,
    *,
    sd_ms: float | None = None,
    alpha: float | None = 0.1,
    offset: float = 0.01,
) -> dict[str, NDArray]:
    """Rates from smoothed spikes, as a submission.

    Held-in rates are the smoothed counts, at least a tenth of the neuron's mean count over training
    trials. Held-out rates are Poisson regressions, fitted to training trials, on the logarithm of
    the smoothed counts plus `offset` of all held-in neurons, at most the neuron's largest count.
    Forward bins repeat the rate of the last observed bin, which is worse than each neuron's mean
    (fp-bps below 0) if rates change fast. The default `offset` and `alpha` suit motor cortex in
    5 ms bins, where `offset` is about a third of the mean count.

    Args:
        data: the recording.
        sd_ms: standard deviation of the kernel, ms; None chooses among `SDS_MS`.
        alpha: L2 penalty on the regression's weights, in scikit-learn's units (half the mean
            deviance is the loss); None chooses among .01, .03, .1 and .3.
        offset: counts per bin, added before the logarithm.

    Returns:
        The arrays of a submission, (R, bins, neurons), expected counts per bin; the four of forward
        bins only if the recording has forward bins.

    Raises:
        UserError: a negative setting, or too little data to choose what is None.
    """
    for name, value in (("sd_ms", sd_ms), ("alpha", alpha), ("offset", offset)):
        if value is not None and not 0 < value < np.inf:
            raise UserError(f"{name} of the smoothing baseline is {value}; it must be above 0")
    if sd_ms is None or alpha is None:
        sd_ms, alpha = choose_kernel(
            data,
            SDS_MS if sd_ms is None else (sd_ms,),
            alphas=(0.01, 0.03, 0.1, 0.3) if alpha is None else (alpha,),
            offset=offset,
        )
    sd_bins = sd_ms / data.bin_ms
    y_RTM, has_count_RTM = _heldout(data, np.arange(len(data.train)))
    model = regress(_features(data.train, sd_bins, offset), y_RTM, has_count_RTM, alpha)

    heldin_RTN, has_count_RTN = _heldin(data.train)
    least_N = _least(heldin_RTN, has_count_RTN) / 10
    rates = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        x_RTN = _features(trials, sd_bins, offset)
        blocks = {
            "heldin": np.maximum(np.exp(x_RTN) - offset, least_N),
            "heldout": model.rates(x_RTN),
        }
        for block, rates_RTN in blocks.items():
            rates[f"{split}_rates_{block}"] = rates_RTN
            if data.bins_forward:
                held_RTN = np.repeat(rates_RTN[:, -1:], data.bins_forward, axis=1)
                rates[f"{split}_rates_{block}_forward"] = held_RTN
    return rates


def psth(data: SpikeData, *, sd_ms: float = 50.0) -> dict[str, NDArray]:
    """The smoothed mean counts of each trial's condition in the training trials.

    It uses the condition of a trial, which models do not know, and nothing else of it. A model
    below it misses what trials of a condition have in common; a model above it predicts differences
    between them. A trial without a condition gets the mean over all training trials. Rates are at
    least a tenth of the neuron's mean count.

    Args:
        data: the recording.
        sd_ms: standard deviation of the Gaussian kernel over time, ms.

    Returns:
        As `smoothing`; forward bins have their own means.

    Raises:
        UserError: the conditions of the training or the evaluated trials are not known, or
            `sd_ms` is not above 0.
    """
    if not 0 < sd_ms < np.inf:
        raise UserError(f"sd_ms of the psth baseline is {sd_ms}; it must be above 0")
    for split, trials in (("training", data.train), ("evaluated", data.eval)):
        if trials.conditions is None:
            raise UserError(
                f"{data.name} has no conditions of its {split} trials, which the psth baseline "
                f"needs; give a target file with train_cond_idx and eval_cond_idx"
            )
    assert data.train.conditions is not None and data.eval.conditions is not None
    counts_RTN = data.train.counts(data.bins_forward, data.heldout).astype(float)
    has_count_RTN = data.train.has_count(data.bins_forward, data.heldout)
    total_RTN = counts_RTN * has_count_RTN
    least_N = _least(counts_RTN, has_count_RTN) / 10

    def mean(rows: NDArray) -> NDArray:
        # Summed before smoothing, so that every count has the same weight.
        number_TN = has_count_RTN[rows].sum(axis=0)
        mean_TN = total_RTN[rows].sum(axis=0) / np.maximum(number_TN, 1)
        rate_TN = smooth(mean_TN[None], sd_ms / data.bin_ms, number_TN[None] > 0)[0]
        return np.maximum(rate_TN, least_N)

    labels = data.train.conditions
    means = {c: mean(labels == c) for c in np.unique(labels) if c >= 0}
    overall_TN = mean(np.ones(len(labels), bool))
    rates: dict[str, NDArray] = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        assert trials.conditions is not None
        rates_RTN = np.stack([means.get(c, overall_TN) for c in trials.conditions])
        rates |= _blocks(split, rates_RTN, data)
    return rates


def truth(data: SpikeData) -> dict[str, NDArray]:
    """The true rates of simulated spikes, as a submission: the best possible.

    Raises:
        UserError: the true rates are not known.
    """
    rates: dict[str, NDArray] = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        if trials.rates is None:
            raise UserError(
                f"{data.name} has no true rates of its {split} trials: it is no simulation"
            )
        rates |= _blocks(split, trials.rates, data)
    return rates


def _blocks(split: str, rates_RTN: NDArray, data: SpikeData) -> dict[str, NDArray]:
    """Rates of one split under the benchmark's keys."""
    names = [name for name in BLOCKS if data.bins_forward or not name.endswith("_forward")]
    parts = {name: block_slices(name, data.bins_observed, data.heldin) for name in names}
    return {f"{split}_rates_{name}": rates_RTN[part] for name, part in parts.items()}


def _heldin(trials: Trials) -> tuple[NDArray, NDArray]:
    """Observed counts of held-in neurons, and where there is one."""
    counts_RTN = trials.heldin.astype(float)
    if trials.recorded is None:
        return counts_RTN, np.ones(counts_RTN.shape, bool)
    _, bins, neurons = counts_RTN.shape
    return counts_RTN, trials.recorded[:, :bins, :neurons]


def _heldout(data: SpikeData, chosen: NDArray) -> tuple[NDArray, NDArray]:
    """Observed counts of held-out neurons in chosen training trials, and where there is one."""
    heldin, bins = data.heldin, data.bins_observed
    counts_RTN = data.train.counts(data.bins_forward, data.heldout)[chosen, :bins, heldin:]
    has_count_RTN = data.train.has_count(data.bins_forward, data.heldout)[chosen, :bins, heldin:]
    return counts_RTN.astype(float), has_count_RTN


def _features(trials: Trials, sd_bins: float, offset: float) -> NDArray:
    counts_RTN, has_count_RTN = _heldin(trials)
    return np.log(smooth(counts_RTN, sd_bins, has_count_RTN) + offset)


def _least(counts_RTN: NDArray, has_count_RTN: NDArray) -> NDArray:
    """Mean count of every neuron; for one without spikes, as of half a spike in all trials."""
    spikes_N = np.sum(counts_RTN * has_count_RTN, axis=(0, 1))
    return np.maximum(spikes_N, 0.5) / np.maximum(has_count_RTN.sum(axis=(0, 1)), 1)


def regress(x_RTN: NDArray, y_RTM: NDArray, has_count_RTM: NDArray, alpha: float) -> Regression:
    """Poisson regression of every column of y on x, over the samples with a count."""
    x_SN = x_RTN.reshape(-1, x_RTN.shape[-1])
    neurons = y_RTM.shape[-1]
    weight_NM = np.zeros((x_SN.shape[1], neurons))
    # For neurons without spikes, whose regression has no finite solution.
    bias_M = np.log(_least(y_RTM, has_count_RTM))
    # Every step is small: a second thread gains little, and on a busy machine threads that wait for
    # each other take six times as long.
    with threadpool_limits(limits=1):
        for m in progress.each(range(neurons), "regressions"):
            has_count_S, y_S = has_count_RTM[..., m].reshape(-1), y_RTM[..., m].reshape(-1)
            if y_S[has_count_S].any():
                fit = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=200)
                fit.fit(x_SN[has_count_S], y_S[has_count_S])
                weight_NM[:, m], bias_M[m] = fit.coef_, fit.intercept_
    highest_M = np.maximum(np.max(y_RTM * has_count_RTM, axis=(0, 1), initial=0), 1.0)
    return Regression(weight_NM, bias_M, highest_M)
