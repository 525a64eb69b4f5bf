"""Summaries of recordings and of files, as text for the reader of a terminal or a report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import h5py
import numpy as np

from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.data import contents, labels, nwb
from stndt_jax.data.nwb import NWB
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
    unit = f" ({called.unit})" if called.unit else ""
    if called.is_named:
        what = f"{counted(number, 'value')} {each}: {', '.join(called.names)}{unit}"
    else:
        what = f"{counted(number, 'value')}{unit} {each}"
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
    """What a file or folder contains: of an NWB file units, columns of the trials, time series.

    Raises:
      UserError: the file is missing, damaged, or of another format.
    """
    if contents.is_other(path):
        return contents.of(path)
    with open_hdf5(path) as file:
        if not nwb.is_nwb(file):
            with explaining_damage(str(path)):
                lines = [f"{path}: HDF5", *_members(file)]
                return "\n".join([*lines, *contents.of_hdf5(path)])
    with nwb.open_nwb(path) as found:
        lines = [f"{path}: NWB {found.version or 'of a version that it does not state'}"]
        lines += [
            *_units(found),
            *_intervals(found),
            *_series(found),
            *_missing(found),
            *_next(found),
        ]
        return "\n".join(lines)


def _members(file: h5py.File) -> list[str]:
    lines = [f"{key} = {value}" for key, value in file.attrs.items()]
    rows = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            shape = " x ".join(map(str, item.shape)) if item.shape else "one value"
            rows.append([name, shape, str(item.dtype)])

    file.visititems(visit)
    return [*lines, tables.table(["array", "shape", "type"], rows, left=("shape", "type"))]


def _units(found: NWB) -> list[str]:
    """Every table of units; what is wrong with one is said beside it."""
    lines = []
    for path in found.unit_tables:
        place = "" if path == "units" else f" in {path}"
        try:
            lines += _units_in(found.units_at(path), place)
        except UserError as error:
            lines.append(f"units{place}: {error}")
    return lines or ["units: none with spike times"]


def _units_in(units: nwb.Units, place: str) -> list[str]:
    counts, problem = units.counts()
    lines = [f"units{place}: {len(units)}"]
    if len(units):
        lines[0] += f", {counts.sum()} spikes, {counts.min()} to {counts.max()} per unit"
    if problem:
        lines.append(f"  {problem}")
    if len(set(units.own_ids.tolist())) < len(units):
        lines.append("  ids repeat: several units have the same one")
    try:
        intervals = units.recorded_intervals(0) if len(units) else None
    except UserError as error:
        lines.append(f"  {error}")
        intervals = None
    if intervals is not None:
        seconds = float(np.sum(intervals[:, 1] - intervals[:, 0]))
        lines.append(
            f"  the first unit was recorded from {intervals.min():g} to {intervals.max():g} s, "
            f"{seconds:g} s in {counted(len(intervals), 'interval')}"
        )
    for what, known in (("areas", units.areas), ("probes", units.probes)):
        if known is not None:
            names, numbers = np.unique(known, return_counts=True)
            pairs = zip(names, numbers, strict=True)
            lines.append(f"  {what}: " + ", ".join(f"{name or 'none'} ({n})" for name, n in pairs))
    return [*lines, f"  columns: {', '.join(units.columns)}"]


def _intervals(found: NWB) -> list[str]:
    """The trials, or all tables of intervals if there are none; and invalid times."""
    lines = []
    others = [path for path in found.interval_tables if path not in (nwb.TRIALS, nwb.INVALID)]
    if nwb.TRIALS in found.interval_tables or found.epochs is not None:
        lines += _listed(found, "")
        if others:
            lines.append(f"other tables of intervals: {', '.join(map(_short, others))}")
    else:
        lines.append("trials: none" + "; tables of intervals:" * bool(others))
        for path in others:
            lines += _listed(found, path)
    try:
        invalid = found.invalid_times()
    except UserError as error:
        return [*lines, f"invalid times: {error}"]
    if invalid is not None:
        spans = ", ".join(f"{low:g} to {high:g} s" for low, high in invalid[:8])
        lines.append(f"invalid times: {spans}{' ...' if len(invalid) > 8 else ''}")
    return lines


def _listed(found: NWB, path: str) -> list[str]:
    """A table of intervals with its columns; the trials, or epochs of NWB 1, for an empty path."""
    try:
        table = found.intervals(path)
    except UserError as error:
        return [f"{_short(path) or 'trials'}: {error}"]
    return _table(table, _short(path) or ("epochs" if found.is_old else "trials"))


def _short(path: str) -> str:
    return path.removeprefix("intervals/")


def _table(table: nwb.Table, name: str) -> list[str]:
    rows = []
    for column in table.columns:
        try:
            rows.append([column, _values(table.column(column))])
        except UserError as error:
            is_lists = "holds lists" in str(error)
            reason = str(error).removeprefix(f"{table.where}: column {column} ").partition(";")[0]
            rows.append([column, "lists" if is_lists else reason])
    head = f"{name}: {len(table)}"
    return [head, tables.table(["column", "values"], rows, wrap=("values",))] if rows else [head]


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


def _series(found: NWB) -> list[str]:
    rows = []
    for series in found.series.values():
        shape = " x ".join(map(str, series.shape)) or "-"
        if series.problem:
            rows.append([series.name, shape, "-", f"cannot be read: {series.problem}"])
            continue
        rate = "timestamps" if series.rate is None else f"{series.rate:g} samples/s"
        try:
            span = f"{series.start:g} to {series.start + series.duration:g} s"
            odd = "; ".join(filter(None, (series.note, series.clock_note)))
        except UserError as error:
            span, odd = "-", str(error)
        rows.append([series.name, shape, rate, f"{span}; {odd}" if odd else span])
    heads = ["time series", "shape", "rate", "from, to"]
    shown = [tables.table(heads, rows, left=heads, wrap=("from, to",))] if rows else []
    return [f"time series: {len(rows) or 'none'}", *shown]


def _missing(found: NWB) -> list[str]:
    return [f"missing: {path} {reason}" for path, reason in found.missing.items()]


def _next(found: NWB) -> list[str]:
    """The command that makes a recording of the file; nothing if it lacks what that needs."""
    known = [path for path in found.interval_tables if path != nwb.INVALID]
    if not found.unit_tables or not (known or found.epochs):
        return []
    flags = [f"--nwb={found.path}"]
    if "units" not in found.unit_tables and len(found.unit_tables) > 1:
        flags.append(f"--units-table={','.join(found.unit_tables)}")
    table = nwb.TRIALS
    if table not in known and not found.is_old:
        table = max(known, key=lambda path: path.rpartition("/")[2] == "trials")
        flags.append(f"--trials-table={_short(table)}")
    try:
        columns = found.intervals("" if found.is_old or table == nwb.TRIALS else table).columns
    except UserError:
        return []
    events = [name for name in columns if name not in ("start_time", "stop_time")]
    named = [name for name in events if re.search("go|move|onset|cue|stim.*time", name.lower())]
    align = next((name for name in named if name.endswith("_time")), "start_time")
    flags += [f"--align={align}", "--window=-250,450", "--out=data"]
    return [f"next: stndt prepare custom {shlex.join(flags)}"]
