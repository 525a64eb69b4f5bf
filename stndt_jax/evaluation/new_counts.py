"""Spike counts that a user gives to a trained model, as the batch that inference takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import checked_counts
from stndt_jax.errors import UserError
from stndt_jax.training.step import Batch
from stndt_jax.types import Int, NDArray


class NewTrials(NamedTuple):
    """Trials to infer rates of.

    Attributes:
      batch: their counts, zero at held-out neurons and forward bins.
      bins: the bins of the rates that are not padding.
    """

    batch: Batch
    bins: slice


def checked(
    counts: Any, data: SpikeData, units: Sequence[int] | NDArray | None = None
) -> NewTrials:
    """Takes what a model sees, held-in neurons in observed bins, of some trials.

    Args:
      counts: spike counts (trials, bins, neurons). Neurons are the held-in ones, or all; bins the
        observed ones, or all. Where the recording has gaps, trials may be shorter than observed
        bins, and NaN marks what was not recorded.
      data: the recording that the model was trained on.
      units: identifiers of the neurons of ``counts``, which may then be in any order; by default
        the neurons are in the order of ``data.units``.

    Raises:
      UserError: the counts do not fit the recording.
    """
    try:
        given = np.asarray(counts)
    except ValueError:
        raise UserError(
            "counts are lists of unequal length; give one array (trials, bins, neurons), or "
            "predict trials of unequal length one by one: predict(trial[None])"
        ) from None
    if given.dtype.kind not in "buif" or given.ndim != 3:
        raise UserError(
            f"counts have shape {given.shape} and type {given.dtype}; give numbers (trials, bins, "
            f"neurons)"
        )
    given = given[..., _columns(given.shape[2], data, units)]
    T_given, T_obs = given.shape[1], data.bins_observed
    if T_given == data.bins:
        given = given[:, :T_obs]
    elif T_given > T_obs or (T_given < T_obs and not data.gaps) or not T_given:
        shorter = "at most " if data.gaps else ""
        also = f", or all {data.bins}" if data.bins_forward else ""
        why = "" if data.gaps else "; only models trained on trials of unequal length take others"
        raise UserError(
            f"counts have {counted(T_given, 'bin')}; give {shorter}{T_obs} observed bins{also}{why}"
        )
    if given.dtype.kind == "f" and not data.gaps and np.isnan(given).any():
        r, t, n = (int(i) for i in np.argwhere(np.isnan(given))[0])
        raise UserError(
            f"counts hold NaN at trial {r}, bin {t}, neuron {n} of the held-in ones: this model "
            f"was trained on a recording without gaps, so it takes numbers only; leave such trials "
            f"out, or train on a recording in which NaN marks what was not recorded"
        )
    if not len(given):
        counts_RTN, recorded_RTN = np.zeros(given.shape, np.uint8), np.zeros(given.shape, bool)
    else:
        counts_RTN, recorded_RTN = checked_counts("counts", given, allow_nan=data.gaps)
    # As SpikeData.from_arrays pads: forward bins directly follow the observed ones.
    missing = T_obs - given.shape[1]
    before = missing if data.bins_forward else 0
    pad = ((0, 0), (before, missing - before + data.bins_forward), (0, data.heldout))
    batch = Batch(jnp.asarray(np.pad(counts_RTN, pad)), jnp.asarray(np.pad(recorded_RTN, pad)))
    last = data.bins if before or not missing else T_obs - missing
    return NewTrials(batch, slice(before, last))


def _columns(
    number: int, data: SpikeData, units: Sequence[int] | NDArray | None
) -> Int[NDArray, " N_in"] | slice:
    """Which columns of the counts are the held-in neurons, in the model's order.

    Raises:
      UserError: they are not all there, or their order is in doubt.
    """
    known = np.arange(data.neurons) if data.units is None else data.units
    if units is not None:
        given = np.asarray(units)
        if given.dtype.kind not in "iu":
            raise UserError(f"units has type {given.dtype}; give whole numbers, as run.data.units")
        if given.shape != (number,) or len(np.unique(given)) < number:
            raise UserError(
                f"units has shape {given.shape}; list each of the {number} neurons of the counts "
                f"once"
            )
        missing = np.setdiff1d(known[: data.heldin], given)
        if missing.size:
            raise UserError(
                f"units lacks {missing.size} of the {data.heldin} held-in neurons, for example "
                f"unit {missing[0]}; give the counts of all held-in neurons"
            )
        place = {int(unit): n for n, unit in enumerate(given)}
        return np.array([place[int(unit)] for unit in known[: data.heldin]])
    if number == data.heldin:
        return slice(None)
    if number != data.neurons:
        raise UserError(
            f"counts have {counted(number, 'neuron')}; give the {data.heldin} held-in ones, or all "
            f"{data.neurons}"
        )
    if np.any(np.diff(known) < 0):
        raise UserError(
            f"counts have all {number} neurons, but the model has the held-in ones first; if the "
            f"columns are in the order of the recording, give "
            f"{_held_in(known, number)}; if in that of the model, units=run.data.units"
        )
    return slice(data.heldin)


def _held_in(known: NDArray, number: int) -> str:
    """How to say which columns of counts in the order of the recording are which neurons."""
    if np.array_equal(np.sort(known), np.arange(number)):
        return f"counts[..., run.data.units[:run.data.heldin]] or units=range({number})"
    return "units=, the identifier of every column"
