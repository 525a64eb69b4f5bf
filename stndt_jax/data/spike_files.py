"""Spike times and events from files of any format.

=====================  ==========================================================================
spike times            what it holds
=====================  ==========================================================================
.csv, .tsv, .parquet   one row a spike: columns ``unit`` and ``time``, and perhaps ``probe``
.npz, .mat, HDF5       the same as two arrays, such as ``spike_clusters`` and ``spike_times``; one
                       list of times a unit, as arrays, cells, object arrays or structures
.npy                   an object array with one list of times a unit
a directory               of Kilosort or phy
=====================  ==========================================================================

Events are a table, or arrays of the same length, with one row a trial.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data import array_files, kilosort, spike_pairs, spike_times, table_files, time_units
from stndt_jax.data.array_files import ArrayFile
from stndt_jax.data.spike_pairs import PROBES, TIMES, UNITS, first, last, length
from stndt_jax.data.spike_times import EventTable, SpikeTimes
from stndt_jax.data.table_files import Choices
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray


def read(named: str | Path, *, every: bool = False, rate: float | None = None) -> SpikeTimes:
    """Spike times from a file or directory.

    Args:
      named: the file or directory; behind a colon, the array with the lists of times.
      every: take all units of a directory, not those that are labelled good.
      rate: sampling rate of a directory, samples/s, in place of its own.

    Raises:
      UserError: the file is missing or damaged, or holds no spike times.
    """
    return read_with_notes(named, every=every, rate=rate)[0]


def read_with_notes(
    named: str | Path, *, every: bool = False, rate: float | None = None
) -> tuple[SpikeTimes, list[str]]:
    """As :func:`read`, and what was taken of the file, for people."""
    path, name = table_files.split(str(named))
    if os.path.isdir(path):
        if not kilosort.is_directory(path):
            raise UserError(
                f"{path} is a directory without {kilosort.TIMES}; give a directory of Kilosort or "
                f"phy, or a file of spike times"
            )
        return kilosort.read(path, every=every, rate=rate)
    if path.suffix.lower() == ".nwb":
        raise UserError(
            f"{path} is an NWB file; run: stndt prepare custom --nwb={shlex.quote(str(path))}"
        )
    file = array_files.open_file(path)
    if pair := None if name else spike_pairs.find(file):
        return spike_pairs.read(file, pair)
    is_rows = all(entry.kind in ("numbers", "texts") for entry in file.entries.values())
    if spike_pairs.is_table(file) and is_rows:
        raise UserError(
            f"{path} has the columns {', '.join(file.entries) or 'none'}; name the columns unit "
            f"and time, with one row for each spike; counts per bin go into: stndt prepare arrays "
            f"--spikes={shlex.quote(str(path))}"
        )
    lists, names, columns = _lists(file, name)
    found = spike_times.from_lists(str(path), lists, names, columns=columns)
    what = name or (next(iter(file.entries)) if len(file.entries) == 1 else "arrays")
    return found, [f"{what or path.name} as spike times of {len(found)} units"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which units of a file are taken, and what is known of them.

    Attributes:
      units: identifiers, ``COLUMN=VALUE`` or a file, as
        :class:`stndt_jax.data.table_files.Choices` takes them; ``all``; empty for all, or of a
        directory of Kilosort those that are labelled good.
      skipped: units to leave out, in the same way.
      unit_table: file with columns about units; with a column ``unit``, in any order.
      time_unit: of the spike times, as :func:`stndt_jax.data.time_units.seconds` takes it; empty
        for s, unless they cannot be s, or for what a directory states.
    """

    units: str = ""
    skipped: str = ""
    unit_table: str = ""
    time_unit: str = ""

    def read(self, named: str | Path) -> tuple[SpikeTimes, list[str]]:
        """The units of a file, and what was taken of it, for people.

        Raises:
          UserError: the file cannot be read, or a unit or column is unknown.
        """
        tick = time_units.seconds("spike-time-unit", self.time_unit)
        is_directory = kilosort.is_directory(named)
        rate = 1 / tick if tick and is_directory else None
        found, notes = read_with_notes(named, every=bool(self.units), rate=rate)
        if tick and not is_directory:
            found = dataclasses.replace(found, tick=tick)
        if self.unit_table:
            found = spike_times.with_columns(found, self._table(found))
        number = len(found)
        for option, words in (("units", self.units), ("skip-units", self.skipped)):
            if words and words != "all":
                hint = "give it in --unit-table"
                choices = Choices(option, "units", found.ids, found.columns, hint)
                found = found.take(choices.chosen(words) == (option == "units"))
        if len(found) < number:
            notes = [*notes, f"{len(found)} of {number} units taken"]
        return found, notes

    def states_unit(self, named: str | Path) -> bool:
        """Whether the unit of time is known, by the user or the file."""
        return bool(self.time_unit) or kilosort.is_directory(named)

    def _table(self, found: SpikeTimes) -> dict[str, NDArray]:
        """The columns of the table, in the order of the units."""
        columns = dict(table_files.read(self.unit_table))
        ids = columns.pop("unit", None)
        if ids is None:
            if columns and len(next(iter(columns.values()))) != len(found):
                raise UserError(
                    f"--unit-table={self.unit_table} has {len(next(iter(columns.values())))} rows, "
                    f"but there are {len(found)} units; give a column unit with their identifiers"
                )
            return columns
        at = {int(unit): row for row, unit in enumerate(ids) if np.isfinite(unit)}
        missing = [int(unit) for unit in found.ids if int(unit) not in at]
        if missing:
            raise UserError(
                f"--unit-table={self.unit_table} has no row for unit {missing[0]}; give one for "
                f"each of the {len(found)} units"
            )
        rows = [at[int(unit)] for unit in found.ids]
        return {name: column[rows] for name, column in columns.items()}


def events(named: str | Path) -> EventTable:
    """Events from a table, or from arrays of the same length.

    Args:
      named: the file; behind a colon, the array of times, or the structure of MATLAB with columns.

    Raises:
      UserError: the file is missing or damaged, or holds no columns of the same length.
    """
    path, name = table_files.split(str(named))
    file = array_files.open_file(path)
    columns: dict[str, NDArray] = {}
    for key, entry in file.entries.items():
        is_field = bool(name) and key.startswith((f"{name}.", f"{name}/"))
        if name and key != name and not is_field:
            continue
        if entry.kind not in ("numbers", "texts", "lists"):
            if key == name and _are_structures(rows := file.read(key)):
                fields = {field: _column(_field(rows, field)) for field in rows[0]}
                columns |= {field: x for field, x in fields.items() if x is not None}
            continue
        x = _column(file.read(key))
        if x is not None:
            columns[key.removeprefix(f"{name}.").removeprefix(f"{name}/") or "time"] = x
        elif key == name and (found := _matrix(file.read(key))) is not None:
            columns |= found
    if name and not columns:
        raise UserError(f"{path} has no column {name}; it holds {file.listed()}")
    lengths = {len(x) for x in columns.values()}
    if len(lengths) > 1:
        most = max(lengths, key=lambda n: sum(len(x) == n for x in columns.values()))
        alike = sum(len(x) == most for x in columns.values())
        if alike == 1:
            raise UserError(
                f"{path} holds arrays of several lengths: {file.listed()}; name the one with the "
                f"times, for example {path}:{next(iter(columns))}"
            )
        columns = {key: x for key, x in columns.items() if len(x) == most}
    structures = [key for key, entry in file.entries.items() if entry.kind == "other"]
    if not columns and structures:
        likely = next((k for k in structures if re.search("trial|event", k, re.I)), structures[0])
        raise UserError(
            f"{path} holds {file.listed()}; name the structures with the events, for example "
            f"{path}:{likely}"
        )
    if not columns or not max(lengths):
        raise UserError(f"{path} holds no events; give a table with one row for each trial")
    return EventTable(str(named), columns)


def holds_pair(file: ArrayFile) -> bool:
    """Whether a file holds arrays of spike times and of their units."""
    return spike_pairs.find(file) is not None


def _lists(file: ArrayFile, name: str) -> tuple[list[Any], list[Any] | None, dict[str, NDArray]]:
    """One list of times a unit, their names, and columns about units.

    Raises:
      UserError: the file holds no such lists.
    """
    entries = {key: e for key, e in file.entries.items() if e.kind != "texts"}
    if name:
        return _of_one(file, name)
    several = {k: e for k, e in entries.items() if e.kind in ("lists", "other")}
    known = [k for k in several if last(k) in (*TIMES, *UNITS)]
    if len(several) == 1 or len(known) == 1:
        key = (known or list(several))[0]
        lists, names, columns = _of_one(file, key)
        given = next((k for k in entries if k not in several and last(k) in UNITS), None)
        if names is None and given is not None and length(entries[given].shape) == len(lists):
            names = np.ravel(file.read(given)).tolist()
        return lists, names, columns
    numbers = {key: entry for key, entry in entries.items() if entry.kind == "numbers"}
    vectors = [key for key, entry in numbers.items() if length(entry.shape) is not None]
    if len(vectors) > 1 and len(vectors) == len(entries):
        return [file.read(key) for key in vectors], list(vectors), {}
    raise UserError(
        f"{file.path} holds {file.listed()}, which are no spike times; give columns unit and time, "
        f"or one list of times for each unit; counts per bin go into: stndt prepare arrays "
        f"--spikes={shlex.quote(str(file.path))}"
    )


def _of_one(file: ArrayFile, name: str) -> tuple[list[Any], list[Any] | None, dict[str, NDArray]]:
    """As :func:`_lists`, of one array, cell array, or array of structures."""
    found = file.read(name)
    if _are_structures(found):
        keys = {last(key): key for key in found[0]}
        time, unit, probe = (first(keys, known) for known in (TIMES, UNITS, PROBES))
        if time is not None and all(time in row for row in found):
            ids = None if unit is None else _column(_field(found, unit))
            probes = None if probe is None else _column(_field(found, probe))
            names, columns = _named(file.where(name), ids, probes)
            return [row[time] for row in found], names, columns
    lists = array_files.as_lists(found)
    if lists is None:
        raise UserError(
            f"{file.where(name)} holds no lists of spike times; give one list for each unit, or "
            f"columns unit and time"
        )
    return lists, None, {}


def _named(
    where: str, ids: NDArray | None, probes: NDArray | None
) -> tuple[list[Any] | None, dict[str, NDArray]]:
    """What units of an array of structures are called, and columns about them.

    Warns:
      UserWarning: identifiers repeat, so that the units are numbered anew.
    """
    columns = {} if probes is None else {"probe": spike_pairs.labels(probes)}
    if ids is None:
        return None, columns
    names = spike_pairs.labels(ids)
    if len(set(names.tolist())) == len(names):
        return names.tolist(), columns
    if probes is not None:
        return None, spike_pairs.identified(where, names, columns["probe"])[1]
    warnings.warn(
        f"{where}: the ids of the units repeat, and nothing says on which probe they are, so the "
        f"units are numbered from 0",
        UserWarning,
        stacklevel=5,
    )
    return names.tolist(), columns


def _are_structures(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(row, dict) for row in found)


def _field(rows: list[dict[str, Any]], name: str) -> NDArray:
    """A field of an array of structures as an object array; empty ones are NaN."""
    found = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        x = np.asarray(row.get(name, np.nan))
        found[number] = x if x.size else np.asarray(np.nan)
    return found


def _column(found: Any) -> NDArray | None:
    """One value a row, of numbers or texts; None of anything else."""
    if isinstance(found, np.ndarray) and found.dtype == object:
        texts = [np.ravel(x) for x in found.flat]
        if all(t.size == 1 and t.dtype.kind == "U" for t in texts):
            return np.array([str(t[0]) for t in texts], "U")
        if all(t.size == 1 and t.dtype.kind in "buif" for t in texts):
            return np.array([float(t[0]) for t in texts])
        return None
    x = np.asarray(found)
    if x.dtype.kind not in "buifU" or not x.shape or x.size != max(x.shape):
        return None
    return x.ravel()


def _matrix(found: Any) -> dict[str, NDArray] | None:
    """Begins and ends of trials from a matrix (trials, 2)."""
    x = np.asarray(found)
    if x.ndim != 2 or x.shape[1] != 2 or x.dtype.kind not in "buif":
        return None
    return {"start": x[:, 0], "end": x[:, 1]}
