"""What trained models attend to: which neurons matter, which lags, and how sure that is.

The importance of a neuron is the attention it receives: the mean over all neurons that attend,
all layers and all trials, of its column of the spatial attention. It adds up to 1 over neurons.
A second opinion comes from input space, by integrated gradients (`gradients.py`).

Source of the measure: T. Le and E. Shlizerman, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate
from stndt_jax.evaluation.evaluate import Select, TrainedModel
from stndt_jax.interpret import attention, integrated_gradients
from stndt_jax.interpret import rankings as measures
from stndt_jax.types import Float, Int, NDArray

Split = Literal["eval", "train"]
NO_SPATIAL = (
    "these models are NDT, without attention over neurons, so that there is no attention-based "
    "importance of neurons; integrated gradients give one"
)


@dataclass(frozen=True, eq=False)
class Interpretation:
    """What a run's or an ensemble's models attend to.

    Arrays over neurons are held-in then held-out, over bins observed then forward. Members are
    in the order of `evaluate.models`; what a member lacks (attention over neurons, a layer) is
    NaN. Fields that need attention over neurons are None if no member has it.

    Attributes:
        name: the recording's.
        bin_ms: bin width, ms.
        bins_observed: T_obs.
        heldin: N_in.
        trials: how many trials were looked at.
        labels: a short name of every member, (K,).
        weights: of every member in the mean, (K,).
        rate_hz: mean rate of every neuron in the training trials, spikes/s.
        units: identifier of every neuron in the recording, where it has one.
        spatial: attention of neurons (rows) to neurons, mean over members, layers and trials.
        spatial_by_layer: mean over trials.
        temporal_by_layer: attention of bins (rows) to bins, mean over trials.
        lags_ms: lag of every column of `by_lag`, ms; above 0, attention to a later bin.
        by_lag: temporal attention by lag, mean over members (by weight) and layers.
        by_lag_and_layer: the same of every member and layer.
        importance: of every neuron, mean over members by their weights.
        importance_by_member: of every member, mean over layers and trials.
        importance_by_layer: of every member and layer, mean over trials.
        importance_by_trial: of every trial, mean over members and layers.
        importance_by_condition: mean over trials; None where conditions are not known.
        conditions: the conditions of the rows of `importance_by_condition`.
        gradient_importance: change of the held-out log-rates that is attributed to a neuron's
            spikes (root mean square over trials, bins and held-out neurons, nats); NaN for held-out
            neurons. None if it was not asked for.
        gradient_by_member: the same of every member.
        summary: all numbers of the printed text, fit for JSON.
    """

    name: str
    bin_ms: float
    bins_observed: int
    heldin: int
    trials: int
    labels: list[str]
    weights: Float[NDArray, " K"]
    rate_hz: Float[NDArray, " N"]
    units: Int[NDArray, " N"] | None
    spatial: Float[NDArray, "N N"] | None
    spatial_by_layer: Float[NDArray, "K L N N"] | None
    temporal_by_layer: Float[NDArray, "K L T T"]
    lags_ms: Float[NDArray, " lags"]
    by_lag: Float[NDArray, " lags"]
    by_lag_and_layer: Float[NDArray, "K L lags"]
    importance: Float[NDArray, " N"] | None
    importance_by_member: Float[NDArray, "K N"] | None
    importance_by_layer: Float[NDArray, "K L N"] | None
    importance_by_trial: Float[NDArray, "R N"] | None
    importance_by_condition: Float[NDArray, "C N"] | None
    conditions: Int[NDArray, " C"] | None
    gradient_importance: Float[NDArray, " N"] | None
    gradient_by_member: Float[NDArray, "K N"] | None
    summary: dict[str, Any]


def interpret(
    path: Path,
    *,
    data_path: str = "",
    split: Split = "eval",
    select: Select = "cobps",
    with_gradients: bool = True,
) -> Interpretation:
    """Interprets the models of a run directory or an ensemble. Writes nothing.

    Args:
        path: what `evaluate.models` takes.
        data_path: the recording, where it has moved.
        split: which trials to look at.
        select: which weights of each member.
        with_gradients: whether to compute integrated gradients, which cost most of the time.

    Raises:
        UserError: as `evaluate.models`.
    """
    models = evaluate.models(path, data_path)
    return of_models(models, split=split, select=select, with_gradients=with_gradients)


def of_models(
    models: Sequence[TrainedModel],
    *,
    split: Split = "eval",
    select: Select = "cobps",
    with_gradients: bool = True,
) -> Interpretation:
    """As `interpret`, of models that are already read."""
    data = models[0].trained.data
    trials = data.eval if split == "eval" else data.train
    weights_K = np.array([model.weight for model in models], float)
    weights_K /= weights_K.sum()
    conditions = _conditions(trials.conditions)
    maps, by_trial_RN = [], np.zeros((len(trials), data.neurons))
    # One member after another: what every trial's neurons receive is only kept as a mean.
    spatial_K = np.array([model.trained.config.model.spatial for model in models])
    share_K = np.where(spatial_K, weights_K, 0.0) / max(weights_K[spatial_K].sum(), 1e-12)
    for model, share in zip(models, share_K, strict=True):
        found = attention.attention(model, trials, select)
        if found.received is not None:
            by_trial_RN += share * found.received.mean(axis=1)
            found = found._replace(received=found.received.mean(axis=0))
        maps.append(found)

    temporal_KLTT = _stacked([found.temporal for found in maps])
    by_lag_KLG = measures.lag_profile(temporal_KLTT)
    some = bool(spatial_K.any())
    # Of NDT, NaN stands in the place of what it lacks.
    empty_N = np.full((1, data.neurons), np.nan)
    by_layer = [empty_N if found.received is None else found.received for found in maps]
    spatial = [
        np.full((1, data.neurons, data.neurons), np.nan) if found.spatial is None else found.spatial
        for found in maps
    ]
    by_member_KN = np.stack([rows.mean(axis=0) for rows in by_layer])
    importance_N = np.einsum("k,kn->n", share_K[spatial_K], by_member_KN[spatial_K])
    shares = [
        integrated_gradients.integrated(model, trials, select=select)
        for model in models
        if with_gradients
    ]
    gradient_KN = np.full((len(models), data.neurons), np.nan)
    for k, found_shares in enumerate(shares):
        gradient_KN[k, : data.heldin] = found_shares.importance
    result = Interpretation(
        name=data.name,
        bin_ms=float(data.bin_ms),
        bins_observed=data.bins_observed,
        heldin=data.heldin,
        trials=len(trials),
        labels=labels(models),
        weights=weights_K,
        rate_hz=mean_rates(data),
        units=data.units,
        spatial=_mean([x.mean(axis=0) for x in spatial], share_K) if some else None,
        spatial_by_layer=_stacked(spatial) if some else None,
        temporal_by_layer=temporal_KLTT,
        lags_ms=np.arange(1 - data.bins, data.bins) * float(data.bin_ms),
        by_lag=np.einsum("k,kg->g", weights_K, np.nanmean(by_lag_KLG, axis=1)),
        by_lag_and_layer=by_lag_KLG,
        importance=importance_N if some else None,
        importance_by_member=by_member_KN if some else None,
        importance_by_layer=_stacked(by_layer) if some else None,
        importance_by_trial=by_trial_RN if some else None,
        importance_by_condition=(
            np.stack([by_trial_RN[trials.conditions == c].mean(axis=0) for c in conditions])
            if some and conditions is not None
            else None
        ),
        conditions=conditions,
        gradient_importance=np.einsum("k,kn->n", weights_K, gradient_KN) if shares else None,
        gradient_by_member=gradient_KN if shares else None,
        summary={},
    )
    errors = [found_shares.error for found_shares in shares]
    result.summary.update(summarise(result, max(errors) if errors else None))
    return result


def summarise(found: Interpretation, gradient_error: float | None = None) -> dict[str, Any]:
    """The numbers of an interpretation, over held-in neurons, which are those with an input.

    Args:
        found: the arrays.
        gradient_error: what the integral of integrated gradients misses, relative.
    """
    n, rate_N = found.heldin, found.rate_hz[: found.heldin]
    summary: dict[str, Any] = {
        "data": found.name,
        "members": len(found.labels),
        "trials": found.trials,
        "heldin": n,
        "heldout": len(found.rate_hz) - n,
    }
    gradient_KN = None if found.gradient_by_member is None else found.gradient_by_member[:, :n]
    if found.importance is None:
        summary["spatial"] = NO_SPATIAL
    else:
        assert found.importance_by_member is not None and found.importance_by_layer is not None
        assert found.importance_by_trial is not None
        importance_N = found.importance[:n]
        members_KN, trials_RN = found.importance_by_member[:, :n], found.importance_by_trial[:, :n]
        halves = np.stack(
            [trials_RN[half::2].mean(axis=0) for half in (0, 1) if half < len(trials_RN)]
        )
        layers = [
            measures.agreement(rows_LN[:, :n])._asdict() for rows_LN in found.importance_by_layer
        ]
        agreement = {
            "trials": measures.agreement(trials_RN)._asdict(),
            "halves of the trials": measures.agreement(halves)._asdict(),
            "layers of a member": _mean_of(layers),
            "members": measures.agreement(members_KN)._asdict(),
            "members, rate taken out": measures.agreement(members_KN, given=rate_N)._asdict(),
        }
        if found.importance_by_condition is not None:
            rows_CN = found.importance_by_condition[:, :n]
            agreement["conditions"] = measures.agreement(rows_CN)._asdict()
        top = measures.top_count(n)
        summary["agreement"] = agreement
        summary["top share"] = float(np.sort(importance_N)[-top:].sum() / importance_N.sum())
        summary["most, times even"] = float(importance_N.max() * len(found.importance))
        summary["importance and rate"] = measures.spearman(importance_N, rate_N)
    if gradient_KN is not None:
        assert found.gradient_importance is not None
        gradient_N = found.gradient_importance[:n]
        gradient = {
            "error": gradient_error,
            "members": measures.agreement(gradient_KN)._asdict(),
            "members, rate taken out": measures.agreement(gradient_KN, given=rate_N)._asdict(),
            "and rate": measures.spearman(gradient_N, rate_N),
        }
        if found.importance is not None:
            attention_N = found.importance[:n]
            gradient |= {
                "and attention": measures.spearman(gradient_N, attention_N),
                "and attention, rate taken out": measures.spearman(
                    gradient_N, attention_N, given=rate_N
                ),
            }
        summary["gradients"] = gradient
    return summary


def ranking(found: Interpretation) -> tuple[Float[NDArray, " N_in"], str]:
    """The importance of held-in neurons to drop by, and what it is.

    Attention where the models have it over neurons, else integrated gradients.

    Raises:
        UserError: there is neither.
    """
    if found.importance is not None:
        return found.importance[: found.heldin], "attention"
    if found.gradient_importance is not None:
        return found.gradient_importance[: found.heldin], "integrated gradients"
    raise UserError(f"{NO_SPATIAL}; leave out --nogradients")


def labels(models: Sequence[TrainedModel]) -> list[str]:
    """A short name of every model: its member, and its run where there are several."""
    several = len({model.trained.path for model in models}) > 1
    return [
        (f"{model.trained.path.name}, " if several else "") + f"member {model.member}"
        for model in models
    ]


def mean_rates(data: SpikeData) -> Float[NDArray, " N"]:
    """Mean rate of every neuron over what is known of the training trials, spikes/s."""
    counts_RTN = data.train.counts(data.bins_forward, data.heldout)
    has_count_RTN = data.train.has_count(data.bins_forward, data.heldout)
    spikes_N = np.sum(counts_RTN, axis=(0, 1), where=has_count_RTN, dtype=np.int64)
    return spikes_N / np.maximum(has_count_RTN.sum(axis=(0, 1)), 1) * (1000.0 / data.bin_ms)


def _conditions(labels_R: NDArray | None) -> NDArray | None:
    """The conditions that some trial has, in their order; None if none has one."""
    if labels_R is None or not np.any(labels_R >= 0):
        return None
    return np.unique(labels_R[labels_R >= 0]).astype(int)


def _stacked(arrays: Sequence[NDArray]) -> NDArray:
    """Arrays of different numbers of layers as one, NaN where a member has fewer."""
    most = max(len(x) for x in arrays)
    out = np.full((len(arrays), most, *arrays[0].shape[1:]), np.nan)
    for k, x in enumerate(arrays):
        out[k, : len(x)] = x
    return out


def _mean(arrays: Sequence[NDArray], share_K: NDArray) -> NDArray:
    """Weighted mean of those whose weight is not 0."""
    pairs = zip(share_K, arrays, strict=True)
    return np.sum([share * x for share, x in pairs if share > 0], axis=0)


def _mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of every value over the rows that know it."""
    has_count = [row for row in rows if np.isfinite(row["spearman"])]
    return {name: float(np.mean([row[name] for row in has_count or rows])) for name in rows[0]}
