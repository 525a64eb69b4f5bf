"""Trained models put to questions: what they attend to, and their rates with neurons silenced.

Everything runs over batches, so that memory is bounded by a batch: no attention map of every
trial is ever held. A program is compiled once for an architecture, for all runs that have it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Hyper
from stndt_jax.data.trials import Trials
from stndt_jax.evaluation.evaluate import Select, TrainedModel
from stndt_jax.parallel import lifts
from stndt_jax.training import masking, step
from stndt_jax.types import Array, Bool, Float, Int, NDArray, Params, UInt

# Entries of attention maps in a batch, all layers together: 64 MB of float32.
_MAP_ENTRIES = 2**24


class Maps(NamedTuple):
    """What one member attends to, averaged over heads.

    Attributes:
        spatial: attention of neurons (rows) to neurons, mean over trials; None without it.
        temporal: attention of bins (rows) to bins, mean over the trials that have both recorded.
        received: attention that a neuron receives in a trial, mean over all neurons that attend;
            it adds up to 1 over neurons. None without spatial attention.
    """

    spatial: Float[NDArray, "L N N"] | None
    temporal: Float[NDArray, "L T T"]
    received: Float[NDArray, "R L N"] | None


def attention(model: TrainedModel, trials: Trials, select: Select = "cobps") -> Maps:
    """A member's attention in some trials.

    Args:
        model: the member.
        trials: whose held-in counts it is shown.
        select: which of the member's weights.
    """
    arch = model.trained.arch
    T, N, L = arch.dims.bins, arch.dims.neurons, arch.model.layers
    params, hyper = weights(model, select)
    run = _attention_program(step.inference(arch))
    most = max(1, _MAP_ENTRIES // (L * (N * N + T * T)))
    spatial, received = np.zeros((L, N, N)), []
    temporal, pairs = np.zeros((L, T, T)), np.zeros((T, T))
    for counts_BTN, known_BTN, real_B in batches(model, trials, most):
        found = run(params, hyper, counts_BTN, known_BTN, jnp.asarray(real_B, jnp.float32))
        temporal += np.asarray(found["temporal"], float)
        pairs += np.asarray(found["pairs"], float)
        if arch.model.spatial:
            spatial += np.asarray(found["spatial"], float)
            received.append(np.asarray(found["received"])[:, real_B])
    temporal /= np.maximum(pairs, 1)
    if not received:
        return Maps(None, temporal, None)
    return Maps(spatial / len(trials), temporal, np.concatenate(received, axis=1).swapaxes(0, 1))


def rates(
    models: Sequence[TrainedModel], trials: Trials, select: Select = "cobps"
) -> Float[NDArray, "R T N"]:
    """Mean rate over models by their weights, expected counts per bin.

    Args:
        models: as `evaluate.models` gives them.
        trials: whose held-in counts they are shown.
        select: which of each member's weights.
    """
    mean_RTN: NDArray | None = None
    for model in models:
        params, hyper = weights(model, select)
        run = _rates_program(step.inference(model.trained.arch))
        rows = [
            np.asarray(run(params, hyper, counts_BTN, known_BTN))[real_B]
            for counts_BTN, known_BTN, real_B in batches(model, trials, len(trials))
        ]
        share_RTN = np.float32(model.weight) * np.concatenate(rows)
        mean_RTN = share_RTN if mean_RTN is None else mean_RTN + share_RTN
    assert mean_RTN is not None
    return mean_RTN


def silence(trials: Trials, neurons: Sequence[int] | NDArray) -> Trials:
    """The trials as if some held-in neurons had never spiked in observed bins."""
    heldin_RTN = trials.heldin.copy()
    heldin_RTN[:, :, np.asarray(neurons, int)] = 0
    return dataclasses.replace(trials, heldin=heldin_RTN)


def weights(model: TrainedModel, select: Select) -> tuple[Params, Hyper]:
    """A member's parameters and its scalars."""
    hyper = jax.tree.map(lambda leaf: leaf[model.member], model.trained.hyper)
    return model.trained.params(model.member, select), hyper


def clean(
    arch: step.Arch, counts_BTN: UInt[Array, "B T N"], known_BTN: Bool[Array, "B T N"]
) -> tuple[Float[Array, "B T N"], Bool[Array, "B T"] | None]:
    """What a network is given of some trials: its input, and the bins it may attend to."""
    x_BTN = masking.clean(counts_BTN, arch.dims)
    if arch.dims.gaps:
        x_BTN = jnp.where(known_BTN, x_BTN, 0)
    return x_BTN, step.attendable(known_BTN, arch.dims)


def pick(trials: Trials, rows: Int[NDArray, " r"]) -> Trials:
    """Some of the trials."""
    arrays = {field.name: getattr(trials, field.name) for field in dataclasses.fields(trials)}
    chosen: dict[str, Any] = {name: x if x is None else x[rows] for name, x in arrays.items()}
    return Trials(**chosen)


def spaced(number: int, most: int) -> Int[NDArray, " r"]:
    """All of ``number`` places, or, of more than ``most``, that many evenly spaced ones."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(int))


def batches(
    model: TrainedModel, trials: Trials, most: int
) -> Iterator[tuple[UInt[Array, "B T N"], Bool[Array, "B T N"], Bool[NDArray, " B"]]]:
    """Counts, where they are known, and which trials are no filling; every batch of one size."""
    dims = model.trained.arch.dims
    counts_RTN = trials.counts(dims.bins_forward, dims.heldout)
    has_count_RTN = trials.has_count(dims.bins_forward, dims.heldout)
    R = len(counts_RTN)
    size = max(1, min(most, model.trained.config.train.batch, R))
    for first in range(0, R, size):
        chosen_B = np.arange(first, first + size)
        real_B = chosen_B < R
        chosen_B = np.where(real_B, chosen_B, R - 1)
        yield jnp.asarray(counts_RTN[chosen_B]), jnp.asarray(has_count_RTN[chosen_B]), real_B


@functools.cache
def _rates_program(arch: step.Arch) -> Any:
    return lifts.compiled(functools.partial(step.rates, arch))


@functools.cache
def _attention_program(arch: step.Arch) -> Any:
    return lifts.compiled(functools.partial(_attention, arch))


def _attention(
    arch: step.Arch,
    params: Params,
    hyper: Hyper,
    counts_BTN: UInt[Array, "B T N"],
    known_BTN: Bool[Array, "B T N"],
    real_B: Float[Array, " B"],
) -> dict[str, Array]:
    """Sums over the trials of a batch that are ``real``, and what every trial's neurons receive."""
    x_BTN, attendable_BT = clean(arch, counts_BTN, known_BTN)
    _, out = arch.network.apply({"params": params}, x_BTN, step.forward_hyper(hyper), attendable_BT)
    bins_BT = (
        jnp.ones(x_BTN.shape[:2]) if attendable_BT is None else attendable_BT.astype(jnp.float32)
    )
    pairs_BTT = real_B[:, None, None] * bins_BT[:, :, None] * bins_BT[:, None, :]
    found = {
        "temporal": jnp.einsum("lbts,bts->lts", out["temporal_attention"], pairs_BTT),
        "pairs": pairs_BTT.sum(axis=0),
    }
    if arch.model.spatial:
        a_LBNN = out["spatial_attention"]
        found["spatial"] = jnp.einsum("lbnm,b->lnm", a_LBNN, real_B)
        found["received"] = a_LBNN.mean(axis=-2)
    return found
