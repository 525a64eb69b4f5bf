"""Spike times from an array of times and one of units, with one entry each for every spike."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import array_files, spike_times
from stndt_jax.data.array_files import ArrayFile
from stndt_jax.data.spike_times import SpikeTimes
from stndt_jax.data.tables import NAME
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

TIMES = (
    *("spike_times", "spike_time", "spiketimes", "spiketime", "spike_times_s", "spike_time_s"),
    *("spike_time_sec", "times", "time", "time_s", "times_s", "time_sec", "time_seconds"),
    *("timestamps", "timestamp", "timestamp_s", "timestamps_s", "t", "t_s", "spikes", "ts"),
    *("spike_times_ms", "spike_time_ms", "time_ms", "times_ms", "timestamp_ms", "timestamps_ms"),
    *("t_ms", "sample", "samples", "spike_samples", "spike_sample", "st"),
)
UNITS = (
    *("unit", "units", "unit_id", "unit_ids", "neuron", "neuron_id", "neuron_ids", "neurons"),
    *("cluster", "cluster_id", "cluster_ids", "clusters", "spike_clusters", "spike_cluster"),
    *("cell", "cell_id", "cell_ids", "cells", "id", "ids", "clu", "unitid", "neuronid"),
    *("unit_index", "neuron_index", "spike_units", "sorting_id"),
)
PROBES = ("probe", "probe_name", "probe_id", "electrode_group_name", "group_name", "shank")


class Pair(NamedTuple):
    """The arrays of a file that hold its spikes, by name.

    Attributes:
      time: times.
      unit: units.
      probe: what tells apart units of the same identifier; empty without it.
      others: arrays that are not used.
    """

    time: str
    unit: str
    probe: str
    others: tuple[str, ...]


def is_table(file: ArrayFile) -> bool:
    """Whether a file holds a table, with one entry for each row in all columns."""
    return file.path.suffix.lower() in array_files.TABLES


def find(file: ArrayFile) -> Pair | None:
    """The arrays of times and of units; None without such a pair of the same length."""
    kinds = ("numbers", "texts") if is_table(file) else ("numbers",)
    flat = {
        key: size
        for key, entry in file.entries.items()
        if (size := length(entry.shape)) is not None and entry.kind in (*kinds, "texts")
    }
    named = {last(key): key for key in flat if file.entries[key].kind in kinds}
    time, unit = (first(named, names) for names in (TIMES, UNITS))
    if time is None or unit is None or flat[time] != flat[unit]:
        return None
    probe = first({last(key): key for key in flat if flat[key] == flat[unit]}, PROBES)
    used = (time, unit, probe)
    return Pair(time, unit, probe or "", tuple(key for key in file.entries if key not in used))


def read(file: ArrayFile, pair: Pair) -> tuple[SpikeTimes, list[str]]:
    """The spikes of a pair of arrays, and what was taken of the file, for people.

    Units of several probes that have the same identifier are numbered anew, and named in the column
    ``unit_name``.

    Raises:
      UserError: times or units are texts, or units are no whole numbers from 0.

    Warns:
      UserWarning: spikes without a unit or time are left out, or units are numbered anew.
    """
    where = str(file.path)
    times, units = (np.ravel(np.asarray(file.read(key))) for key in (pair.time, pair.unit))
    for name, x in ((pair.time, times), (pair.unit, units)):
        if x.dtype.kind not in "uif":
            raise UserError(f"{where}: {name} holds {_text_in(x)}; give numbers")
    good = np.isfinite(times) & np.isfinite(units)
    if missing := int(np.sum(~good)):
        warnings.warn(
            f"{where}: left out {counted(missing, 'spike')} without a unit or a time",
            UserWarning,
            stacklevel=3,
        )
    times, units = times[good], units[good]
    bad = (units < 0) | (units >= MAX_COUNT) | (units != np.floor(units))
    if np.any(bad):
        raise UserError(
            f"{where} holds the unit {units[bad][0]}; give whole numbers from 0 to {MAX_COUNT - 1}"
        )
    tick = 1e-3 if last(pair.time).endswith("_ms") else 1.0
    notes = [f"not used: {', '.join(pair.others)}"] if pair.others else []
    if not pair.probe:
        found = spike_times.grouped(where, lambda: [(times, units)], tick=tick)
        return found, [f"{pair.time} as {_of(found)} in {pair.unit}", *notes]
    probes, row = np.unique(labels(np.ravel(file.read(pair.probe)))[good], return_inverse=True)
    keys, code = np.unique(row * MAX_COUNT + units.astype(np.int64), return_inverse=True)
    if len(keys) > MAX_COUNT:
        raise UserError(
            f"{where} holds {len(keys)} units, more than {MAX_COUNT}; check {pair.unit}"
        )
    found = spike_times.grouped(where, lambda: [(times, code)], tick=tick)
    keys = keys[found.ids]
    ids, columns = identified(where, keys % MAX_COUNT, probes[keys // MAX_COUNT])
    found = dataclasses.replace(found, ids=ids, columns=columns)
    return found, [f"{pair.time} as {_of(found)} in {pair.probe} and {pair.unit}", *notes]


def identified(where: str, ids: NDArray, probes: NDArray) -> tuple[NDArray, dict[str, NDArray]]:
    """Identifiers that are unique, and the columns ``probe`` and, if these are new, ``unit_name``.

    Args:
      where: what the units are of, with which messages start.
      ids: identifiers of the units, which may repeat on several probes.
      probes: the probe of every unit, as texts.

    Raises:
      UserError: two units of a probe have the same identifier.

    Warns:
      UserWarning: the units are numbered anew.
    """
    columns = {"probe": probes}
    if len(set(ids.tolist())) == len(ids):
        return ids, columns
    names = np.array([f"{a}:{b}" if a else str(b) for a, b in zip(probes, ids, strict=True)])
    if len(set(names.tolist())) < len(names):
        kinds, counts = np.unique(names, return_counts=True)
        raise UserError(
            f"{where}: {counts.max()} units are called {kinds[np.argmax(counts)]}; give each unit "
            f"of a probe an identifier of its own"
        )
    warnings.warn(
        f"{where}: the ids of the units repeat, so the units are numbered from 0, and the column "
        f"{NAME} names them: {names[0]} ...",
        UserWarning,
        stacklevel=4,
    )
    return np.arange(len(ids)), columns | {NAME: names}


def labels(given: NDArray) -> NDArray:
    """Entries as texts: whole numbers without a point, NaN as an empty text."""
    if given.dtype.kind != "f":
        return given.astype(str)
    texts = [f"{x:g}" if np.isfinite(x) else "" for x in given.tolist()]
    return np.array(texts, "U")


def last(name: str) -> str:
    """The last part of a name, as the lists of names have it: "Spike Time (s)" is spike_time_s."""
    part = name.replace("/", ".").rsplit(".", 1)[-1].lower()
    return re.sub(r"[^a-z0-9]+", "_", part).strip("_") if part.isascii() else part


def first(names: Mapping[str, str], known: Sequence[str] | Iterable[str]) -> str | None:
    """The first of the known names that there is, as the file has it."""
    return next((names[name] for name in known if name in names), None)


def length(shape: tuple[int, ...]) -> int | None:
    """The length of a vector, also of a row or column of a matrix; None of other shapes."""
    size = int(np.prod(shape, dtype=np.int64))
    return size if shape and size == max(shape) else None


def _of(found: SpikeTimes) -> str:
    return f"spike times of the {len(found)} units"


def _text_in(x: NDArray) -> str:
    """The first text that is no number, for messages."""
    return f"texts, such as {next((str(word) for word in x if str(word)), '')!r}"
