"""Figures of inferred rates, with captions: from trained models to drawings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from stndt_jax.data import labels
from stndt_jax.data.trials import SpikeData, Trials, evenly_spaced
from stndt_jax.evaluation import baselines, inference, scoring
from stndt_jax.plotting import behavior, calibration, correlations, latents, rates
from stndt_jax.plotting.figures import Drawing
from stndt_jax.training.restore import TrainedModel
from stndt_jax.types import Bool, Float, NDArray

# Training trials that the decoder of behaviour is fitted to: more change it little and take long.
_DECODED = 300


class _Inferred(NamedTuple):
    """Rates of the evaluated trials, and which trials and neurons to show.

    All arrays are NaN outside a trial: before the first and after the last bin that it has.

    Attributes:
        models: the models.
        data: the recording.
        in_trial: bins that a trial has.
        rates: mean rate of the models, counts per bin.
        has_count: where counts are known.
        counts: spike counts, NaN where unknown.
        smoothed: every neuron's own spikes, smoothed by a Gaussian; NaN where unknown.
        true: true rates of simulated spikes; None if they are unknown.
        trials: indices of four trials, of different conditions if these are known.
        neurons: indices of four neurons whose single trials differ most.
    """

    models: Sequence[TrainedModel]
    data: SpikeData
    in_trial: Bool[NDArray, "R T"]
    rates: Float[NDArray, "R T N"]
    has_count: Bool[NDArray, "R T N"]
    counts: Float[NDArray, "R T N"]
    smoothed: Float[NDArray, "R T N"]
    true: Float[NDArray, "R T N"] | None
    trials: list[int]
    neurons: list[int]

    @property
    def titles(self) -> list[str]:
        """Of the trials that are shown."""
        return [labels.trial(self.data, "eval", r).title for r in self.trials]

    def named(self, neurons: Sequence[int]) -> list[str]:
        """Titles of neurons."""
        return [labels.neuron_title(self.data, n) for n in neurons]


def of_rates(models: Sequence[TrainedModel]) -> Iterator[Drawing]:
    """Figures of the inferred rates of the evaluated trials."""
    inferred = _infer(models)
    draws = (_single_trials, _populations, _psths, _behavior, _latents, _correlations, _calibration)
    for draw in draws:
        if (drawing := draw(inferred)) is not None:
            yield drawing


def _infer(models: Sequence[TrainedModel]) -> _Inferred:
    data = models[0].trained.data
    counts_RTN = data.eval.counts(data.bins_forward, data.heldout)
    has_count_RTN = data.eval.has_count(data.bins_forward, data.heldout)
    in_trial_RT = data.eval.in_trial(data.bins)
    sd_bins = baselines.SHOWN_SD_MS / data.bin_ms
    smoothed_RTN = baselines.smooth(counts_RTN, sd_bins, has_count_RTN)
    rates_RTN = inference.mean_rates(models, data.eval)
    rates_RTN = np.where(in_trial_RT[..., None], rates_RTN, np.float32(np.nan))
    true_RTN = data.eval.rates
    if true_RTN is not None:
        true_RTN = np.where(in_trial_RT[..., None], true_RTN, np.nan)
    return _Inferred(
        models=models,
        data=data,
        in_trial=in_trial_RT,
        rates=rates_RTN,
        has_count=has_count_RTN,
        counts=np.where(has_count_RTN, counts_RTN.astype(np.float32), np.nan),
        smoothed=np.where(has_count_RTN, smoothed_RTN, np.nan),
        true=true_RTN,
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
    rows_SN = observed_RTN[np.isfinite(observed_RTN).all(axis=2)]
    # Variance of the rate over that of Poisson counts: where it is large, single trials can be
    # compared with their spikes.
    ratio_N = rows_SN.var(axis=0) / np.maximum(rows_SN.mean(axis=0), 1e-9)
    return [int(first + i) for i in np.argsort(-ratio_N, kind="stable")[:4]]


def _single_trials(inferred: _Inferred) -> Drawing:
    true = "" if inferred.true is None else ", and its true rate"
    neurons = inferred.neurons[:3]
    return Drawing(
        "single_trials",
        "Single trials",
        "Spikes of one neuron in one trial (ticks) and its rate: inferred (orange), its own "
        f"spikes smoothed by a Gaussian of {baselines.SHOWN_SD_MS:g} ms, its standard "
        f"deviation (blue){true}. Held-out neurons are inferred from other neurons alone."
        f"{_forward(inferred, 'shaded')}",
        partial(
            rates.single_trials,
            inferred.counts,
            inferred.rates,
            bin_ms=inferred.data.bin_ms,
            trials=inferred.trials,
            neurons=neurons,
            titles=(inferred.titles, inferred.named(neurons)),
            true_RTN=inferred.true,
            smoothed_RTN=inferred.smoothed,
            bins_observed=inferred.data.bins_observed,
        ),
    )


def _forward(inferred: _Inferred, how: str) -> str:
    """A sentence about forward bins, and one about trials of unequal length, if there are any."""
    text = ""
    if inferred.data.bins_forward:
        text += f" Forward bins, which the model does not see, are {how}."
    if not inferred.in_trial.all():
        text += " Nothing is drawn where a short trial has no bins."
    return text


def _populations(inferred: _Inferred) -> Drawing:
    true = "" if inferred.true is None else ", and their true rates"
    areas = labels.areas(inferred.data)
    order = "by the time of their peak" if areas is None else "by area and the time of their peak"
    return Drawing(
        "populations",
        "All neurons in single trials",
        "Top: spikes of all neurons in one trial (orange: held-out neurons). Below: their inferred "
        f"rates{true}, relative to the highest inferred rate of each neuron in these trials. "
        f"Neurons are ordered {order}. Rates that follow the spikes of their own trial, and not "
        f"only the mean over trials, differ between columns."
        f"{_forward(inferred, 'to the right of the dashed line')}",
        partial(
            rates.populations,
            inferred.counts,
            inferred.rates,
            bin_ms=inferred.data.bin_ms,
            trials=inferred.trials,
            titles=inferred.titles,
            true_RTN=inferred.true,
            bins_observed=inferred.data.bins_observed,
            heldin=inferred.data.heldin,
            areas=areas,
        ),
    )


def _psths(inferred: _Inferred) -> Drawing | None:
    data, conditions = inferred.data, inferred.data.eval.conditions
    if conditions is None or not np.any(conditions >= 0):
        return None
    T, C = data.bins_observed, int(conditions.max()) + 1
    if inferred.true is not None:
        label, true_RTN = "true rates", inferred.true[:, :T]
        means_CTN = rates.condition_means(true_RTN, conditions, C, rates.ENOUGH)
    elif data.psth is not None:
        label, means_CTN = "recorded", data.psth
    else:
        label, spikes_RTN = "smoothed spikes", inferred.smoothed[:, :T]
        means_CTN = rates.condition_means(spikes_RTN, conditions, C, rates.ENOUGH)
    if not np.isfinite(means_CTN[..., inferred.neurons]).any():
        return None
    of = ""
    if label == "smoothed spikes":
        of = f" of the same trials, {baselines.SHOWN_SD_MS:g} ms"
    ends = " A mean ends where fewer than half of the condition's trials go on."
    return Drawing(
        "psths",
        "Condition averages",
        f"Mean rate of a neuron in every condition (one colour each). Top: {label}{of}; bottom: "
        "inferred from single trials, whose condition the model does not know. Both should look "
        f"alike.{'' if inferred.in_trial.all() else ends}",
        partial(
            rates.psths,
            means_CTN,
            inferred.rates[:, :T],
            conditions,
            bin_ms=data.bin_ms,
            neurons=inferred.neurons,
            names=inferred.named(inferred.neurons),
            conditions=[data.condition_name(c) for c in range(len(means_CTN))],
            true_label=label,
        ),
    )


def _behavior(inferred: _Inferred) -> Drawing | None:
    data, T = inferred.data, inferred.data.bins_observed
    train, trials, called = data.train, data.eval, labels.behavior(data)
    if train.behavior is None or trials.behavior is None or train.behavior.ndim != 3:
        return None
    assert called is not None
    fitted = train.subset(evenly_spaced(len(train), _DECODED))
    assert fitted.behavior is not None
    fitted_RTN = inference.mean_rates(inferred.models, fitted)[:, :T]
    # Rates outside a trial are decoded into NaN by `decoded`, but a decoder takes none.
    rates_RTN = np.nan_to_num(inferred.rates[:, :T])
    decoded_RTD = scoring.decode(fitted_RTN, fitted.behavior, rates_RTN)
    names = labels.listed(called.names[: behavior.MOST_DIMENSIONS])
    text = (
        f"Behaviour in single trials, {names}: as recorded (true), and what a linear decoder "
        f"predicts from the inferred rates (orange)."
    )
    if called.is_velocity and len(called.names) > 1:
        colour = "" if trials.conditions is None else ", coloured by condition"
        text += (
            f" Beside them, the paths of all trials, sums of these velocities over time{colour}."
        )
    return Drawing(
        "behavior",
        "Decoded behaviour",
        text,
        partial(
            behavior.decoded,
            trials.behavior,
            decoded_RTD,
            trials.conditions,
            called=called,
            in_trial_RT=inferred.in_trial[:, :T],
            bin_ms=data.bin_ms,
            trials=inferred.trials,
            titles=inferred.titles,
        ),
    )


def _latents(inferred: _Inferred) -> Drawing:
    data, T = inferred.data, inferred.data.bins_observed
    recorded_RT = np.any(inferred.has_count[:, :T, : data.heldin], axis=-1)
    rates_RTN = np.where(recorded_RT[..., None], inferred.rates[:, :T], np.nan)
    conditions = data.eval.conditions
    text = "The inferred population activity in its first principal components, "
    if conditions is None or not np.any(conditions >= 0):
        text += "single trials coloured by time, as no conditions are known; dots: first bin."
    else:
        text += (
            "coloured by condition: thick lines are condition means, over the bins that at least "
            "half of a condition's trials have, thin lines single trials; dots: first bin. If "
            "trials of one condition stay together and apart from the others, few dimensions tell "
            "the conditions apart."
        )
    return Drawing(
        "latents",
        "Latent trajectories",
        text,
        partial(
            latents.latents,
            latents.components(rates_RTN, data.bin_ms),
            conditions,
            bin_ms=data.bin_ms,
        ),
    )


def _correlations(inferred: _Inferred) -> Drawing:
    T, true_RTN = inferred.data.bins_observed, inferred.true
    shown = {
        "spikes": inferred.counts,
        f"smoothed spikes, {baselines.SHOWN_SD_MS:g} ms": inferred.smoothed,
        "inferred rates": inferred.rates,
    }
    shown |= {} if true_RTN is None else {"true rates": true_RTN}
    # Without targets, no bin of the evaluated trials has the spikes of all neurons.
    known = {n: x[:, :T] for n, x in shown.items() if np.isfinite(x[:, :T]).all(axis=2).any()}
    true = "" if true_RTN is None else " It is right where it resembles that of the true rates."
    if "spikes" not in known:
        true += " The spikes of held-out neurons are unknown here, so those panels are missing."
    return Drawing(
        "correlations",
        "Correlations among neurons",
        "Correlation of every two neurons, from blue (negative) to red (positive), with one order "
        "of the neurons in all panels. Noise hides structure in the spikes that is visible in the "
        f"inferred rates.{true}",
        partial(
            correlations.correlations,
            {name: correlations.correlation(x_RTN) for name, x_RTN in known.items()},
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
        partial(calibration.calibration, found, bin_ms=inferred.data.bin_ms),
    )
