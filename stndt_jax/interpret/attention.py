"""Attention maps of trained models, and trials with some neurons silenced.

Trials are processed in batches, so that memory is bounded by a batch: the attention maps of all
trials are never held at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from stndt_jax.config import schema
from stndt_jax.config.schema import Hyper
from stndt_jax.data.trials import Trials
from stndt_jax.evaluation import inference
from stndt_jax.models.attention import attendable
from stndt_jax.training import step
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Bool, Float, Int, NDArray, Params, UInt

# Entries of the attention maps of a batch, all layers together: 64 MB of float32.
_MAP_ENTRIES = 2**24


class AttentionMaps(NamedTuple):
    """Attention of one member, mean over heads. Every row of a map adds up to 1.

    Attributes:
        spatial: attention of neurons (rows) to neurons, mean over trials; of a model with factors,
            of factors to factors. None for NDT, which has no spatial attention.
        temporal: attention of bins (rows) to bins, mean over the trials that have both bins; NaN
            where none has.
        received: attention that a neuron receives in a trial, mean over all attending neurons;
            of a model with factors, what the factors receive, brought to the neurons by
            `to_neurons`. It adds up to 1 over neurons. None without spatial attention.
        pairs: number of trials that have both of two bins.
        even: uniform temporal attention: 1 / the number of a trial's bins, mean over the trials
            that have both bins; NaN where none has.
    """

    spatial: Float[NDArray, "L D D"] | None
    temporal: Float[NDArray, "L T T"]
    received: Float[NDArray, "R L N"] | None
    pairs: Int[NDArray, "T T"]
    even: Float[NDArray, "T T"]


def maps(model: TrainedModel, trials: Trials, select: SelectedBy = "cobps") -> AttentionMaps:
    """A member's attention maps, averaged over trials.

    Args:
        model: the member.
        trials: whose held-in counts are the input.
        select: which of the member's weights.
    """
    arch = model.trained.arch
    T, L, D = arch.dims.bins, arch.model.layers, schema.stream_width(arch.model, arch.dims)
    run = inference.program(_attention_sums, arch)
    params, hyper = model.params(select), model.hyper
    batch_size = max(1, _MAP_ENTRIES // (L * (D * D + T * T)))
    spatial, received = np.zeros((L, D, D)), []
    temporal, pairs, even = np.zeros((L, T, T)), np.zeros((T, T)), np.zeros((T, T))
    for counts_BTN, has_count_BTN, real_B in inference.batches(model, trials, batch_size):
        sums = run(params, hyper, counts_BTN, has_count_BTN, jnp.asarray(real_B, jnp.float32))
        temporal += np.asarray(sums["temporal"], float)
        pairs += np.asarray(sums["pairs"], float)
        even += np.asarray(sums["even"], float)
        if arch.model.spatial:
            spatial += np.asarray(sums["spatial"], float)
            received.append(np.asarray(sums["received"])[:, real_B])
    number_TT = np.where(pairs > 0, pairs, np.nan)
    found = AttentionMaps(
        None, temporal / number_TT, None, pairs.round().astype(int), even / number_TT
    )
    if not received:
        return found
    received_RLN = np.concatenate(received, axis=1).swapaxes(0, 1)
    return found._replace(spatial=spatial / len(trials), received=received_RLN)


def to_neurons(
    received: Float[Array, "... D"], kernel: Float[Array, "N D"], heldin: int
) -> Float[Array, "... N"]:
    """The attention that factors receive, brought to the neurons by the read-in.

    Neuron n gets ``sum_d |W[n, d]| received[d]``, scaled so that all neurons add up to 1. Held-out
    neurons are not read in and get 0.

    Args:
        received: attention that each factor receives.
        kernel: W, the weights of the read-in; those of held-out neurons are not used.
        heldin: N_in.
    """
    read_ND = jnp.abs(kernel).at[heldin:].set(0.0)
    brought = jnp.matmul(received, read_ND.T)
    return brought / jnp.maximum(brought.sum(axis=-1, keepdims=True), 1e-30)


def silence(trials: Trials, neurons: Sequence[int] | NDArray) -> Trials:
    """The trials with the observed counts of some held-in neurons set to zero."""
    heldin_RTN = trials.heldin.copy()
    heldin_RTN[:, :, np.asarray(neurons, int)] = 0
    return dataclasses.replace(trials, heldin=heldin_RTN)


def _attention_sums(
    arch: step.Arch,
    params: Params,
    hyper: Hyper,
    counts_BTN: UInt[Array, "B T N"],
    has_count_BTN: Bool[Array, "B T N"],
    real_B: Float[Array, " B"],
) -> dict[str, Array]:
    """Sums over the trials of a batch that are ``real``, not padding.

    Returns:
        ``temporal`` (L, T, T): sum over trials in which both bins may be attended to;
        ``pairs`` (T, T): the number of these trials; ``even`` (T, T): the sum over them of uniform
        attention; with spatial attention also ``spatial`` (L, D, D): sum over trials, and
        ``received`` (L, B, N): what every neuron receives in a trial, as in `AttentionMaps`.
    """
    _, out = step.forward(arch, params, hyper, counts_BTN, has_count_BTN)
    bins_BT = jnp.ones(counts_BTN.shape[:2])
    if arch.dims.gaps:
        bins_BT = attendable(has_count_BTN, arch.dims).astype(jnp.float32)
    pairs_BTT = real_B[:, None, None] * bins_BT[:, :, None] * bins_BT[:, None, :]
    sums = {
        "temporal": jnp.einsum("lbts,bts->lts", out["temporal_attention"], pairs_BTT),
        "pairs": pairs_BTT.sum(axis=0),
        "even": jnp.einsum("bts,b->ts", pairs_BTT, 1 / jnp.maximum(bins_BT.sum(axis=1), 1)),
    }
    if arch.model.spatial:
        a_LBDD = out["spatial_attention"]
        sums["spatial"] = jnp.einsum("lbde,b->lde", a_LBDD, real_B)
        sums["received"] = a_LBDD.mean(axis=-2)
        if arch.model.width:
            kernel = params["embedder"]["kernel"]
            sums["received"] = to_neurons(sums["received"], kernel, arch.dims.heldin)
    return sums
