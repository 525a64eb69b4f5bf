"""Spike times, events, samples and counts from objects of other packages, by what they can do.

pynapple's ``TsGroup``, ``IntervalSet``, ``Ts`` and ``TsdFrame``; spikeinterface's sortings; neo's
spike trains, segments, events, epochs and analog signals; tables of pandas; arrays of xarray. None
of these packages is imported: an object is known by its attributes.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from stndt_jax.data import spike_times
from stndt_jax.data.behavior import TimedSamples
from stndt_jax.data.spike_files import TIMES, UNITS
from stndt_jax.data.spike_times import EventTable, SpikeTimes
from stndt_jax.data.tables import texts_or_numbers
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

# Names of the dimensions of an array of xarray.
_DIMENSIONS = {
    "trials": ("trial", "trials", "epoch", "epochs", "source_trial"),
    "bins": ("time", "times", "bin", "bins", "t", "time_bin"),
    "neurons": ("unit", "units", "neuron", "neurons", "cell", "cells", "unit_id", "cluster"),
}


def spikes(given: Any) -> SpikeTimes:
    """Spike times of units.

    Args:
      given: a ``TsGroup``, a sorting, a list of neo's spike trains, a segment, or a block of one
        segment; a table with the columns ``unit`` and ``time``, or with lists in a column
        ``spike_times``; spike times (s) by unit; or a list with those of every unit.

    Raises:
      UserError: it is none of these, or not of one segment.

    Warns:
      UserWarning: times were not in order, or no numbers.
    """
    if isinstance(given, SpikeTimes):
        return given
    if hasattr(given, "get_unit_spike_train"):
        return _sorting(given)
    if hasattr(given, "time_support") and hasattr(given, "keys"):
        return _ts_group(given)
    if hasattr(given, "segments") or hasattr(given, "spiketrains"):
        return _trains(_of_segment(given))
    if hasattr(given, "columns") and hasattr(given, "to_numpy"):
        return _frame(given)
    if isinstance(given, Mapping):
        return spike_times.from_lists("spikes", list(given.values()), list(given))
    try:
        rows = list(given)
    except TypeError:
        raise UserError(
            f"spikes is {reprlib.repr(given)}; give one list of times (s) for each unit, by unit "
            f"or in a list, or an object of pynapple, spikeinterface or neo"
        ) from None
    if rows and all(hasattr(row, "t_start") and hasattr(row, "rescale") for row in rows):
        return _trains(rows)
    if rows and all(np.ndim(row) == 0 for row in rows):
        raise UserError("spikes is one list of numbers; give one list of times (s) for each unit")
    return spike_times.from_lists("spikes", rows)


def _ts_group(given: Any) -> SpikeTimes:
    """A ``TsGroup`` of pynapple; outside its time support nothing was recorded."""
    keys = list(given.keys())
    columns = {}
    for name in map(str, getattr(given, "metadata_columns", ())):
        x = texts_or_numbers(np.asarray(given.get_info(name)))
        if name != "rate" and x is not None and x.shape == (len(keys),):
            columns[name] = x
    intervals = np.asarray(given.time_support.values, np.float64)
    lists = [np.asarray(given[key].t) for key in keys]
    return spike_times.from_lists("spikes", lists, keys, columns=columns, intervals=intervals)


def _sorting(given: Any) -> SpikeTimes:
    """A sorting of spikeinterface."""
    segments = given.get_num_segments()
    if segments != 1:
        raise UserError(
            f"spikes is a sorting of {segments} segments; give one, sorting.select_segments([0]), "
            f"or join them with spikeinterface.concatenate_sortings"
        )
    ids = list(given.get_unit_ids())
    lists = [given.get_unit_spike_train(unit, segment_index=0, return_times=True) for unit in ids]
    columns = {}
    for name in given.get_property_keys():
        x = texts_or_numbers(np.asarray(given.get_property(name)))
        if x is not None and x.shape == (len(ids),):
            columns[str(name)] = x
    return spike_times.from_lists("spikes", lists, ids, columns=columns)


def _of_segment(given: Any) -> list[Any]:
    """The spike trains of a segment of neo, or of a block of one."""
    if hasattr(given, "spiketrains"):
        return list(given.spiketrains)
    if len(given.segments) != 1:
        raise UserError(
            f"spikes is a block of {len(given.segments)} segments; give the spike trains of one: "
            f"block.segments[0]"
        )
    return list(given.segments[0].spiketrains)


def _trains(rows: list[Any]) -> SpikeTimes:
    """Spike trains of neo, recorded from the start of the first to the stop of the last."""
    lists = [np.asarray(row.rescale("s").magnitude) for row in rows]
    starts = [float(row.t_start.rescale("s").magnitude) for row in rows]
    stops = [float(row.t_stop.rescale("s").magnitude) for row in rows]
    names = [getattr(row, "name", None) or str(n) for n, row in enumerate(rows)]
    notes = [getattr(row, "annotations", {}) for row in rows]
    columns = {}
    for key in dict.fromkeys(key for note in notes for key in note):
        x = texts_or_numbers(np.asarray([note.get(key) for note in notes], object))
        if x is not None:
            columns[str(key)] = x
    intervals = np.array([[min(starts), max(stops)]]) if rows else None
    return spike_times.from_lists("spikes", lists, names, columns=columns, intervals=intervals)


def _frame(given: Any) -> SpikeTimes:
    """A table of pandas, with a row for each spike or for each unit."""
    names = {str(name).lower(): name for name in given.columns}
    time = next((names[n] for n in TIMES if n in names), None)
    unit = next((names[n] for n in UNITS if n in names), None)
    if time is not None and given[time].dtype != object and unit is not None:
        times, ids = given[time].to_numpy(), given[unit].to_numpy()
        return spike_times.grouped("spikes", lambda: [(times, ids)])
    if time is None or given[time].dtype != object:
        raise UserError(
            f"spikes is a table with the columns {', '.join(map(str, given.columns))}; give the "
            f"columns unit and time (s), or lists in a column spike_times"
        )
    columns = {}
    for name in given.columns:
        x = texts_or_numbers(given[name].to_numpy()) if name not in (time, unit) else None
        if x is not None and x.ndim == 1:
            columns[str(name)] = x
    ids = list(given.index if unit is None else given[unit])
    return spike_times.from_lists("spikes", list(given[time]), ids, columns=columns)


def events(given: Any) -> EventTable:
    """Events: one row a trial.

    Args:
      given: an ``IntervalSet`` or ``Ts``, events or epochs of neo, a table of pandas, columns by
        name, times (s), or begins and ends (trials, 2), s.

    Raises:
      UserError: it is none of these.
    """
    if isinstance(given, EventTable):
        return given
    columns: dict[str, Any]
    if hasattr(given, "start") and hasattr(given, "end") and hasattr(given, "metadata_columns"):
        columns = {"start": given.start, "end": given.end}
        columns |= {str(name): given.get_info(name) for name in given.metadata_columns}
    elif hasattr(given, "rescale") and hasattr(given, "times"):
        times = np.asarray(given.times.rescale("s").magnitude)
        columns = {"time": times}
        if len(getattr(given, "durations", ())):
            columns["end"] = times + np.asarray(given.durations.rescale("s").magnitude)
        if len(getattr(given, "labels", ())):
            columns["label"] = np.asarray(given.labels).astype(str)
    elif hasattr(given, "time_support") and hasattr(given, "t"):
        columns = {"time": given.t}
    elif isinstance(given, Mapping) or hasattr(given, "columns"):
        columns = {str(name): given[name] for name in given}
    else:
        try:
            x = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            x = np.zeros(())
        if x.ndim == 2 and x.shape[1] == 2:
            columns = {"start": x[:, 0], "end": x[:, 1]}
        elif x.ndim == 1 and x.size:
            columns = {"time": x}
        else:
            raise UserError(
                f"events is {reprlib.repr(given)}; give times (s), columns by name, a table of "
                f"pandas, or an IntervalSet of pynapple"
            )
    found = {}
    for name, column in columns.items():
        plain = texts_or_numbers(np.asarray(column))
        if plain is not None and plain.ndim == 1:
            found[name] = plain
    if not found or len({len(x) for x in found.values()}) > 1:
        raise UserError("events has columns of several lengths, or none; give one row per trial")
    return EventTable("events", found)


def series(given: Any) -> tuple[TimedSamples, tuple[str, ...]]:
    """Samples of behaviour with their times, and the names of their dimensions.

    Args:
      given: a ``Tsd`` or ``TsdFrame``, an analog signal of neo, an array of xarray with the
        coordinate ``time`` (s), or times (s) and values.

    Raises:
      UserError: it is none of these, or times do not rise.
    """
    names: tuple[str, ...] = ()
    if hasattr(given, "time_support") and hasattr(given, "t") and hasattr(given, "values"):
        times, values = given.t, np.asarray(given.values)
        names = tuple(map(str, getattr(given, "columns", ())))
    elif hasattr(given, "rescale") and hasattr(given, "times"):
        times, values = given.times.rescale("s").magnitude, np.asarray(given.magnitude)
    elif hasattr(given, "dims") and hasattr(given, "coords"):
        if "time" not in given.coords:
            raise UserError("behavior is an array without the coordinate time; give one, in s")
        rest = [dim for dim in given.dims if dim != "time"]
        times = given.coords["time"].values
        values = given.transpose("time", *rest).values
        if len(rest) == 1 and rest[0] in given.coords:
            names = tuple(map(str, given.coords[rest[0]].values))
    elif isinstance(given, tuple) and len(given) == 2:
        times, values = given
    else:
        raise UserError(
            f"behavior is {reprlib.repr(given)}; give times (s) and values, (times, values), or an "
            f"object of pynapple, neo or xarray"
        )
    times_S, x = np.asarray(times, np.float64), np.asarray(values, np.float64)
    x_SD = x.reshape(len(x), -1) if x.ndim else np.zeros((0, 1))
    good = times_S.ndim == 1 and len(times_S) == len(x_SD) >= 2
    if not good or not np.isfinite(times_S).all() or np.any(np.diff(times_S) < 0):
        raise UserError(
            f"behavior has {times_S.size} times of {len(x_SD)} samples; give one for each sample, "
            f"s, that rise"
        )
    return TimedSamples("behavior", times_S, x_SD), names if len(names) == x_SD.shape[1] else ()


def counts(given: Any) -> tuple[Any, NDArray | None]:
    """Counts with their axes in order, and identifiers of the neurons; other objects as they are.

    Args:
      given: an array of xarray with dimensions such as ``trial``, ``time`` and ``unit``.

    Raises:
      UserError: its dimensions have other names.
    """
    if not hasattr(given, "dims") or not hasattr(given, "transpose"):
        return given, None
    roles = {}
    for dim in given.dims:
        role = next((r for r, names in _DIMENSIONS.items() if str(dim).lower() in names), None)
        if role is None or role in roles:
            raise UserError(
                f"spikes has the dimensions {', '.join(map(str, given.dims))}; name them trial, "
                f"time and unit"
            )
        roles[role] = dim
    if set(roles) != set(_DIMENSIONS):
        raise UserError(
            f"spikes has the dimensions {', '.join(map(str, given.dims))}; give trial, time and "
            f"unit"
        )
    ordered = given.transpose(*(roles[role] for role in _DIMENSIONS))
    ids = given.coords[roles["neurons"]].values if roles["neurons"] in given.coords else None
    return ordered.values, ids if ids is not None and ids.dtype.kind in "ui" else None
