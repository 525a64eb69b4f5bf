"""What trained models attend to: which neurons matter, which time lags, and how reliable that is.

The importance of a neuron is the attention it receives: the mean over all attending neurons, all
layers and all trials of its column of the spatial attention. It adds up to 1 over neurons. In a
model with factors, which attend to one another in place of the neurons, it is the attention that
the factors receive, brought to the held-in neurons by the weights of the read-in
(`attention.to_neurons`). A second measure is computed from the input, by integrated gradients
(`integrated_gradients`); where the two disagree, gradients are the authority.

Source of the measure: T. Le and E. Shlizerman, STNDT, NeurIPS 2022; the step from factors to
neurons is this library's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stndt_jax.console import progress
from stndt_jax.data.labels import areas as areas_of
from stndt_jax.data.summary import mean_rates_hz
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.interpret import areas, attention, integrated_gradients, rankings
from stndt_jax.interpret.attention import AttentionMaps
from stndt_jax.interpret.integrated_gradients import Attributions
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Float, Int, NDArray, Shaped

Split = Literal["eval", "train"]
NO_SPATIAL = (
    "these models are NDT, without attention over neurons, so there is no importance by "
    "attention; integrated gradients give one"
)

BY_READ_IN = (
    "importance by attention is what the factors receive, brought to the held-in neurons by the "
    "weights of the read-in; held-out neurons are not read in and have 0"
)

UNTRAINED = (
    "weights of the read-in without input are not trained, so that importance by attention says "
    "nothing there"
)

# Labels of what rankings are compared across, by their keys in the summary.
AGREEMENT = {
    "trials": "trials",
    "trial_halves": "halves of the trials",
    "member_layers": "layers of a member",
    "members": "members",
    "members_given_rate": "members, controlling for rate",
    "conditions": "conditions",
}


@dataclass(frozen=True, eq=False)
class Interpretation:
    """Attention and importance of a run's or an ensemble's models.

    Neurons are held-in then held-out, bins observed then forward. Members are in the order of
    `restore.models`; what a member lacks (spatial attention, a layer, a factor) is NaN. Fields that
    need spatial attention are None if no member has it.

    The D rows and columns of the maps of spatial attention are neurons (D = N) or, in members with
    factors, factors. Factor d of one member is not factor d of another, so maps of factors are not
    averaged over members; the importance of neurons is.

    Attributes:
        name: the recording's.
        bin_ms: bin width, ms.
        bins_observed: T_obs.
        heldin: N_in.
        trials: number of trials that were used.
        labels: a short name of every member, (K,).
        weights: weight of every member in the mean, adding up to 1.
        rate_hz: mean rate of every neuron in the training trials, spikes/s.
        temporal_by_layer: attention of bins (rows) to bins, mean over the trials that have both;
            NaN where none has, as in the padding of trials of unequal length.
        lags_ms: lag of every column of `by_lag`, ms; above 0, attention to a later bin.
        by_lag: temporal attention by lag, mean over members (by weight) and layers.
        by_lag_and_layer: the same of every member and layer.
        pairs: number of trials that have both of two bins. None in files that were written before
            it was kept.
        even: uniform temporal attention, 1 / the bins of a trial, mean over these trials.
        summary: the numbers of the printed text, for JSON.
        units: identifier of every neuron in the recording, if it has one.
        areas: brain area of every neuron, a text; None if unknown.
        between_areas: attention of areas (rows) to areas (columns), sorted by name, relative to
            uniform attention; None without areas, or where some member has factors.
        conditions: the conditions of the rows of `importance_by_condition`.
        factors: of every member, its number of factors; 0 where neurons attend to neurons, or
            without spatial attention. None in files that were written before there were factors.
        shown_member: the member whose map is `spatial`, the one of the largest weight (of several,
            of the best validation co-bps); None where no member has factors, and `spatial` is a
            mean over members.
        spatial: attention of neurons (rows) to neurons, mean over members, layers and trials; with
            factors, that of `shown_member`, mean over layers and trials.
        spatial_by_layer: attention of every member and layer, mean over trials; D is that of the
            largest.
        importance: of every neuron, mean over members by their weights.
        importance_by_member: of every member, mean over layers and trials.
        importance_by_layer: of every member and layer, mean over trials.
        importance_by_trial: of every trial, mean over members and layers.
        importance_by_condition: mean over trials; None if conditions are not known.
        gradient_importance: change of the held-out log-rates that is attributed to a neuron's
            spikes (root mean square over trials, bins and held-out neurons, nats), mean over
            members by their weights; NaN for held-out neurons. None if it was not computed.
        gradient_by_member: the same of every member.
    """

    name: str
    bin_ms: float
    bins_observed: int
    heldin: int
    trials: int
    labels: list[str]
    weights: Float[NDArray, " K"]
    rate_hz: Float[NDArray, " N"]
    temporal_by_layer: Float[NDArray, "K L T T"]
    lags_ms: Float[NDArray, " lags"]
    by_lag: Float[NDArray, " lags"]
    by_lag_and_layer: Float[NDArray, "K L lags"]
    summary: dict[str, Any]
    pairs: Int[NDArray, "T T"] | None = None
    even: Float[NDArray, "T T"] | None = None
    units: Int[NDArray, " N"] | None = None
    areas: Shaped[NDArray, " N"] | None = None
    between_areas: Float[NDArray, "A A"] | None = None
    conditions: Int[NDArray, " C"] | None = None
    factors: Int[NDArray, " K"] | None = None
    shown_member: int | None = None
    spatial: Float[NDArray, "D D"] | None = None
    spatial_by_layer: Float[NDArray, "K L D D"] | None = None
    importance: Float[NDArray, " N"] | None = None
    importance_by_member: Float[NDArray, "K N"] | None = None
    importance_by_layer: Float[NDArray, "K L N"] | None = None
    importance_by_trial: Float[NDArray, "R N"] | None = None
    importance_by_condition: Float[NDArray, "C N"] | None = None
    gradient_importance: Float[NDArray, " N"] | None = None
    gradient_by_member: Float[NDArray, "K N"] | None = None

    @property
    def has_factors(self) -> bool:
        """Whether some member's spatial attention is among factors."""
        return self.shown_member is not None

    @property
    def shows_factors(self) -> bool:
        """Whether the rows and columns of `spatial` are factors."""
        k = self.shown_member
        return k is not None and self.factors is not None and bool(self.factors[k])

    @property
    def shown_by_layer(self) -> Float[NDArray, "l D D"] | None:
        """Maps of spatial attention to show: of `shown_member`, or the mean over members.

        Layers that no such member has are left out.
        """
        if self.spatial_by_layer is None or self.spatial is None:
            return None
        D, k = len(self.spatial), self.shown_member
        members = slice(None) if k is None else slice(k, k + 1)
        maps_KLDD = self.spatial_by_layer[members, :, :D, :D]
        return np.nanmean(maps_KLDD[:, np.isfinite(maps_KLDD).any(axis=(0, 2, 3))], axis=0)

    @property
    def condition_labels(self) -> list[str]:
        """The names of `conditions`, or their numbers."""
        names = self.summary.get("condition_names", {})
        numbers = [] if self.conditions is None else self.conditions.tolist()
        return [names.get(str(c), str(c)) for c in numbers]

    @property
    def uniform(self) -> float:
        """The importance of a held-in neuron if all neurons that can have one had the same."""
        N = len(self.rate_hz)
        if self.importance_by_member is None:
            return 1 / N
        factors_K = np.zeros(len(self.weights)) if self.factors is None else self.factors
        weights_K = self.weights * np.isfinite(self.importance_by_member[:, 0])
        even_K = np.where(factors_K > 0, 1 / max(self.heldin, 1), 1 / N)
        return float(np.sum(weights_K * even_K) / np.sum(weights_K))


def of_models(
    models: Sequence[TrainedModel],
    *,
    split: Split = "eval",
    select: SelectedBy = "cobps",
    with_gradients: bool = True,
) -> Interpretation:
    """Interprets the models of a run or an ensemble.

    Args:
        models: as `restore.models` returns them.
        split: which trials to use.
        select: which weights of each member.
        with_gradients: whether to compute integrated gradients, which take most of the time.
    """
    data = models[0].trained.data
    trials = data.eval if split == "eval" else data.train
    weights_K = np.array([model.weight for model in models], float)
    weights_K /= weights_K.sum()
    spatial_K = np.array([model.trained.config.model.spatial for model in models])
    # Weights in means over members of what only spatial attention gives.
    spatial_weights_K = np.where(spatial_K, weights_K, 0.0)
    spatial_weights_K /= max(spatial_weights_K.sum(), 1e-12)

    maps, importance_RN = _attention(models, trials, spatial_weights_K, select)
    conditions = _conditions(trials.conditions)
    fields = _temporal_fields(maps, weights_K, data)
    if spatial_K.any():
        fields |= _spatial_fields(models, maps, spatial_weights_K)
        fields |= _between_areas(data, fields)
        fields |= {
            "importance_by_trial": importance_RN,
            "importance_by_condition": _by_condition(importance_RN, trials, conditions),
        }
    attributions = []
    if with_gradients:
        attributions = [
            integrated_gradients.attribute(model, trials, select=select)
            for model in progress.each(models, "integrated gradients")
        ]
        fields |= _gradient_fields(attributions, weights_K, data)
    found = Interpretation(
        name=data.name,
        bin_ms=float(data.bin_ms),
        bins_observed=data.bins_observed,
        heldin=data.heldin,
        trials=len(trials),
        labels=labels(models),
        weights=weights_K,
        rate_hz=mean_rates_hz(data),
        units=data.units,
        areas=None if (known := areas_of(data)) is None else np.array(known),
        conditions=conditions,
        summary={},
        **fields,
    )
    error = max((one.error for one in attributions), default=None)
    words = summarise(found, error)
    if conditions is not None and data.condition_names:
        words["condition_names"] = {str(c): data.condition_name(c) for c in conditions.tolist()}
    return dataclasses.replace(found, summary=words)


def _attention(
    models: Sequence[TrainedModel],
    trials: Trials,
    spatial_weights_K: Float[NDArray, " K"],
    select: SelectedBy,
) -> tuple[list[AttentionMaps], Float[NDArray, "R N"]]:
    """Attention of every member, and the importance of neurons in every trial.

    Members are processed one after another, and the attention received in every trial is kept as
    a mean over members only: ``received`` of the returned maps is a mean over trials, (L, N).
    """
    maps = []
    importance_RN = np.zeros((len(trials), models[0].trained.data.neurons))
    pairs = list(zip(models, spatial_weights_K, strict=True))
    for model, weight in progress.each(pairs, "attention"):
        found = attention.maps(model, trials, select)
        if found.received is not None:
            importance_RN += weight * found.received.mean(axis=1)
            found = found._replace(received=found.received.mean(axis=0))
        maps.append(found)
    return maps, importance_RN


def _temporal_fields(
    maps: Sequence[AttentionMaps], weights_K: NDArray, data: SpikeData
) -> dict[str, Any]:
    """The fields of an `Interpretation` about attention over bins."""
    temporal_KLTT = _stacked([found.temporal for found in maps])
    by_lag_KLG = rankings.lag_profile(temporal_KLTT, maps[0].pairs)
    by_member_KG = rankings.mean_known(by_lag_KLG, axis=1)
    return {
        "temporal_by_layer": temporal_KLTT,
        "lags_ms": np.arange(1 - data.bins, data.bins) * float(data.bin_ms),
        "by_lag": np.einsum("k,kg->g", weights_K, by_member_KG),
        "by_lag_and_layer": by_lag_KLG,
        "pairs": maps[0].pairs,
        "even": maps[0].even,
    }


def _spatial_fields(
    models: Sequence[TrainedModel], maps: Sequence[AttentionMaps], weights_K: NDArray
) -> dict[str, Any]:
    """The fields of an `Interpretation` about spatial attention, NaN for members of NDT."""
    N = models[0].trained.data.neurons
    no_map_LDD, none_LN = np.full((1, 1, 1), np.nan), np.full((1, N), np.nan)
    spatial = [no_map_LDD if found.spatial is None else found.spatial for found in maps]
    received = [none_LN if found.received is None else found.received for found in maps]
    by_member_KN = np.stack([rows_LN.mean(axis=0) for rows_LN in received])
    has_K = weights_K > 0
    factors_K = np.array([model.trained.config.model.width for model in models]) * has_K
    shown = None
    if factors_K.any():
        scores_K = np.nan_to_num([model.cobps for model in models], nan=-np.inf)
        shown = max(range(len(models)), key=lambda k: (weights_K[k], scores_K[k]))
    means, layers = [x.mean(axis=0) for x in spatial], max(len(found.temporal) for found in maps)
    return {
        "factors": factors_K,
        "shown_member": shown,
        "spatial": _weighted_mean(means, weights_K) if shown is None else means[shown],
        "spatial_by_layer": _stacked(spatial, layers),
        "importance": np.einsum("k,kn->n", weights_K[has_K], by_member_KN[has_K]),
        "importance_by_member": by_member_KN,
        "importance_by_layer": _stacked(received, layers),
    }


def _between_areas(data: SpikeData, fields: dict[str, Any]) -> dict[str, Any]:
    """Attention between areas, if there are areas and all maps are among neurons."""
    known = areas_of(data)
    if known is None or fields["shown_member"] is not None:
        return {}
    return {"between_areas": areas.between(known, fields["spatial"])}


def _by_condition(
    importance_RN: Float[NDArray, "R N"], trials: Trials, conditions: NDArray | None
) -> Float[NDArray, "C N"] | None:
    if conditions is None:
        return None
    means = [importance_RN[trials.conditions == c].mean(axis=0) for c in conditions]
    return np.stack(means)


def _gradient_fields(
    attributions: Sequence[Attributions], weights_K: NDArray, data: SpikeData
) -> dict[str, Any]:
    """The fields of an `Interpretation` from integrated gradients."""
    gradient_KN = np.full((len(attributions), data.neurons), np.nan)
    gradient_KN[:, : data.heldin] = [one.importance for one in attributions]
    return {
        "gradient_importance": np.einsum("k,kn->n", weights_K, gradient_KN),
        "gradient_by_member": gradient_KN,
    }


def summarise(found: Interpretation, gradient_error: float | None = None) -> dict[str, Any]:
    """The numbers of an interpretation, over held-in neurons, the ones whose spikes are the input.

    Args:
        found: the arrays.
        gradient_error: relative error of the quadrature of integrated gradients.
    """
    summary: dict[str, Any] = {
        "data": found.name,
        "members": len(found.labels),
        "trials": found.trials,
        "heldin": found.heldin,
        "heldout": len(found.rate_hz) - found.heldin,
    }
    summary |= {"spatial": NO_SPATIAL} if found.importance is None else _attention_summary(found)
    if found.has_factors:
        summary |= _factor_sentences(found)
    if found.gradient_importance is not None:
        summary["gradients"] = _gradient_summary(found, gradient_error)
    if found.areas is not None:
        summary |= _area_summary(found)
    return summary


def _area_summary(found: Interpretation) -> dict[str, Any]:
    """Importance by area, and attention between areas or why it is not given, in sentences."""
    assert found.areas is not None
    known = found.areas.tolist()
    measures = {"attention": found.importance, "gradients": found.gradient_importance}
    summary: dict[str, Any] = {"areas": areas.rows(known, found.heldin, found.rate_hz, measures)}
    if found.between_areas is not None:
        summary["between_areas"] = areas.sentences(known, found.between_areas)
    elif found.has_factors:
        summary["between_areas"] = [areas.NO_PAIRS]
    return summary


def _factor_sentences(found: Interpretation) -> dict[str, str]:
    """What is different in models with factors, in sentences."""
    assert found.factors is not None and found.shown_member is not None
    assert found.importance_by_member is not None
    has_K = np.isfinite(found.importance_by_member[:, 0])
    sentences = {"read_in": BY_READ_IN}
    if not found.factors[has_K].all():
        sentences["read_in"] += " in these members"
    silent = int(np.sum(found.rate_hz[: found.heldin] == 0))
    if silent:
        some = (
            "1 held-in neuron never spikes"
            if silent == 1
            else f"{silent} held-in neurons never spike"
        )
        sentences["silent"] = f"{some} in the training trials: {UNTRAINED}"
    if has_K.sum() > 1:
        widths = [str(width or "neurons") for width in dict.fromkeys(found.factors[has_K])]
        number = f", nor as many ({', '.join(widths)})" if len(widths) > 1 else ""
        sentences["maps"] = (
            f"factors of one member are not those of another{number}, so spatial attention is not "
            f"averaged over members, only the importance of neurons is; shown is the attention of "
            f"{found.labels[found.shown_member]}"
        )
    return sentences


def _attention_summary(found: Interpretation) -> dict[str, Any]:
    n, rate_N = found.heldin, found.rate_hz[: found.heldin]
    assert found.importance is not None and found.importance_by_member is not None
    assert found.importance_by_layer is not None and found.importance_by_trial is not None
    importance_N = found.importance[:n]
    members_KN, trials_RN = found.importance_by_member[:, :n], found.importance_by_trial[:, :n]
    halves = [trials_RN[half::2].mean(axis=0) for half in (0, 1) if half < len(trials_RN)]
    layers = [rankings.agreement(rows_LN[:, :n]) for rows_LN in found.importance_by_layer]
    agreement = {
        "trials": rankings.agreement(trials_RN)._asdict(),
        "trial_halves": rankings.agreement(np.stack(halves))._asdict(),
        "member_layers": _mean_of([one._asdict() for one in layers]),
        "members": rankings.agreement(members_KN)._asdict(),
        "members_given_rate": rankings.agreement(members_KN, given=rate_N)._asdict(),
    }
    if found.importance_by_condition is not None:
        rows_CN = found.importance_by_condition[:, :n]
        agreement["conditions"] = rankings.agreement(rows_CN)._asdict()
    top = rankings.top_count(n)
    return {
        "agreement": agreement,
        "top_share": float(np.sort(importance_N)[-top:].sum() / importance_N.sum()),
        "largest_over_even": float(importance_N.max() / found.uniform),
        "importance_and_rate": rankings.spearman(importance_N, rate_N),
    }


def _gradient_summary(found: Interpretation, error: float | None) -> dict[str, Any]:
    n, rate_N = found.heldin, found.rate_hz[: found.heldin]
    assert found.gradient_importance is not None and found.gradient_by_member is not None
    gradient_N, gradient_KN = found.gradient_importance[:n], found.gradient_by_member[:, :n]
    summary = {
        "error": error,
        "members": rankings.agreement(gradient_KN)._asdict(),
        "members_given_rate": rankings.agreement(gradient_KN, given=rate_N)._asdict(),
        "and_rate": rankings.spearman(gradient_N, rate_N),
    }
    if found.importance is not None:
        attention_N = found.importance[:n]
        summary |= {
            "and_attention": rankings.spearman(gradient_N, attention_N),
            "and_attention_given_rate": rankings.spearman(gradient_N, attention_N, given=rate_N),
        }
    return summary


def ranking(found: Interpretation) -> tuple[Float[NDArray, " N_in"], str]:
    """The importance by which held-in neurons are dropped, and the name of its measure.

    Attention if the models have spatial attention, else integrated gradients.

    Raises:
        UserError: there is neither.
    """
    if found.importance is not None:
        return found.importance[: found.heldin], "attention"
    if found.gradient_importance is not None:
        return found.gradient_importance[: found.heldin], "integrated gradients"
    raise UserError(f"{NO_SPATIAL}; leave out --nogradients")


def labels(models: Sequence[TrainedModel]) -> list[str]:
    """A short name of every model: its member, and its run if there are several."""
    several = len({model.trained.path for model in models}) > 1
    return [
        (f"{model.trained.path.name}, " if several else "") + f"member {model.member}"
        for model in models
    ]


def _conditions(labels_R: NDArray | None) -> NDArray | None:
    """The conditions of the trials, ascending; None if no trial has one."""
    if labels_R is None or not np.any(labels_R >= 0):
        return None
    return np.unique(labels_R[labels_R >= 0]).astype(int)


def _stacked(arrays: Sequence[NDArray], layers: int = 0) -> NDArray:
    """Arrays (L, ...) stacked to (K, L, ...), NaN where a member has fewer layers or factors.

    Args:
        arrays: one of every member.
        layers: L at least.
    """
    most = np.max([x.shape for x in arrays], axis=0)
    out = np.full((len(arrays), max(layers, most[0]), *most[1:]), np.nan)
    for k, x in enumerate(arrays):
        out[k][tuple(slice(length) for length in x.shape)] = x
    return out


def _weighted_mean(arrays: Sequence[NDArray], weights_K: NDArray) -> NDArray:
    """Weighted mean of the arrays whose weight is not 0; the others may be NaN."""
    pairs = zip(weights_K, arrays, strict=True)
    return np.sum([weight * x for weight, x in pairs if weight > 0], axis=0)


def _mean_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of every value over the rows in which the correlation is defined, or over all."""
    defined = [row for row in rows if np.isfinite(row["spearman"])]
    return {name: float(np.mean([row[name] for row in defined or rows])) for name in rows[0]}
