"""Reading of NWB files through HDF5: which tables and time series there are, and where.

Any NWB 2 file can be read: only the schema of the standard is assumed, and no extension has to be
installed. Of NWB 1, the units of modules, epochs and time series are read. What is not asked for
cannot make a file unreadable: a series that cannot be read is listed with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from stndt_jax.data import hdf5_items, nwb_series
from stndt_jax.data.hdf5_items import array_in, attribute, group_in, text
from stndt_jax.data.nwb_series import Series
from stndt_jax.data.nwb_tables import MemoryTable, Table
from stndt_jax.data.nwb_units import NO_INTERVALS, OldUnits, Units
from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

TRIALS, INVALID = "intervals/trials", "intervals/invalid_times"
_OF_SERIES = ("acquisition", "processing", "stimulus")
_SKIPPED = ("specifications", "general")


class NWB:
    """An open NWB file.

    Attributes:
      path: the file.
      version: of NWB; empty if the file states none.
      series: its time series by name, see ``Series``.
      unit_tables: groups with spike times, by path.
      interval_tables: groups with begins and ends, by path.
      missing: what cannot be opened besides series, and why, by path.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.version = version_of(file)
        self._file = file
        self.series: dict[str, Series] = {}
        self.unit_tables: dict[str, h5py.Group] = {}
        self.interval_tables: dict[str, h5py.Group] = {}
        self.missing: dict[str, str] = {}
        with explaining_damage(str(path)):
            for found in hdf5_items.groups(file, _SKIPPED):
                self._add(found)

    @property
    def is_old(self) -> bool:
        """Whether the file is NWB 1."""
        return self.version.startswith(("0", "1"))

    def _add(self, found: hdf5_items.Member) -> None:
        top, _, rest = found.path.partition("/")
        name, group = rest or top, found.item
        if group is None:
            is_part = found.path.rpartition("/")[2] in ("data", "timestamps", "starting_time")
            if top in _OF_SERIES and not is_part:
                # A series as a whole may be a link into a file that is missing.
                where = f"{self.path}: series {name}"
                self.series[name] = nwb_series.broken(name, where, found.reason, self._file)
            elif not is_part:
                self.missing[found.path] = found.reason
            return
        assert isinstance(group, h5py.Group)
        if top in _OF_SERIES and nwb_series.is_series(group):
            self.series[name] = nwb_series.series(name, self.path, group)
        is_old = self.is_old and array_in(group, "spike_times") is None
        kind = text(attribute(group, "neurodata_type", ""))
        if is_old and (kind == "UnitTimes" or name.endswith("/UnitTimes")):
            self.unit_tables[found.path] = group
        if array_in(group, "spike_times") is not None:
            self.unit_tables[found.path] = group
        if self.is_old and top == "epochs":
            return
        if array_in(group, "start_time") is not None:
            self.interval_tables[found.path] = group

    @property
    def units(self) -> Units:
        """The only units table, or the one at its usual place.

        Raises:
          UserError: the file holds no spike times, or several tables of them.
        """
        return self.units_tables(())[0][1]

    def units_tables(self, names: Sequence[str]) -> list[tuple[str, Units]]:
        """Units tables, each with a name of its own among them.

        Args:
          names: paths, or ends of paths; none for the only one, or the one at its usual place.

        Raises:
          UserError: there is no such table, or none is named and there are several.

        Warns:
          UserWarning: the table is not at its usual place.
        """
        known = list(self.unit_tables)
        if not names:
            return [("", self._units_at(self._usual_units(known)))]
        paths = [self._named("units table", name, known, "--units-table") for name in names]
        return list(zip(_short(paths), map(self._units_at, paths), strict=True))

    def units_at(self, path: str) -> Units:
        """The units table at a path, which may be empty.

        Raises:
          UserError: it cannot be read.
        """
        group = self.unit_tables[path]
        kind = Units if array_in(group, "spike_times") is not None else OldUnits
        return kind(f"{self.path}: {path}", group)

    def _units_at(self, path: str) -> Units:
        found = self.units_at(path)
        if not len(found):
            more = [f"{other}" for other in self.unit_tables if other != path]
            rest = f"; other tables of units: {', '.join(more)}" if more else ""
            raise UserError(
                f"{self.path}: the units table {path} has no rows, so there are no spikes; take "
                f"another file{rest and ', or another table with --units-table'}{rest}"
            )
        return found

    def _usual_units(self, known: list[str]) -> str:
        if "units" in known:
            return "units"
        if len(known) == 1:
            if not self.is_old:
                warnings.warn(
                    f"{self.path}: units are read from {known[0]}, the only table of units",
                    UserWarning,
                    stacklevel=4,
                )
            return known[0]
        if known:
            raise UserError(
                f"{self.path} has no table units, but several others with spike times: "
                f"{', '.join(known)}; name one with --units-table={known[0]}, or join several: "
                f"--units-table={','.join(known[:2])}"
            )
        for path, reason in self.missing.items():
            if path == "units" or path.endswith(("/units", "spike_times")):
                raise UserError(f"{self.path}: {path} {reason}; put it back, or take another file")
        group = group_in(self._file, "units")
        if group is not None:
            columns = ", ".join(Table(f"{self.path}: units", group).columns)
            raise UserError(
                f"{self.path} has a units table without spike_times (columns: {columns or 'none'});"
                f" sort the spikes first, or take another file"
            )
        raise UserError(
            f"{self.path} has no units table with spike times in any group; sort the spikes first, "
            "or take another file"
        )

    @property
    def trials(self) -> Table:
        """The trials table.

        Raises:
          UserError: the file has none.
        """
        return self.intervals("")

    @cached_property
    def epochs(self) -> MemoryTable | None:
        """The epochs of NWB 1; None if there are none."""
        group = group_in(self._file, "epochs") if self.is_old else None
        names = [] if group is None else hdf5_items.names_in(group, f"{self.path}: epochs")
        epochs = [(name, group_in(group, name)) for name in names] if group is not None else []
        rows = []
        for name, epoch in epochs:
            ends = (
                []
                if epoch is None
                else [array_in(epoch, f"{end}_time") for end in ("start", "stop")]
            )
            if not ends or any(
                end is None or end.size != 1 or end.dtype.kind not in "uif" for end in ends
            ):
                continue
            assert epoch is not None
            times = [
                float(np.ravel(hdf5_items.load(end, str(self.path)))[0])
                for end in ends
                if end is not None
            ]
            data = array_in(epoch, "tags")
            tags = "" if data is None else hdf5_items.load(data, str(self.path))
            rows.append((name, *times, ",".join(map(str, np.ravel(tags)))))
        if not rows:
            return None
        called, starts, stops, tags_R = zip(*rows, strict=True)
        columns = {"start_time": np.array(starts), "stop_time": np.array(stops)}
        columns |= {"name": np.array(called, "U"), "tags": np.array(tags_R, "U")}
        return MemoryTable(f"{self.path}: epochs", columns, len(rows))

    def intervals(self, name: str) -> Table:
        """A table of intervals.

        Args:
          name: its path, or the end of it; empty for the trials.

        Raises:
          UserError: there is no such table, or several.
        """
        known = [path for path in self.interval_tables if path != INVALID]
        if self.is_old and self.epochs is not None and name in ("", "epochs"):
            return self.epochs
        if name:
            path = self._named("interval table", name, known, "--trials-table")
            return Table(f"{self.path}: {path.rpartition('/')[2]}", self.interval_tables[path])
        if TRIALS in known:
            return Table(f"{self.path}: trials", self.interval_tables[TRIALS])
        elsewhere = [path for path in known if path.rpartition("/")[2] == "trials"]
        if len(elsewhere) == 1:
            warnings.warn(
                f"{self.path}: trials are read from {elsewhere[0]}", UserWarning, stacklevel=3
            )
            return Table(f"{self.path}: trials", self.interval_tables[elsewhere[0]])
        if TRIALS in self.missing:
            raise UserError(f"{self.path}: {TRIALS} {self.missing[TRIALS]}; put it back")
        tables = ", ".join(path.removeprefix("intervals/") for path in known)
        if known:
            advice = f"name one with --trials-table={known[0].removeprefix('intervals/')}"
        else:
            advice = "add trials to the file, or bin the spikes and use: stndt prepare arrays"
        raise UserError(
            f"{self.path} has no trials table (tables of intervals: {tables or 'none'}); {advice}"
        )

    def _named(self, what: str, name: str, known: list[str], flag: str) -> str:
        """The path that a name or the end of a path stands for.

        Raises:
          UserError: none, or several.
        """
        wanted = name.strip("/")
        found = [path for path in known if path == wanted or path.endswith(f"/{wanted}")]
        found = [wanted] if wanted in found else found
        if len(found) != 1:
            if found:
                state = f"several {what}s {name}: {', '.join(found)}; give the whole path"
            else:
                state = f"no {what} {name}; present: {', '.join(known) or 'none'}"
            raise UserError(f"{self.path} has {state} with {flag}")
        return found[0]

    def invalid_times(self) -> Float[NDArray, "i 2"] | None:
        """Times in which nothing was recorded properly, s; None if the file states none.

        Raises:
          UserError: they cannot be read.
        """
        group = self.interval_tables.get(INVALID)
        if group is None:
            return None
        table = Table(f"{self.path}: invalid_times", group)
        try:
            low, high = table.times("start_time"), table.times("stop_time")
        except UserError as error:
            raise UserError(f"{error}; {NO_INTERVALS}") from None
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        found = np.stack([low, high], axis=1)[low < high]
        return found if len(found) else None

    def sampling_rate(self) -> float | None:
        """The rate at which spikes were recorded, samples/s; None if the file does not state it."""
        for group in self.unit_tables.values():
            spikes = array_in(group, "spike_times")
            resolution = 0.0 if spikes is None else hdf5_items.number(spikes, "resolution", 0)
            if 0 < resolution < 1e-3:
                return 1 / resolution
            rates = array_in(group, "sampling_rate")
            if rates is not None and rates.size and rates.dtype.kind in "uif":
                return float(np.ravel(hdf5_items.load(rates, str(self.path)))[0])
        return None

    def one_series(self, name: str, rate: float | None = None) -> Series:
        """A series by its name, or by the end of its name if that is unique.

        Args:
          name: of the series.
          rate: samples/s, in place of what the file states.

        Raises:
          UserError: there is no such series, several, or it cannot be read.
        """
        found = [s for key, s in self.series.items() if key == name or key.endswith(f"/{name}")]
        if len(found) != 1:
            names = ", ".join(s.name for s in found) or ", ".join(self.series) or "none"
            raise UserError(
                f"{self.path} has {'several series' if found else 'no series'} {name}; "
                f"{'name one of' if found else 'series:'} {names}"
            )
        if rate is not None:
            return found[0].sampled(rate)
        if found[0].problem:
            raise UserError(
                f"{found[0].where} {found[0].problem}; name another series or leave --behavior out"
            )
        return found[0]


def version_of(file: h5py.File) -> str:
    """The version of NWB that a file states, in an attribute or, as NWB 1 does, an array."""
    stated = attribute(file, "nwb_version")
    data = array_in(file, "nwb_version") if stated is None else None
    if data is not None:
        stated = hdf5_items.load(data, f"{file.filename}: nwb_version")
    return "" if stated is None else text(stated).strip().removeprefix("NWB-")


def is_nwb(file: h5py.File) -> bool:
    """Whether a file states a version of NWB, or has a units table without stating one."""
    units = group_in(file, "units")
    return bool(version_of(file)) or (
        units is not None and array_in(units, "spike_times") is not None
    )


@contextmanager
def open_nwb(path: str | Path) -> Iterator[NWB]:
    """Opens an NWB file for reading.

    Raises:
      UserError: the file is missing, damaged, or not NWB.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        if not is_nwb(file):
            raise UserError(
                f"{path} is HDF5, but not NWB; list its contents with: stndt inspect {path}"
            )
        yield NWB(path, file)


def _short(paths: Sequence[str]) -> list[str]:
    """What tells paths apart: without the first and last folders that all of them share."""
    parts = [path.split("/") for path in paths]
    while min(map(len, parts)) > 1 and len({names[-1] for names in parts}) == 1:
        parts = [names[:-1] for names in parts]
    while min(map(len, parts)) > 1 and len({names[0] for names in parts}) == 1:
        parts = [names[1:] for names in parts]
    return ["/".join(names) for names in parts]
