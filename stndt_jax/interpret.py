"""What trained models attend to: which neurons matter, which lags, and how sure that is.

The importance of a neuron is the attention it receives: the mean over all neurons that attend,
all layers and all trials, of its column of the spatial attention. It adds up to 1 over neurons.
A second opinion comes from input space, by integrated gradients (`gradients.py`).

Source of the measure: T. Le and E. Shlizerman, NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stndt_jax.evaluate import Model, Select
from stndt_jax.types import Float, Int, NDArray

Split = Literal["eval", "train"]


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
    gradients: bool = True,
) -> Interpretation:
    """Interprets the models of a run directory or an ensemble. Writes nothing.

    Args:
        path: what `evaluate.models` takes.
        data_path: the recording, where it has moved.
        split: which trials to look at.
        select: which weights of each member.
        gradients: whether to compute integrated gradients, which cost most of the time.

    Raises:
        UserError: as `evaluate.models`.
    """
    raise NotImplementedError


def of_models(
    models: list[Model],
    *,
    split: Split = "eval",
    select: Select = "cobps",
    gradients: bool = True,
) -> Interpretation:
    """As `interpret`, of models that are already read."""
    raise NotImplementedError


def write(found: Interpretation, folder: Path) -> list[Path]:
    """Writes ``attention.h5``, ``neurons.csv`` and ``interpret.json``; returns their paths.

    Raises:
        UserError: a file cannot be written there.
    """
    raise NotImplementedError


def read(folder: Path) -> Interpretation:
    """Reads what `write` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    raise NotImplementedError


def text(found: Interpretation) -> str:
    """The summary as lines of text."""
    raise NotImplementedError
