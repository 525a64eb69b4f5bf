"""What a recording or a file holds, in words that a person can check."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from stndt_jax.console import tables
from stndt_jax.data.nwb import NWB, open_nwb
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray


def of_recording(data: SpikeData) -> str:
    """Trials, bins, neurons, mean rate, behaviour and conditions of a recording."""
    width = data.bin_ms
    rates_N = mean_rates_hz(data)
    held = {"held-in": rates_N[: data.heldin], "held-out": rates_N[data.heldin :]}
    lines = [
        f"recording    {data.name}",
        f"trials       {len(data.train)} to train on, {len(data.eval)} to evaluate",
        f"bins         {data.bins_observed} observed + {data.bins_forward} forward, of "
        f"{width:g} ms ({data.bins_observed * width:g} + {data.bins_forward * width:g} ms)",
        f"neurons      {data.heldin} held-in + {data.heldout} held-out",
        "mean rate    "
        + ", ".join(f"{np.mean(x):.1f} spikes/s {name}" for name, x in held.items()),
        f"             {np.min(rates_N):.1f} to {np.max(rates_N):.1f} spikes/s a neuron; "
        f"{int(np.sum(rates_N == 0))} silent in training trials; "
        f"at most {_most(data)} spikes in a bin",
        f"recorded     {_known(data)}",
    ]
    lines += [f"behaviour    {_behavior(data)}", f"conditions   {_conditions(data)}"]
    targets = "known" if data.eval.heldout is not None else "not known: this recording has no score"
    lines.append(f"targets      {targets}")
    return "\n".join(lines)


def mean_rates_hz(data: SpikeData) -> Float[NDArray, " N"]:
    """Mean rate of every neuron over the training trials, spikes/s; held-in then held-out."""
    sizes = (data.bins_forward, data.heldout)
    counts, known = data.train.counts(*sizes), data.train.has_count(*sizes)
    bins_N = np.maximum(known.sum(axis=(0, 1)), 1)
    return counts.sum(axis=(0, 1), dtype=np.int64) / bins_N * (1000.0 / data.bin_ms)


def _most(data: SpikeData) -> int:
    return int(data.train.counts(data.bins_forward, data.heldout).max())


def _known(data: SpikeData) -> str:
    if data.train.recorded is None and data.eval.recorded is None:
        return "every bin of every trial"
    shares = {
        split: 1.0 if trials.recorded is None else float(trials.recorded.mean())
        for split, trials in (("training", data.train), ("evaluated", data.eval))
    }
    return ", ".join(
        f"{share:.1%} of the {split} trials' counts" for split, share in shares.items()
    )


def _behavior(data: SpikeData) -> str:
    found = [t.behavior for t in (data.train, data.eval) if t.behavior is not None]
    if not found:
        return "none"
    every = np.concatenate([x.reshape(-1, x.shape[-1]) for x in found])
    known = np.isfinite(every).all(axis=1)
    each = "in every bin" if found[0].ndim == 3 else "of every trial"
    spread = ", ".join(f"{s:.3g}" for s in np.std(every[known], axis=0)) if known.any() else "-"
    return f"{every.shape[1]} values {each}, {known.mean():.1%} known, standard deviation {spread}"


def _conditions(data: SpikeData) -> str:
    def sizes(trials: Trials) -> NDArray:
        labels = trials.conditions
        return np.zeros(0, int) if labels is None else np.bincount(labels[labels >= 0])

    train, evaluated = sizes(data.train), sizes(data.eval)
    number = max(len(train), len(evaluated))
    if not number:
        return "none"
    text = f"{number}"
    for split, x in (("training", train), ("evaluated", evaluated)):
        if len(x):
            x = np.pad(x, (0, number - len(x)))
            text += f", {x.min()} to {x.max()} {split} trials each"
    return text + (", with PSTHs" if data.psth is not None else "")


def of_file(path: str | Path) -> str:
    """What an NWB or HDF5 file offers.

    Raises:
        UserError: it is no such file, or damaged.
    """
    with open_hdf5(path) as file:
        is_nwb = "nwb_version" in file.attrs
        if not is_nwb:
            with explaining_damage(str(path)):
                return "\n".join([f"{path}: HDF5", *_members(file)])
    with open_nwb(path) as nwb:
        return "\n".join([f"{path}: NWB", *_units(nwb), *_trials(nwb), *_series(nwb)])


def _members(file: h5py.File) -> list[str]:
    lines = [f"{key} = {value}" for key, value in file.attrs.items()]
    rows = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            shape = " x ".join(map(str, item.shape)) if item.shape else "one value"
            rows.append([name, shape, str(item.dtype)])

    file.visititems(visit)
    return [*lines, tables.table(["array", "shape", "type"], rows, left=("shape", "type"))]


def _units(nwb: NWB) -> list[str]:
    try:
        units = nwb.units
    except UserError:
        return ["units: none with spike times"]
    counts = np.array([units.count(row) for row in range(len(units))])
    lines = [f"units: {len(units)}, {counts.sum()} spikes, {counts.min()} to {counts.max()} a unit"]
    intervals = units.observed(0)
    if intervals is not None and len(intervals):
        seconds = float(np.sum(intervals[:, 1] - intervals[:, 0]))
        lines.append(
            f"  the first observed {intervals.min():g} to {intervals.max():g} s, {seconds:g} s in "
            f"{len(intervals)} intervals"
        )
    return [*lines, f"  columns: {', '.join(units.columns)}"]


def _trials(nwb: NWB) -> list[str]:
    try:
        trials = nwb.trials
    except UserError:
        return ["trials: none"]
    rows = []
    for column in trials.columns:
        try:
            rows.append([column, _values(trials.column(column))])
        except UserError:
            rows.append([column, "lists"])
    return [f"trials: {len(trials)}", tables.table(["column", "values"], rows, wrap=("values",))]


def _values(values: NDArray) -> str:
    """What a column of trials holds: the range of numbers, or the first values and their counts."""
    if values.dtype.kind == "f" and len(values):
        known = values[np.isfinite(values)]
        span = f"{known.min():g} to {known.max():g}" if known.size else "none"
        return span + (f", {len(values) - known.size} NaN" if known.size < len(values) else "")
    kinds, counts = np.unique(values, return_counts=True)
    shown = ", ".join(f"{k} ({n})" for k, n in list(zip(kinds, counts, strict=True))[:8])
    return f"{shown}{' ...' if len(kinds) > 8 else ''}"


def _series(nwb: NWB) -> list[str]:
    rows = []
    for series in nwb.series.values():
        rate = "own times" if series.rate is None else f"{series.rate:g} samples/s"
        shape = " x ".join(map(str, series.shape))
        end = series.start + series.duration
        rows.append([series.name, shape, rate, f"{series.start:g} to {end:g} s"])
    heads = ["time series", "shape", "rate", "from, to"]
    shown = [tables.table(heads, rows, left=heads)] if rows else []
    return [f"time series: {len(rows) or 'none'}", *shown]
