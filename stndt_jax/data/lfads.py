"""Recordings from the HDF5 files that LFADS and lfads-torch read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import Group, explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray

# The names of the training and the evaluated trials.
SPLITS = ("train", "valid")


def is_lfads(path: str | Path) -> bool:
    """Whether a file is HDF5 with the keys of LFADS or lfads-torch."""
    if not os.path.isfile(path) or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file, explaining_damage(str(path)):
        return any(
            all(f"{split}_{key}" in file for split in SPLITS) for key in ("data", "encod_data")
        )


def neurons(path: Path) -> int:
    """The number of neurons."""
    with open_hdf5(path) as file, explaining_damage(str(path)):
        key = next(
            (k for k in ("recon_data", "data", "encod_data") if f"train_{k}" in file), "data"
        )
        shape = getattr(file.get(f"{SPLITS[0]}_{key}"), "shape", ())
        return int(shape[-1]) if shape else 0


def from_lfads(
    path: str | Path, *, bin_ms: float, name: str | None = None, **options: Any
) -> SpikeData:
    """Makes a recording from the HDF5 file that LFADS or lfads-torch reads.

    ``train_data`` and ``valid_data`` are counts (trials, bins, neurons). In files of lfads-torch,
    ``train_recon_data`` is all counts and ``train_encod_data`` those that the model sees, the first
    bins and neurons of them: the other neurons are held out, the other bins are forward bins.
    ``train_truth`` and ``valid_truth``, divided by ``conversion_factor``, are true rates, expected
    counts per bin. ``train_inds`` and ``valid_inds``, or ``*_idx``, are the positions of the trials
    in the recording; with them, trials come in that order. ``*_behavior`` is behaviour in bins. The
    validation trials are evaluated.

    Args:
      path: HDF5 file.
      bin_ms: bin width, ms, which the file does not contain.
      name: name of the recording; default the file's own.
      **options: options of ``SpikeData.from_arrays``, except ``evaluated``.

    Raises:
      UserError: a key is missing, arrays do not fit together, or an option says what the file says.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        with explaining_damage(str(path)):
            group = Group(path, file, None)
        if "train_encod_data" in group.keys:
            spikes = _torch_counts(group, options)
        else:
            group.require([f"{split}_data" for split in SPLITS], "LFADS' files hold both")
            spikes = _pair(group, "data")
        rates = _rates(group)
        order = _order(group, [len(x) for x in spikes])
        keys = [f"{split}_behavior" for split in SPLITS]
        if "behavior" not in options and all(key in group.keys for key in keys):
            options["behavior"] = np.concatenate([group.numbers(key) for key in keys])[order]
    return SpikeData.from_arrays(
        np.concatenate(spikes)[order],
        bin_ms=bin_ms,
        name=name or path.stem,
        evaluated=np.flatnonzero(order >= len(spikes[0])),
        rates=None if rates is None else rates[order],
        **options,
    )


def _torch_counts(group: Group, options: dict[str, Any]) -> list[NDArray]:
    """Counts of training and validation trials; adds what the file says to the options."""
    group.require([f"{split}_encod_data" for split in SPLITS], "lfads-torch's files hold both")
    seen = _pair(group, "encod_data")
    if any(f"{split}_recon_data" not in group.keys for split in SPLITS):
        return seen
    every = _pair(group, "recon_data")
    _, bins, held_in = seen[0].shape
    _, all_bins, all_neurons = every[0].shape
    if bins > all_bins or held_in > all_neurons:
        raise UserError(
            f"{group.path}: train_encod_data has shape {seen[0].shape} and train_recon_data "
            f"{every[0].shape}; what is seen must be a part of what is reconstructed"
        )
    for split, part, whole in zip(SPLITS, seen, every, strict=True):
        if len(part) != len(whole) or not np.array_equal(part, whole[:, :bins, :held_in]):
            raise UserError(
                f"{group.path}: {split}_encod_data are not the first bins and neurons of "
                f"{split}_recon_data; give a file where they are, such as lfads-torch's own"
            )
    if held_in < all_neurons:
        _take(group, options, "heldout", np.arange(held_in, all_neurons))
    if bins < all_bins:
        _take(group, options, "bins_forward", all_bins - bins)
    return every


def _take(group: Group, options: dict[str, Any], name: str, value: Any) -> None:
    if name in options:
        flag = name.replace("_", "-")
        raise UserError(
            f"{group.path} says itself what --{flag} says, by the shapes of encod_data and "
            f"recon_data; leave --{flag} out"
        )
    options[name] = value


def _pair(group: Group, what: str) -> list[NDArray]:
    """Reads an array of the training and one of the validation trials."""
    train, valid = (group.numbers(f"{split}_{what}") for split in SPLITS)
    if train.ndim != 3 or valid.ndim != 3 or train.shape[1:] != valid.shape[1:]:
        raise UserError(
            f"{group.path}: train_{what} has shape {train.shape} and valid_{what} {valid.shape}; "
            "both must be (trials, bins, neurons) with the same bins and neurons"
        )
    return [train, valid]


def _rates(group: Group) -> Float[NDArray, "R T N"] | None:
    """True rates, expected counts per bin, training trials first; None unless both are there."""
    if not all(f"{split}_truth" in group.keys for split in SPLITS):
        return None
    # The factor scales counts to LFADS' truth.
    scale = group.numbers("conversion_factor") if "conversion_factor" in group.keys else 1.0
    return np.concatenate(_pair(group, "truth")) / scale


def _order(group: Group, trials: Sequence[int]) -> Int[NDArray, " R"]:
    """Indices of the training, then validation trials, in the order of the recording."""
    keys = [
        next((key for key in (f"{split}_inds", f"{split}_idx") if key in group.keys), None)
        for split in SPLITS
    ]
    present = [key for key in keys if key is not None]
    if len(present) < len(keys):
        return np.arange(sum(trials))
    positions = []
    for key, split, number in zip(present, SPLITS, trials, strict=True):
        position = np.ravel(group.numbers(key))
        if len(position) != number:
            raise UserError(
                f"{group.where(key)} holds {len(position)} positions, but {split}_data holds "
                f"{number} trials; give one position per trial"
            )
        positions.append(position)
    return np.argsort(np.concatenate(positions).astype(np.int64), kind="stable")
