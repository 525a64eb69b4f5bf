"""Figures of inferred rates, with captions: from trained models to drawings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.data.trials import SpikeData, Trials, evenly_spaced
from stndt_jax.evaluation import baselines, inference, scoring
from stndt_jax.plotting import behavior, calibration, correlations, latents, rates
from stndt_jax.plotting.figures import Drawing
from stndt_jax.training.restore import TrainedModel
from stndt_jax.types import Bool, Float, NDArray

SMOOTHING_MS = 50.0
# Training trials that the decoder of behaviour is fitted to: more change it little and take long.
_DECODED = 300


class _Inferred(NamedTuple):
    """Rates of the evaluated trials, and which trials and neurons to show.

    Attributes:
        models: the models.
        data: the recording.
        rates: mean rate of the models, counts per bin.
        has_count: where counts are known.
        counts: spike counts, NaN where unknown.
        smoothed: every neuron's own spikes, smoothed by a Gaussian; NaN where unknown.
        trials: indices of four trials, of different conditions if these are known.
        neurons: indices of four neurons whose single trials differ most.
    """

    models: Sequence[TrainedModel]
    data: SpikeData
    rates: Float[NDArray, "R T N"]
    has_count: Bool[NDArray, "R T N"]
    counts: Float[NDArray, "R T N"]
    smoothed: Float[NDArray, "R T N"]
    trials: list[int]
    neurons: list[int]

    @property
    def true(self) -> Float[NDArray, "R T N"] | None:
        """True rates of simulated spikes."""
        return self.data.eval.rates


def of_rates(models: Sequence[TrainedModel]) -> Iterator[Drawing]:
    """Figures of the inferred rates of the evaluated trials."""
    inferred = _infer(models)
    draws = (_single_trials, _populations, _psths, _velocity, _latents, _correlations, _calibration)
    for draw in draws:
        if (drawing := draw(inferred)) is not None:
            yield drawing


def _infer(models: Sequence[TrainedModel]) -> _Inferred:
    data = models[0].trained.data
    counts_RTN = data.eval.counts(data.bins_forward, data.heldout)
    has_count_RTN = data.eval.has_count(data.bins_forward, data.heldout)
    smoothed_RTN = baselines.smooth(counts_RTN, SMOOTHING_MS / data.bin_ms, has_count_RTN)
    rates_RTN = inference.mean_rates(models, data.eval)
    return _Inferred(
        models=models,
        data=data,
        rates=rates_RTN,
        has_count=has_count_RTN,
        counts=np.where(has_count_RTN, counts_RTN.astype(np.float32), np.nan),
        smoothed=np.where(has_count_RTN, smoothed_RTN, np.nan),
        trials=_shown_trials(data.eval),
        neurons=_shown_neurons(data, rates_RTN),
    )


def _shown_trials(trials: Trials) -> list[int]:
    """Four trials: of conditions evenly spaced in their order, else the first ones."""
    if trials.conditions is None or not np.any(trials.conditions >= 0):
        return list(range(min(4, len(trials))))
    conditions = np.unique(trials.conditions[trials.conditions >= 0])
    firsts = [int(np.flatnonzero(trials.conditions == c)[0]) for c in conditions]
    rest = [r for r in range(len(trials)) if r not in firsts]
    spread = evenly_spaced(len(firsts), 4)
    return ([firsts[i] for i in spread] + rest)[:4]


def _shown_neurons(data: SpikeData, rates_RTN: NDArray) -> list[int]:
    """Four held-out neurons (held-in, if there are none) whose rates vary most against noise."""
    first = data.heldin if data.heldout else 0
    observed_RTN = rates_RTN[:, : data.bins_observed, first:]
    # Variance of the rate over that of Poisson counts: where it is large, single trials can be
    # compared with their spikes.
    ratio_N = observed_RTN.var(axis=(0, 1)) / np.maximum(observed_RTN.mean(axis=(0, 1)), 1e-9)
    return [int(first + i) for i in np.argsort(-ratio_N, kind="stable")[:4]]


def _single_trials(inferred: _Inferred) -> Drawing:
    true = "" if inferred.true is None else "; black is its true rate"
    return Drawing(
        "single_trials",
        "Single trials",
        "Spikes of one neuron in one trial (ticks) and its rate: orange is inferred, blue its own "
        f"spikes smoothed{true}. Held-out neurons are inferred from other neurons alone. Forward "
        "bins, which the model does not see, are shaded.",
        rates.single_trials(
            inferred.counts,
            inferred.rates,
            bin_ms=inferred.data.bin_ms,
            trials=inferred.trials,
            neurons=inferred.neurons[:3],
            true_RTN=inferred.true,
            smoothed_RTN=inferred.smoothed,
            bins_observed=inferred.data.bins_observed,
        ),
    )


def _populations(inferred: _Inferred) -> Drawing:
    true = "" if inferred.true is None else ", and their true rates"
    return Drawing(
        "populations",
        "All neurons in single trials",
        "Top: spikes of all neurons in one trial (orange: held-out neurons). Below: their inferred "
        f"rates{true}. Rates that follow the spikes of their own trial, and not only the mean over "
        "trials, differ between columns. The dashed line is the beginning of the forward bins.",
        rates.populations(
            inferred.counts,
            inferred.rates,
            bin_ms=inferred.data.bin_ms,
            trials=inferred.trials,
            true_RTN=inferred.true,
            bins_observed=inferred.data.bins_observed,
            heldin=inferred.data.heldin,
        ),
    )


def _psths(inferred: _Inferred) -> Drawing | None:
    data, conditions = inferred.data, inferred.data.eval.conditions
    if conditions is None or not np.any(conditions >= 0):
        return None
    T = data.bins_observed
    if inferred.true is not None:
        label, true_RTN = "true rates", inferred.true[:, :T]
        means_CTN = rates.condition_means(true_RTN, conditions, int(conditions.max()) + 1)
    elif data.psth is not None:
        label, means_CTN = "recorded", data.psth
    else:
        return None
    return Drawing(
        "psths",
        "Condition averages",
        f"Mean rate of a neuron in every condition (one colour each). Top: {label}; bottom: "
        "inferred from single trials, whose condition the model does not know. Both should look "
        "alike.",
        rates.psths(
            means_CTN,
            inferred.rates[:, :T],
            conditions,
            bin_ms=data.bin_ms,
            neurons=inferred.neurons,
            true_label=label,
        ),
    )


def _velocity(inferred: _Inferred) -> Drawing | None:
    data, T = inferred.data, inferred.data.bins_observed
    train, trials = data.train, data.eval
    if train.behavior is None or trials.behavior is None or train.behavior.ndim != 3:
        return None
    if train.behavior.shape[2] < 2:
        return None
    fitted = train.subset(evenly_spaced(len(train), _DECODED))
    assert fitted.behavior is not None
    fitted_RTN = inference.mean_rates(inferred.models, fitted)[:, :T]
    decoded_RTD = scoring.decode(fitted_RTN, fitted.behavior, inferred.rates[:, :T])
    return Drawing(
        "velocity",
        "Decoded behaviour",
        "Left: hand velocity (black) and what a linear decoder predicts from the inferred rates "
        "(orange) in single trials. Right: the hand paths of all trials, from these velocities, "
        "coloured by condition.",
        behavior.velocity(
            trials.behavior[..., :2],
            decoded_RTD[..., :2],
            trials.conditions,
            bin_ms=data.bin_ms,
            trials=inferred.trials,
        ),
    )


def _latents(inferred: _Inferred) -> Drawing:
    data, T = inferred.data, inferred.data.bins_observed
    recorded_RT = np.any(inferred.has_count[:, :T, : data.heldin], axis=-1)
    rates_RTN = np.where(recorded_RT[..., None], inferred.rates[:, :T], np.nan)
    return Drawing(
        "latents",
        "Latent trajectories",
        "The inferred population activity in its first principal components: thick lines are "
        "condition means, thin lines single trials. If trials of one condition stay together and "
        "apart from the others, few dimensions tell the conditions apart.",
        latents.latents(
            latents.components(rates_RTN, data.bin_ms), data.eval.conditions, bin_ms=data.bin_ms
        ),
    )


def _correlations(inferred: _Inferred) -> Drawing:
    T, true_RTN = inferred.data.bins_observed, inferred.true
    shown = {
        "spikes": inferred.counts,
        f"smoothed spikes, {SMOOTHING_MS:g} ms": inferred.smoothed,
        "inferred rates": inferred.rates,
    }
    shown |= {} if true_RTN is None else {"true rates": true_RTN}
    true = "" if true_RTN is None else " It is right where it resembles that of the true rates."
    return Drawing(
        "correlations",
        "Correlations among neurons",
        "Correlation of every two neurons, from blue (negative) to red (positive), with one order "
        "of the neurons in all panels. Noise hides structure in the spikes that is visible in the "
        f"inferred rates.{true}",
        correlations.correlations(
            {name: correlations.correlation(x_RTN[:, :T]) for name, x_RTN in shown.items()},
            order_by="inferred rates",
            compare_with="true rates",
        ),
    )


def _calibration(inferred: _Inferred) -> Drawing:
    T, n = inferred.data.bins_observed, inferred.data.heldin
    found = {}
    for name, block in (("held-in", np.s_[:, :T, :n]), ("held-out", np.s_[:, :T, n:])):
        has_count = inferred.has_count[block]
        if has_count.any():
            found[name] = calibration.calibration_of(
                inferred.rates[block], inferred.counts[block], has_count
            )
    return Drawing(
        "calibration",
        "Calibration",
        "Mean observed against mean predicted rate in ten groups of bins, from the lowest to the "
        "highest prediction, with 95% intervals for Poisson counts. On the dashed line, "
        "predictions are right on average.",
        calibration.calibration(found, bin_ms=inferred.data.bin_ms),
    )
