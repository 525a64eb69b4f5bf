"""Rates of other methods, read from their files, as a submission.

=====================  ===========================================================================
file                   what it holds
=====================  ===========================================================================
submission (HDF5)      nlb_tools' keys, at the top or in the recording's group
lfads-torch (HDF5)     ``train_output_params``, ``valid_output_params`` (and ``test_...``): means
                       over posterior samples, held-in then held-out neurons; ``*_inds`` where the
                       training trials were shuffled between train and valid
plain (.npz or HDF5)   ``eval`` and, for decoding, ``train``: (trials, bins, neurons)
plain (.npy)           the same of the evaluated trials alone
export (HDF5, .nc)     what ``stndt export`` wrote of a recording with these units and trials
=====================  ===========================================================================

Rates are expected counts per bin; bins are the observed ones, or with the forward ones behind
them; neurons are held-in then held-out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax import files
from stndt_jax.data import limits
from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.data.tables import SOURCE
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import scoring, submission
from stndt_jax.types import NDArray

Arrays = Mapping[str, NDArray]


def read(path: Path, data: SpikeData) -> dict[str, NDArray]:
    """Rates from a file, under the benchmark's keys.

    Raises:
      UserError: the file is missing or damaged, is in none of the formats above, or does not fit
        the recording.

    Warns:
      UserWarning: the rates are so high that they seem to be spikes per second.
    """
    arrays = _arrays(path, data)
    if any(key in arrays for key in submission.KEYS):
        rates = {key: arrays[key] for key in submission.KEYS if key in arrays}
    elif "valid_output_params" in arrays or "test_output_params" in arrays:
        rates = submission.of_arrays(_lfads_torch(arrays, data, path), data, f" of {path}")
    elif "eval" in arrays:
        splits = {key: x for key, x in arrays.items() if key in ("train", "eval")}
        rates = submission.of_arrays(splits, data, f" of {path}")
    elif "rates" in arrays and any(key in arrays for key in ("unit_ids", "unit")):
        rates = submission.of_arrays(_exported(arrays, data, path), data, f" of {path}")
    else:
        raise UserError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}, which are no rates; give "
            f"nlb_tools' keys, lfads-torch's, or arrays named eval and train"
        )
    _warn_hz(rates, data, path)
    return rates


def _arrays(path: Path, data: SpikeData) -> dict[str, NDArray]:
    """All arrays of a file, or of the recording's group in it, by name."""
    files.check_input(path)
    try:
        if path.suffix in (".npy", ".npz"):
            found = load_numpy(path)
            return found if isinstance(found, dict) else {"eval": found}
        with h5py.File(path, "r") as file:
            groups = [
                name
                for name, item in file.items()
                if isinstance(item, h5py.Group) and not name.startswith(submission.TABLES)
            ]
            source: Any = file
            if groups:
                name = group_name(data.name, data.bin_ms)
                name = name if name in groups else data.name
                if name not in groups and len(groups) > 1:
                    raise UserError(
                        f"{path} holds the groups {', '.join(sorted(groups))} but none named "
                        f"{data.name}; rename the right one"
                    )
                source = file[name if name in groups else groups[0]]
            items = {n: item for n, item in source.items() if isinstance(item, h5py.Dataset)}
            size = sum(item.size * item.dtype.itemsize for item in items.values())
            limits.check(str(path), size, sum(x.id.get_storage_size() for x in items.values()))
            return {name: np.asarray(item[()]) for name, item in items.items() if item.ndim}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a file of rates") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); give .h5, .npz or .npy") from error


def _exported(arrays: Arrays, data: SpikeData, path: Path) -> dict[str, NDArray]:
    """Rates that ``stndt export`` wrote, by split of the recording.

    Units are found by their identifiers, trials by their rows in the recording's own table, or
    else by their order.
    """
    x_RTN = arrays["rates"]
    ids = arrays["unit_ids" if "unit_ids" in arrays else "unit"]
    units = np.arange(data.neurons) if data.units is None else data.units
    if "evaluated" not in arrays or x_RTN.ndim != 3:
        raise UserError(
            f"{path} holds the windows of a continuous recording, joined, which cannot be scored; "
            f"give the submission that it was exported from"
        )
    if len(ids) != x_RTN.shape[2] or sorted(ids.tolist()) != sorted(units.tolist()):
        raise UserError(
            f"{path} holds rates of {len(ids)} units, which are not those of {data.name}; give "
            f"the rates of the same recording"
        )
    place = {int(unit): n for n, unit in enumerate(ids)}
    x_RTN = x_RTN[..., [place[int(unit)] for unit in units]]
    sources = arrays.get(f"trials_{SOURCE}", arrays.get("trial"))
    found = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        is_eval = np.asarray(arrays["evaluated"], bool)
        rows = np.flatnonzero(is_eval if split == "eval" else ~is_eval)
        own = trials.columns.get(SOURCE)
        if sources is not None and own is not None:
            at = {int(source): int(row) for row, source in zip(rows, sources[rows], strict=True)}
            rows = np.array([at.get(int(source), -1) for source in own])
        if len(rows) != len(trials) or np.any(rows < 0):
            raise UserError(
                f"{path} does not hold the {len(trials)} trials of the split {split} of "
                f"{data.name}; give the rates of the same recording"
            )
        rates_RTN = x_RTN[rows]
        if trials.recorded is not None:
            # Bins that were not recorded have no rate in the export, and enter no score.
            gone = ~np.any(trials.recorded[:, : rates_RTN.shape[1]], axis=2)
            rates_RTN = np.where(gone[..., None] & np.isnan(rates_RTN), 1.0, rates_RTN)
        found[split] = rates_RTN
    return found


def _lfads_torch(arrays: Arrays, data: SpikeData, path: Path) -> dict[str, NDArray]:
    """The trials of an lfads-torch output, by split of the recording.

    If there are ``test_output_params``, the test trials are the evaluated ones, and the train and
    valid trials, in the order of ``train_inds`` and ``valid_inds``, the training trials. Otherwise
    the valid trials are the evaluated ones.
    """
    if "test_output_params" not in arrays:
        found = {"eval": arrays["valid_output_params"]}
        if "train_output_params" in arrays:
            found["train"] = arrays["train_output_params"]
        return found
    found = {"eval": arrays["test_output_params"]}
    parts = [s for s in ("train", "valid") if f"{s}_output_params" in arrays]
    if not parts:
        return found
    whole = np.concatenate([arrays[f"{s}_output_params"] for s in parts])
    if len(whole) != len(data.train):
        raise UserError(
            f"{path} holds {len(whole)} train and valid trials, but {data.name} has "
            f"{len(data.train)} training trials; give the output of a run on the same recording"
        )
    if all(f"{s}_inds" in arrays for s in parts):
        place = np.concatenate([arrays[f"{s}_inds"] for s in parts]).astype(int)
        if not np.array_equal(np.sort(place), np.arange(len(whole))):
            raise UserError(f"train_inds and valid_inds of {path} do not number every trial once")
        found["train"] = whole[np.argsort(place)]
    elif len(parts) == 1:
        found["train"] = whole
    return found


def _warn_hz(rates: Arrays, data: SpikeData, path: Path) -> None:
    """Warns if the held-in rates are closer to spikes per second than to counts per bin."""
    if "eval_rates_heldin" not in rates or not data.eval.heldin.any():
        return
    ratio = float(np.mean(rates["eval_rates_heldin"]) / np.mean(data.eval.heldin))
    if ratio > np.sqrt(1000.0 / data.bin_ms):
        warnings.warn(
            f"the rates of {path} are {ratio:.0f} times the counts; rates are expected counts per "
            f"bin: if these are spikes per second, multiply them by {data.bin_ms / 1000:g}",
            UserWarning,
            stacklevel=3,
        )


def score(rates: Mapping[str, NDArray], targets: Mapping[str, Any]) -> dict[str, float]:
    """Scores the rates of a file; behaviour is decoded only if it has those of training trials.

    Returns:
      As ``scoring.score``.

    Raises:
      UserError: rates are missing or misshapen.
    """
    kind = scoring.kind_of(targets)
    fitted = all(f"train_rates_{block}" in rates for block in ("heldin", "heldout"))
    if kind == "velocity" and not fitted:
        kind = "none"
    return scoring.score(rates, targets, kind=kind)
