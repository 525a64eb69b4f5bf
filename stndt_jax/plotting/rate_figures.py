"""Figures of inferred rates: models to pictures, each with a sentence on how to read it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from stndt_jax.data.trials import SpikeData, Trials, evenly_spaced
from stndt_jax.evaluation import baselines, inference, scoring
from stndt_jax.plotting import rates, style
from stndt_jax.training.restore import TrainedModel
from stndt_jax.types import NDArray

SMOOTHING_MS = 50.0
# Trials that a decoder is fitted to, for the picture: more change it little and take long.
_DECODED = 300

Drawn = tuple[str, str, str, Figure]
"""A figure's name, title, sentence and picture."""


def of_rates(models: list[TrainedModel]) -> Iterator[Drawn]:
    """Figures of the inferred rates of the evaluated trials."""
    data = models[0].trained.data
    trials, T, n = data.eval, data.bins_observed, data.heldin
    inferred_RTN = inference.mean_rates(models, trials)
    counts_RTN = _counts(data, trials)
    observed = {"spikes": counts_RTN[:, :T], "inferred": inferred_RTN[:, :T]}
    smoothed_RTN = _smoothed(data, trials)
    shown, neurons = _shown(data, trials), _neurons(data, inferred_RTN)
    true_note = ", black its true rate" if trials.rates is not None else ""
    yield (
        "single_trials",
        "Single trials",
        "Spikes of one neuron in one trial (ticks) and its rate: orange is inferred, blue its own "
        f"spikes smoothed{true_note}. Held-out neurons are inferred from other neurons alone; "
        "forward bins are shaded.",
        style.single_trials(
            counts_RTN,
            inferred_RTN,
            bin_ms=data.bin_ms,
            trials=shown[:4],
            neurons=neurons[:3],
            true_RTN=trials.rates,
            smoothed_RTN=smoothed_RTN,
            bins_observed=T,
        ),
    )
    yield (
        "populations",
        "All neurons in single trials",
        "Above, the spikes of all neurons of a trial (orange: held-out ones); below, their "
        "inferred rates"
        + (", and the true ones" if true_note else "")
        + ". Rates that follow the spikes "
        "of their own trial, and not only of the mean trial, differ between columns.",
        rates.populations(
            counts_RTN,
            inferred_RTN,
            bin_ms=data.bin_ms,
            trials=shown[:4],
            true_RTN=trials.rates,
            bins_observed=T,
            heldin=n,
        ),
    )
    yield from _of_conditions(data, trials, inferred_RTN, neurons)
    yield from _of_behavior(models, inferred_RTN, shown)
    yield (
        "latents",
        "Latent paths",
        "The inferred population activity in its first principal components: thick lines are means "
        "of conditions, thin lines single trials. Paths of alike trials that run together, and "
        "apart from the others, are a code of few dimensions.",
        rates.latents(
            rates.components(np.where(_seen(data, trials), observed["inferred"], np.nan),
                                   data.bin_ms),
            trials.conditions,
            bin_ms=data.bin_ms,
        ),
    )  # fmt: skip
    matrices = {
        "spikes": rates.correlation(observed["spikes"]),
        f"smoothed, {SMOOTHING_MS:g} ms": rates.correlation(smoothed_RTN[:, :T]),
        "inferred": rates.correlation(observed["inferred"]),
    }
    if trials.rates is not None:
        matrices["true rates"] = rates.correlation(trials.rates[:, :T])
    yield (
        "correlations",
        "Correlations among neurons",
        "How alike every two neurons fire, from blue (opposite) to red (alike), all panels in one "
        "order: structure that noise hides in the spikes shows in the inferred rates"
        + (", and is right where it is like that of the true rates." if true_note else "."),
        rates.correlations(matrices, order_by="inferred", compare_with="true rates"),
    )
    yield (
        "calibration",
        "Calibration",
        "Mean observed against mean predicted rate in ten groups of bins, from the lowest to the "
        "highest prediction, with 95% intervals of Poisson counts: on the dashed line, predictions "
        "are right on average.",
        rates.calibration(_calibrations(data, trials, inferred_RTN), bin_ms=data.bin_ms),
    )


def _of_conditions(
    data: SpikeData, trials: Trials, inferred_RTN: NDArray, neurons: list[int]
) -> Iterator[Drawn]:
    if trials.conditions is None or not np.any(trials.conditions >= 0):
        return
    T = data.bins_observed
    number = int(trials.conditions.max()) + 1
    if trials.rates is not None:
        means_CTN, label = (
            style.condition_means(trials.rates[:, :T], trials.conditions, number), "true rates"
        )  # fmt: skip
    elif data.psth is not None:
        means_CTN, label = data.psth, "recorded"
    else:
        return
    yield (
        "psths",
        "Means of conditions",
        f"Mean rate of a neuron in every condition (a colour each): above, {label}; below, "
        "inferred from single trials, whose condition no model is told. Both should look alike.",
        style.psths(
            means_CTN,
            inferred_RTN[:, :T],
            trials.conditions,
            bin_ms=data.bin_ms,
            neurons=neurons[:4],
            true_label=label,
        ),
    )


def _of_behavior(
    models: list[TrainedModel], inferred_RTN: NDArray, shown: list[int]
) -> Iterator[Drawn]:
    data = models[0].trained.data
    train, trials, T = data.train, data.eval, data.bins_observed
    if train.behavior is None or trials.behavior is None or train.behavior.ndim != 3:
        return
    if train.behavior.shape[2] < 2:
        return
    fitted = train.subset(evenly_spaced(len(train), _DECODED))
    assert fitted.behavior is not None
    rates_RTN = inference.mean_rates(models, fitted)[:, :T]
    decoded_RTD = scoring.decode(rates_RTN, fitted.behavior, inferred_RTN[:, :T])
    yield (
        "velocity",
        "Decoded behaviour",
        "Hand velocity (black) and what a linear decoder reads from the inferred rates (orange) "
        "in single trials; right, the paths that both lead along, coloured by condition.",
        style.velocity(
            trials.behavior[..., :2],
            decoded_RTD[..., :2],
            trials.conditions,
            bin_ms=data.bin_ms,
            trials=shown[:4],
        ),
    )


def _counts(data: SpikeData, trials: Trials) -> NDArray:
    """Spike counts, NaN where they are not known."""
    counts_RTN = trials.counts(data.bins_forward, data.heldout).astype(np.float32)
    return np.where(trials.has_count(data.bins_forward, data.heldout), counts_RTN, np.nan)


def _smoothed(data: SpikeData, trials: Trials) -> NDArray:
    """A neuron's own spikes under a Gaussian kernel; NaN where it has none that are known."""
    counts_RTN = trials.counts(data.bins_forward, data.heldout)
    known_RTN = trials.has_count(data.bins_forward, data.heldout)
    rates_RTN = baselines.smooth(counts_RTN, SMOOTHING_MS / data.bin_ms, known_RTN)
    return np.where(known_RTN, rates_RTN, np.nan)


def _seen(data: SpikeData, trials: Trials) -> NDArray:
    """(R, T_obs, 1): bins in which some held-in neuron was recorded."""
    known_RTN = trials.has_count(data.bins_forward, data.heldout)
    return np.any(known_RTN[:, : data.bins_observed, : data.heldin], axis=-1)[..., None]


def _shown(data: SpikeData, trials: Trials) -> list[int]:
    """A trial of every condition, or the first trials: those with most recorded bins."""
    if trials.conditions is None or not np.any(trials.conditions >= 0):
        return list(range(min(4, len(trials))))
    groups = np.unique(trials.conditions[trials.conditions >= 0])
    firsts = [int(np.flatnonzero(trials.conditions == c)[0]) for c in groups]
    rest = [r for r in range(len(trials)) if r not in firsts]
    # Four that are far from each other in the order of the conditions.
    spread = evenly_spaced(len(firsts), 4)
    return ([firsts[i] for i in spread] + rest)[:4]


def _neurons(data: SpikeData, rates_RTN: NDArray) -> list[int]:
    """Held-out neurons (held-in, if there are none) whose rates vary most against noise."""
    first = data.heldin if data.heldout else 0
    observed_RTN = rates_RTN[:, : data.bins_observed, first:]
    # The variance of a rate over that of Poisson counts: where single trials can be judged.
    fano_N = observed_RTN.var(axis=(0, 1)) / np.maximum(observed_RTN.mean(axis=(0, 1)), 1e-9)
    return [int(first + i) for i in np.argsort(-fano_N, kind="stable")[:4]]


def _calibrations(
    data: SpikeData, trials: Trials, rates_RTN: NDArray
) -> dict[str, rates.Calibration]:
    """Of held-in and of held-out neurons in observed bins, where some count is known."""
    T, n = data.bins_observed, data.heldin
    counts_RTN = trials.counts(data.bins_forward, data.heldout)
    known_RTN = trials.has_count(data.bins_forward, data.heldout)
    found = {}
    for name, place in (("held-in", np.s_[:, :T, :n]), ("held-out", np.s_[:, :T, n:])):
        if known_RTN[place].any():
            found[name] = rates.calibration_of(
                rates_RTN[place], counts_RTN[place], known_RTN[place]
            )
    return found
