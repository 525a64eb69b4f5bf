"""A benchmark submission: rates under nlb_tools' keys, and the HDF5 file that holds them.

In memory a submission is a dict of arrays (trials, bins, neurons), expected counts per bin, under
the names in `KEYS`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from stndt_jax import files
from stndt_jax.console.lines import counted
from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.types import Dims, Float, NDArray

BLOCKS = ("heldin", "heldout", "heldin_forward", "heldout_forward")
TABLES = "tables_of_"  # before the name of the group of tables
KEYS = tuple(f"{split}_rates_{block}" for split in ("train", "eval") for block in BLOCKS)


def of_rates(rates: Mapping[str, Float[NDArray, "R T N"]], dims: Dims) -> dict[str, NDArray]:
    """Rates of the ``train`` and ``eval`` trials under the benchmark's keys; undoes `joined`."""
    T, N = dims.bins_observed, dims.heldin
    found = {}
    for split, rates_RTN in rates.items():
        found[f"{split}_rates_heldin"] = rates_RTN[:, :T, :N]
        found[f"{split}_rates_heldout"] = rates_RTN[:, :T, N:]
        if dims.bins_forward:
            found[f"{split}_rates_heldin_forward"] = rates_RTN[:, T:, :N]
            found[f"{split}_rates_heldout_forward"] = rates_RTN[:, T:, N:]
    return found


def of_arrays(
    arrays: Mapping[str, NDArray], data: SpikeData, source: str = ""
) -> dict[str, NDArray]:
    """Rates of the ``train`` and ``eval`` trials as a submission, checked against a recording.

    Args:
      arrays: by split, (trials, bins, neurons): observed bins, or also the forward ones; held-in
        then held-out neurons. A further axis of length 1 is dropped.
      data: the recording.
      source: says where the rates come from, in messages.

    Raises:
      UserError: an array has another shape.
    """
    found: dict[str, NDArray] = {}
    for split, rates_RTN in arrays.items():
        if rates_RTN.ndim == 4 and rates_RTN.shape[-1] == 1:
            rates_RTN = rates_RTN[..., 0]
        trials = len(data.train if split == "train" else data.eval)
        bins = sorted({data.bins_observed, data.bins}, reverse=True)
        wanted = [(trials, T, data.neurons) for T in bins]
        if rates_RTN.shape not in wanted:
            raise UserError(
                f"the {split} rates{source} have shape {rates_RTN.shape}; {data.name} needs "
                f"{' or '.join(map(str, wanted))}: trials, bins, held-in then held-out neurons"
            )
        forward = rates_RTN.shape[1] - data.bins_observed
        dims = dataclasses.replace(data.dims, bins_forward=forward)
        found |= of_rates({split: rates_RTN}, dims)
    return found


def joined(rates: Mapping[str, NDArray], split: str) -> NDArray:
    """A submission's rates of one split as one array (R, T, N), forward bins included."""
    ends = ["", "_forward"] if f"{split}_rates_heldin_forward" in rates else [""]
    parts = [
        np.concatenate([rates[f"{split}_rates_{n}{end}"] for n in ("heldin", "heldout")], axis=-1)
        for end in ends
    ]
    return np.concatenate(parts, axis=1)


def check(rates: Mapping[str, NDArray], data: SpikeData) -> None:
    """Refuses rates that do not fit a recording.

    Needed are the rates of held-in and held-out neurons in observed bins, of training and
    evaluated trials, and where the recording has forward bins, those of evaluated trials there.

    Raises:
        UserError: a key is missing or unknown, a shape differs from the recording's, or a rate,
            in the file's float32, is not finite or not above 0.
    """
    _known_keys(rates)
    for key in KEYS:
        split, _, block = key.split("_", 2)
        forward = block.endswith("_forward")
        # A recording without forward bins has no rates for them; training trials need none.
        optional = forward and (split == "train" or data.bins_forward == 0)
        if optional and key not in rates:
            continue
        shape = (
            len(data.train if split == "train" else data.eval),
            data.bins_forward if forward else data.bins_observed,
            data.heldout if "heldout" in block else data.heldin,
        )
        rates_RTN = checked(rates, key, shape).astype(np.float32)
        if zeros := int(np.sum(rates_RTN <= 0)):
            raise UserError(
                f"{key} holds {counted(zeros, 'rate')} of 0; rates must be above 0, for a "
                "spike under a rate of 0 is infinitely unlikely"
            )


def check_units(rates: Mapping[str, NDArray], data: SpikeData) -> None:
    """Refuses rates in spikes/s, recognised by their mean relative to the counts'.

    Rates count as spikes/s if their mean is closer, as a ratio, to the mean count per second than
    to the mean count per bin.

    Raises:
        UserError: they are in spikes/s.
    """
    per_second = 1000.0 / data.bin_ms
    blocks = {"train_rates_heldin": data.train.heldin, "train_rates_heldout": data.train.heldout}
    for key, counts in (blocks | {"eval_rates_heldin": data.eval.heldin}).items():
        if key not in rates or counts is None or not counts.any():
            continue
        ratio = float(np.mean(rates[key])) / float(counts.mean())
        if ratio > per_second**0.5:
            raise UserError(
                f"{key} is {ratio:.0f} times the mean count per bin, so it seems to be in "
                f"spikes/s; write expected counts per bin: divide by {per_second:g}"
            )


def tables_of(data: SpikeData) -> dict[str, dict[str, NDArray]]:
    """What identifies the trials of either split and the units, in the order of the rates."""
    splits = {split: data.trial_table(split) for split in ("train", "eval")}
    return {**splits, "units": data.unit_table()}


def write(
    path: str | Path,
    name: str,
    rates: Mapping[str, NDArray],
    *,
    bin_ms: float,
    tables: Mapping[str, Mapping[str, NDArray]] | None = None,
) -> None:
    """Writes a submission file, as the benchmark's server and nlb_tools read it.

    The rates are float32, in a group named after the recording, with the suffix `_20` for 20 ms
    bins. Tables go into a second group, with `tables_of_` before this name, which the benchmark
    does not read; texts in it are UTF-8 of a fixed length, so that nlb_tools can copy the file. The
    file appears whole or not at all, and replaces one of the same name.

    Args:
        path: the file.
        name: of the recording.
        rates: under the benchmark's keys.
        bin_ms: bin width, ms.
        tables: as :func:`tables_of` gives them; none by default.

    Raises:
        UserError: a key is unknown, or the file cannot be written there.
    """
    _known_keys(rates)
    # Built in memory: HDF5 reports a full disk as a RuntimeError at some later moment.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        group = file.create_group(group_name(name, bin_ms))
        for key, rates_RTN in rates.items():
            group.create_dataset(key, data=np.asarray(rates_RTN, np.float32))
        beside = f"{TABLES}{group_name(name, bin_ms)}"
        for of, columns in (tables or {}).items():
            for key, column in columns.items():
                texts = column.dtype.kind == "U"
                stored = np.char.encode(column, "utf-8") if texts else column
                file.create_dataset(f"{beside}/{of}/{key}", data=stored)
    files.write_bytes(Path(path), image.getbuffer())


def read(path: str | Path, name: str | None = None, *, strict: bool = True) -> dict[str, NDArray]:
    """Reads the rates of a submission file.

    Args:
        path: HDF5 file.
        name: its group, `_20` included; None takes the file's only group.
        strict: whether the only group must have this name.

    Raises:
        UserError: no such file or group, several groups and no name, or an unknown key.
    """
    files.check_input(path)
    try:
        with h5py.File(path, "r") as file:
            groups = sorted(
                key
                for key, item in file.items()
                if isinstance(item, h5py.Group) and not key.startswith(TABLES)
            )
            if len(groups) == 1 and (name is None or not strict):
                name = groups[0]
            if name is None or name not in groups:
                wanted = "no single group" if name is None else f"no group {name}"
                present = ", ".join(groups) or "none"
                raise UserError(
                    f"{path} has {wanted}; groups present: {present}; name the data set with --name"
                )
            rates = {key: np.asarray(dataset[()]) for key, dataset in file[name].items()}
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        # h5py raises any of these for damaged bytes, and for groups in place of arrays.
        raise UserError(f"the submission {path} cannot be read: {error}; write it again") from error
    _known_keys(rates)
    for key, rates_RTN in rates.items():
        if rates_RTN.dtype.kind not in "buif":
            raise UserError(f"{key} of {path} holds no numbers ({rates_RTN.dtype}); write it again")
    return rates


def checked(
    rates: Mapping[str, NDArray], key: str, shape: tuple[int | None, ...]
) -> Float[NDArray, "R T N"]:
    """A checked float64 copy of one array; None in the shape stands for any size."""
    if key not in rates:
        raise UserError(f"the rates hold no {key}; present: {', '.join(rates) or 'nothing'}")
    if np.asarray(rates[key]).dtype.kind not in "buif":
        raise UserError(f"{key} has type {np.asarray(rates[key]).dtype}; give real numbers")
    rates_RTN = np.array(rates[key], np.float64)
    same = rates_RTN.ndim == len(shape) and all(
        want in (None, size) for size, want in zip(rates_RTN.shape, shape, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"{key} has shape {rates_RTN.shape}; the data need ({wanted})")
    bad = ~np.isfinite(rates_RTN) | (rates_RTN < 0)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"{key} holds {rates_RTN[index]} at {index}; rates must be finite and 0 or more: "
            "expected counts per bin, not log-rates"
        )
    return rates_RTN


def _known_keys(rates: Mapping[str, NDArray]) -> None:
    unknown = sorted(set(rates) - set(KEYS))
    if unknown:
        raise UserError(f"unknown keys {', '.join(unknown)}; a submission holds {', '.join(KEYS)}")
