"""Summaries of recordings and of files, as text for the reader of a terminal or a report."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.data import labels
from stndt_jax.data.nwb import NWB, open_nwb
from stndt_jax.data.tables import SOURCE
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

_LABEL = 13  # characters of a line before its text


def of_recording(data: SpikeData) -> str:
    """Trials, bins, neurons, mean rates, behaviour and conditions of a recording.

    Returns:
      The lines of ``facts``, each with its label in front.
    """
    return "\n".join(f"{label:{_LABEL}}{text}" for label, text in facts(data))


def facts(data: SpikeData) -> list[tuple[str, str]]:
    """What a recording contains, as pairs of a label and a line of text.

    The label is empty where a line continues the one before.
    """
    width, observed, forward = data.bin_ms, data.bins_observed, data.bins_forward
    hz_N = mean_rates_hz(data)
    means = {"held-in": hz_N[: data.heldin], "held-out": hz_N[data.heldin :]}
    most = int(data.train.counts(forward, data.heldout).max())
    has_targets = data.eval.heldout is not None
    return [
        ("recording", data.name),
        ("trials", f"{len(data.train)} to train on, {len(data.eval)} to evaluate"),
        (
            "bins",
            f"{observed} observed + {forward} forward, of {width:g} ms "
            f"({observed * width:g} + {forward * width:g} ms){_lengths(data)}",
        ),
        ("neurons", f"{data.heldin} held-in + {data.heldout} held-out"),
        *([] if data.areas is None else [("areas", _areas(data))]),
        (
            "mean rate",
            ", ".join(f"{np.mean(hz_n):.1f} spikes/s {name}" for name, hz_n in means.items()),
        ),
        (
            "",
            f"{np.min(hz_N):.1f} to {np.max(hz_N):.1f} spikes/s per neuron; "
            f"{int(np.sum(hz_N == 0))} silent in training trials; at most "
            f"{counted(most, 'spike')} in a bin",
        ),
        ("recorded", _recorded(data)),
        ("behaviour", _behavior(data)),
        ("conditions", _conditions(data)),
        ("targets", "available" if has_targets else "withheld: there will be no scores"),
        *_kept(data),
    ]


def _areas(data: SpikeData) -> str:
    """Held-in and held-out neurons of every area, in the order of their names."""
    assert data.areas is not None
    is_out = np.arange(data.neurons) >= data.heldin
    return ", ".join(
        f"{area or 'none'} {np.sum(mine & ~is_out)} + {np.sum(mine & is_out)}"
        for area in np.unique(data.areas)
        for mine in [data.areas == area]
    )


def _kept(data: SpikeData) -> list[tuple[str, str]]:
    """Which columns of the tables are kept."""
    columns = {
        "trials": [name for name in data.train.columns if name != SOURCE],
        "units": [name for name in data.unit_columns if name != "area"],
    }
    starts = ["start_s"] * (data.train.starts is not None)
    columns["trials"] = starts + columns["trials"]
    texts = [f"of {of}: {', '.join(names)}" for of, names in columns.items() if names]
    return [("columns", "; ".join(texts))] if texts else []


def mean_rates_hz(data: SpikeData) -> Float[NDArray, " N"]:
    """Mean rate of every neuron in the training trials, spikes/s; held-in then held-out."""
    sizes = (data.bins_forward, data.heldout)
    bins_N = np.maximum(data.train.has_count(*sizes).sum(axis=(0, 1)), 1)
    spikes_N = data.train.counts(*sizes).sum(axis=(0, 1), dtype=np.int64)
    return spikes_N / bins_N * (1000.0 / data.bin_ms)


def _lengths(data: SpikeData) -> str:
    """How long trials are, if they are not all equal, to follow the number of bins."""
    splits = (data.train, data.eval)
    bins_R = np.concatenate([trials.in_trial(data.bins).sum(axis=1) for trials in splits])
    low, high = int(bins_R.min()), int(bins_R.max())
    return "" if low == high else f"; trials of {low} to {high} bins"


def _recorded(data: SpikeData) -> str:
    if data.train.recorded is None and data.eval.recorded is None:
        return "every bin of every trial"
    fractions = {
        split: float(trials.recorded[trials.in_trial(data.bins)].mean())
        if trials.recorded is not None
        else 1.0
        for split, trials in (("training", data.train), ("evaluated", data.eval))
    }
    if set(fractions.values()) == {1.0}:
        return "every bin of every trial"
    return ", ".join(
        f"{fraction:.1%} of the {split} trials' counts" for split, fraction in fractions.items()
    )


def _behavior(data: SpikeData) -> str:
    called = labels.behavior(data)
    found = [
        t.behavior[t.in_trial(data.bins)[:, : data.bins_observed]] if t.behavior.ndim == 3
        else t.behavior
        for t in (data.train, data.eval)
        if t.behavior is not None
    ]  # fmt: skip
    if called is None or not found:
        return "none"
    every_SD = np.concatenate(found)
    present_S = np.isfinite(every_SD).all(axis=1)
    in_bins = any(t.behavior is not None and t.behavior.ndim == 3 for t in (data.train, data.eval))
    each = "in every bin" if in_bins else "of every trial"
    deviations = np.std(every_SD[present_S], axis=0) if present_S.any() else []
    number = every_SD.shape[1]
    what = f"{counted(number, 'value')} {each}"
    if called.is_named or called.unit:
        unit = f"({called.unit})" if called.unit else ""
        names = ", ".join(called.names) if called.is_named else ""
        what += f": {f'{names} {unit}'.strip()}"
    return (
        f"{what}, {present_S.mean():.1%} present, standard deviation "
        f"{', '.join(f'{x:.3g}' for x in deviations) or '-'}"
    )


def _conditions(data: SpikeData) -> str:
    def sizes(trials: Trials) -> NDArray:
        given = trials.conditions
        return np.zeros(0, int) if given is None else np.bincount(given[given >= 0])

    train, evaluated = sizes(data.train), sizes(data.eval)
    number = max(len(train), len(evaluated))
    if not number:
        return "none"
    text = f"{number}"
    if names := data.condition_names:
        shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        text += f" ({shown})"
    for split, x in (("training", train), ("evaluated", evaluated)):
        if len(x):
            x = np.pad(x, (0, number - len(x)))
            text += f", {x.min()} to {x.max()} {split} trials each"
    return text + (", with PSTHs" if data.psth is not None else "")


def of_file(path: str | Path) -> str:
    """What an NWB file (units, columns of the trials, time series) or HDF5 file contains.

    Raises:
      UserError: the file is missing, damaged, or of another format.
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
    lines = [
        f"units: {len(units)}, {counts.sum()} spikes, {counts.min()} to {counts.max()} per unit"
    ]
    intervals = units.recorded_intervals(0)
    if intervals is not None and len(intervals):
        seconds = float(np.sum(intervals[:, 1] - intervals[:, 0]))
        lines.append(
            f"  the first unit was recorded from {intervals.min():g} to {intervals.max():g} s, "
            f"{seconds:g} s in {len(intervals)} intervals"
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
    """The range of a column of numbers, or the first values of another with their counts."""
    if values.dtype.kind == "f" and len(values):
        finite = values[np.isfinite(values)]
        span = f"{finite.min():g} to {finite.max():g}" if finite.size else "none"
        missing = len(values) - finite.size
        return span + (f", {missing} NaN" if missing else "")
    kinds, counts = np.unique(values, return_counts=True)
    shown = ", ".join(f"{k} ({n})" for k, n in list(zip(kinds, counts, strict=True))[:8])
    return f"{shown}{' ...' if len(kinds) > 8 else ''}"


def _series(nwb: NWB) -> list[str]:
    rows = []
    for series in nwb.series.values():
        rate = "timestamps" if series.rate is None else f"{series.rate:g} samples/s"
        shape = " x ".join(map(str, series.shape))
        end = series.start + series.duration
        rows.append([series.name, shape, rate, f"{series.start:g} to {end:g} s"])
    heads = ["time series", "shape", "rate", "from, to"]
    shown = [tables.table(heads, rows, left=heads)] if rows else []
    return [f"time series: {len(rows) or 'none'}", *shown]
