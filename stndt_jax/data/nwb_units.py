"""Units tables of an NWB file: spike times, when units were recorded, where their electrodes are.

Spike times are read in blocks, so that a file of many gigabytes needs little memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import h5py
import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import hdf5_items
from stndt_jax.data.hdf5_items import array_in, attribute, text
from stndt_jax.data.nwb_series import NOTHING
from stndt_jax.data.nwb_tables import Lists, Table, intervals_of
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray

SPIKES_PER_BLOCK = 1 << 20  # spike times read at once
WHOLE = 1 << 21  # spike times of a unit that are checked in memory, the others in two passes
_LONGEST_AREA = 40  # characters; a longer location is a description
_ELECTRODES = "general/extracellular_ephys/electrodes"
# Columns of units that say in which area a unit lies, and others that are kept if they are there.
AREA_COLUMNS = ("area", "brain_area", "brain_region", "region", "location", "structure")
KEPT_COLUMNS = ("quality", "unit_quality", "KSLabel", "cell_type")
NO_INTERVALS = "leave all intervals aside with --noobs-intervals"


class Units(Table):
    """The units table; its rows have spike times and observation intervals."""

    _most_rows = MAX_COUNT

    def __init__(self, where: str, group: h5py.Group) -> None:
        super().__init__(where, group)
        self._times = Lists(f"{where}: spike_times", group, "spike_times", self._rows)
        self._swapped: dict[int, int] = {}  # spike times that are earlier than the one before
        self._dropped: dict[int, int] = {}  # spike times that are no numbers
        self._open_ends = 0  # NaN among observation intervals

    def spikes(self, row: int) -> Iterator[Float[NDArray, " s"]]:
        """Spike times of a unit, s, in order, in blocks.

        Times out of order are sorted, and those that are no numbers left out; ``notes`` counts
        them.

        Raises:
          UserError: index and spike times disagree, or the file is damaged.
        """
        first, last = self._span(row)
        if last - first > WHOLE and self._is_ordered(row, first, last):
            for start in range(first, last, SPIKES_PER_BLOCK):
                yield self._read_times(row, start, min(start + SPIKES_PER_BLOCK, last))
            return
        times = self._ordered(row, self._read_times(row, first, last))
        for start in range(0, len(times), SPIKES_PER_BLOCK):
            yield times[start : start + SPIKES_PER_BLOCK]

    def _read_times(self, row: int, start: int, stop: int) -> Float[NDArray, " s"]:
        times = self._times.read(row, start, stop)
        if times.dtype.kind not in "uif":
            raise UserError(
                f"{self.where}: spike_times have type {times.dtype}; numbers are needed"
            )
        return times.astype(np.float64)

    def _is_ordered(self, row: int, first: int, last: int) -> bool:
        before = -np.inf
        for start in range(first, last, SPIKES_PER_BLOCK):
            times = self._read_times(row, start, min(start + SPIKES_PER_BLOCK, last))
            if not np.isfinite(times).all() or np.any(np.diff(times, prepend=before) < 0):
                return False
            before = times[-1]
        return True

    def _ordered(self, row: int, times: Float[NDArray, " s"]) -> Float[NDArray, " k"]:
        """Finite times, sorted; notes what had to be changed."""
        finite = np.isfinite(times)
        if not finite.all():
            if not self._times.is_padded:
                self._dropped[row] = int(np.sum(~finite))
            times = times[finite]
        back = int(np.sum(np.diff(times) < 0))
        if back:
            self._swapped[row] = back
            times = np.sort(times)
        return times

    def notes(self) -> list[str]:
        """What was changed in the spike times and intervals that were read, and how much of it."""
        found = []
        if self._open_ends:
            found.append(
                f"{self.where}: {counted(self._open_ends, 'end')} of observation intervals "
                f"{'is' if self._open_ends == 1 else 'are'} NaN, which is taken for no end"
            )
        if self._dropped:
            number = sum(self._dropped.values())
            found.append(
                f"{self.where}: left out {counted(number, 'NaN or infinite spike time')} of "
                f"{self._named(self._dropped)}"
            )
        if self._swapped:
            number = sum(self._swapped.values())
            found.append(
                f"{self.where}: the spike times of {self._named(self._swapped)} were not in order, "
                f"{number} of them earlier than the one before, and are sorted"
            )
        return found

    def _named(self, rows: dict[int, int]) -> str:
        ids = [str(self.own_ids[row]) for row in list(rows)[:8]]
        more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
        return f"unit{'s' * (len(rows) > 1)} {', '.join(ids)}{more}"

    def count(self, row: int) -> int:
        """The number of spike times of a unit."""
        first, last = self._span(row)
        return last - first

    def counts(self) -> tuple[Int[NDArray, " n"], str]:
        """The number of spike times of all units, 0 where unknown, and why it is unknown."""
        found, problem = np.zeros(len(self), np.int64), ""
        for row in range(len(self)):
            try:
                found[row] = self.count(row)
            except UserError as error:
                problem = problem or str(error)
        return found, problem

    def _span(self, row: int) -> tuple[int, int]:
        if self._times.problem:
            return self._times.span(row)
        try:
            return self._times.span(row)
        except UserError as error:
            number = self.own_ids[row]
            raise UserError(
                f"{error}; unit {number} has no spike times that are surely its own: leave it out "
                f"with --skip-units={number}"
            ) from None

    def recorded_intervals(self, row: int) -> Float[NDArray, "i 2"] | None:
        """The observation intervals of a unit, s, open ends infinite; None if there are none.

        Raises:
          UserError: they cannot be understood.
        """
        if self._observed is None:
            return None
        intervals, ends = self._observed
        found = intervals[ends[row - 1] if row else 0 : ends[row]]
        if np.any(found[:, 0] > found[:, 1]):
            bad = found[np.argmax(found[:, 0] > found[:, 1])]
            raise UserError(
                f"{self.where}: an observation interval of unit {self.own_ids[row]} ends before it "
                f"begins ({bad[0]:g} to {bad[1]:g} s); {NO_INTERVALS}"
            )
        return found if len(found) else None

    @cached_property
    def _observed(self) -> tuple[Float[NDArray, "i 2"], Int[NDArray, " n"]] | None:
        """All observation intervals, and where those of each unit end; None without any."""
        data = array_in(self._group, "obs_intervals")
        if data is None or not data.size:
            return None
        where = f"{self.where}: obs_intervals"
        x = hdf5_items.load(data, where)
        index = array_in(self._group, "obs_intervals_index")
        ends: NDArray | None = np.arange(1, self._rows + 1)
        if index is not None:
            ends = hdf5_items.whole_numbers(index, f"{where}_index")
        if ends is None:
            ends = np.zeros(0, np.int64)
        if len(ends) == self._rows + 1 and ends[0] == 0:
            ends = ends[1:]
        if x.ndim == 1 and len(ends) and ends[-1] == x.size:
            ends = ends // 2
        is_clear = len(ends) == self._rows and not np.any(np.diff(ends, prepend=0) < 0)
        is_number = x.dtype.kind in "uif"
        if is_number:
            self._open_ends = int(np.sum(np.isnan(x)))
        intervals = intervals_of(x, int(ends[-1])) if is_clear and is_number else None
        if intervals is None:
            stated = f"{len(ends)} ends" if index is not None else "no index"
            raise UserError(
                f"{where} of shape {x.shape} with {stated} for {self._rows} units cannot be "
                f"understood; {NO_INTERVALS}"
            )
        return intervals, ends

    @property
    def areas(self) -> NDArray | None:
        """The area of every unit: its own column, or the location of its electrodes or their group.

        Empty where none is stated; None if none is stated for any unit.
        """
        own = [self._areas_in(name) for name in AREA_COLUMNS if name in self.columns]
        stated = [areas for areas in own if areas is not None]
        found = stated[0] if stated else np.array([self._area(n) for n in range(len(self))], "U")
        return found if np.any(found != "") else None

    def _areas_in(self, name: str) -> NDArray | None:
        """The areas of a column of texts; None if it states none."""
        if self._holds(name) or not hdf5_items.is_text(self._group[name]):
            return None
        found = np.array([area_of(value) for value in self._read(name)], "U")
        return found if np.any(found != "") else None

    @property
    def probes(self) -> NDArray | None:
        """The electrode group of every unit, empty where unknown; None if none is known."""
        for name in ("probe", "probe_name", "electrode_group_name", "group_name"):
            if name in self.columns and not self._holds(name):
                return self._read(name).astype(str)
        groups = [self._electrode_group(row) for row in range(len(self))]
        names = [(group.name or "").rpartition("/")[2] if group else "" for group in groups]
        if not any(names):
            names = [next(iter(self._of_electrodes(n, "group_name")), "") for n in range(len(self))]
        return np.array(names, "U") if any(names) else None

    def _area(self, row: int) -> str:
        """The location of a unit's first electrode with one, or else of its electrode group."""
        places = self._of_electrodes(row, "location")
        group = self._electrode_group(row)
        if group is not None:
            places.append(text(attribute(group, "location", "")))
        return next((area for area in map(area_of, places) if area), "")

    def _electrode_group(self, row: int) -> h5py.Group | None:
        """The electrode group that a unit refers to; None if it refers to none that is there."""
        try:
            found = self._group.file[self._group_references[row]]
        except hdf5_items.DAMAGE:
            return None
        return found if isinstance(found, h5py.Group) else None

    @cached_property
    def _group_references(self) -> Sequence[h5py.Reference]:
        """References to the electrode groups of all units; none if there are none."""
        data = array_in(self._group, "electrode_group")
        if data is None or h5py.check_ref_dtype(data.dtype) is not h5py.Reference:
            return ()
        return list(np.ravel(data[()]))

    def _of_electrodes(self, row: int, name: str) -> list[str]:
        """What the table of electrodes says of those of a unit; empty where it says nothing."""
        said, electrodes = self._electrode_texts(name), self._electrode_lists
        if said is None or electrodes is None or electrodes.problem:
            return []
        try:
            first, last = electrodes.span(row)
            numbers = np.asarray(electrodes.read(row, first, last)).astype(np.int64)
        except (UserError, TypeError, ValueError):
            return []
        return [str(said[n]) for n in numbers if 0 <= n < len(said)]

    @cached_property
    def _electrode_lists(self) -> Lists | None:
        data = array_in(self._group, "electrodes")
        if data is None:
            return None
        is_single = array_in(self._group, "electrodes_index") is None and data.size == self._rows
        try:
            if is_single:
                return _Singles(f"{self.where}: electrodes", data)
            return Lists(f"{self.where}: electrodes", self._group, "electrodes", self._rows)
        except UserError:
            return None

    def _electrode_texts(self, name: str) -> NDArray | None:
        if name not in self._electrode_columns:
            table = hdf5_items.group_in(self._group.file, _ELECTRODES)
            data = None if table is None else array_in(table, name)
            self._electrode_columns[name] = None
            if data is not None and hdf5_items.is_text(data):
                with contextlib.suppress(UserError):  # nobody asks for electrodes
                    said = np.ravel(hdf5_items.load(data, f"{self.where}: {name}"))
                    self._electrode_columns[name] = said
        return self._electrode_columns[name]

    @cached_property
    def _electrode_columns(self) -> dict[str, NDArray | None]:
        return {}


class _Singles(Lists):
    """One value a row, which needs no index."""

    def __init__(self, where: str, data: h5py.Dataset) -> None:
        self.where, self.problem = where, ""
        self._values = np.ravel(hdf5_items.load(data, where))

    def span(self, row: int) -> tuple[int, int]:
        return row, row + 1

    def read(self, row: int, start: int, stop: int) -> NDArray:
        return self._values[start:stop]


class OldUnits(Units):
    """The units of NWB 1: a group of each, with its spike times."""

    def __init__(self, where: str, group: h5py.Group) -> None:
        self.where, self._group = where, group
        self._units = [
            (name, data)
            for name in hdf5_items.names_in(group, where)
            for unit in [hdf5_items.group_in(group, name)]
            for data in ([] if unit is None else [array_in(unit, "times")])
            if data is not None
        ]
        self._rows, self.columns = len(self._units), ["name"]
        self._swapped, self._dropped, self._open_ends = {}, {}, 0
        self._times = _Groups(f"{where}: times", [data for _, data in self._units])

    @cached_property
    def own_ids(self) -> NDArray:
        numbers = [re.search(r"([0-9]{1,9})$", name) for name, _ in self._units]
        ids = [int(found[1]) for found in numbers if found]
        return np.array(ids) if len(set(ids)) == self._rows else np.arange(self._rows)

    def _holds(self, name: str) -> str:
        return ""

    def _read(self, name: str) -> NDArray:
        return np.array([name for name, _ in self._units], "U")

    def recorded_intervals(self, row: int) -> None:
        return None


class _Groups(Lists):
    """The values of every row in an array of their own."""

    def __init__(self, where: str, arrays: Sequence[h5py.Dataset]) -> None:
        self.where, self.problem, self._arrays = where, "", arrays
        self._form = ""

    def span(self, row: int) -> tuple[int, int]:
        return 0, int(self._arrays[row].size)

    def read(self, row: int, start: int, stop: int) -> NDArray:
        with hdf5_items.explaining_damage(self.where):
            data = self._arrays[row]
            return data[start:stop] if data.ndim == 1 else np.ravel(data[()])[start:stop]


def area_of(location: str) -> str:
    """The area that the text of a location states; empty if none, or if it is no short name."""
    # Some files write several facts into the text, the area among them.
    named = re.search(r"brain_(?:area|regions?)\W+([^;,'\"}\]]+)", location)
    area = (named[1] if named else location).strip()
    is_name = len(area) <= _LONGEST_AREA and area.lower() not in NOTHING
    return area if is_name else ""
