"""Reading of NWB files through HDF5: units, trials, time series.

Data are read lazily and spike times in blocks, so that a file of many gigabytes needs little
memory. Any NWB 2 file can be read: only the schema of the standard is assumed, and no extension
has to be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray

SPIKES_PER_BLOCK = 1 << 20  # spike times read at once
INDEX_STRIDE = 1 << 14  # samples of a series between two timestamps that are kept in memory
_LONGEST_AREA = 40  # characters; a longer location is a description
# What a field of NWB that must not be missing says if nothing is known.
_NOTHING = {"", "n/a", "na", "none", "null", "unknown", "unspecified", "no location"}


@dataclass(frozen=True)
class Series:
    """A time series, with a sampling rate or a timestamp of every sample.

    Attributes:
      name: its path in the file, without the first folder: ``behavior/hand_vel`` for
        ``processing/behavior/hand_vel``.
      shape: shape of its values, samples first.
      rate: samples/s; None if every sample has a timestamp.
      start: time of the first sample, s.
    """

    name: str
    shape: tuple[int, ...]
    rate: float | None
    start: float
    _group: h5py.Group

    @property
    def duration(self) -> float:
        """Time from the first sample to the last, s; 0 without samples."""
        if self.rate is not None:
            return (self.shape[0] - 1) / self.rate
        return float(self._group["timestamps"][-1]) - self.start if self.shape[0] else 0.0

    @property
    def unit(self) -> str:
        """The unit of its values, for example m/s; empty if the file states none."""
        unit = _text(self._group["data"].attrs.get("unit", "")).strip()
        return "" if unit.lower() in _NOTHING else unit

    @property
    def is_stored_in_unit(self) -> bool:
        """Whether the values are stored in this unit, without a scale or an offset."""
        attributes = self._group["data"].attrs
        return bool(attributes.get("conversion", 1) == 1 and attributes.get("offset", 0) == 0)

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of its values in a sample; empty if the file states none.

        A single value has the name of the series. Of several, some files list the names in the
        comments, as ``columns=[x,y]``.
        """
        number = int(np.prod(self.shape[1:], dtype=int))
        if number == 1:
            return (self.name.rpartition("/")[2],)
        listed = re.search(r"columns=\[([^\]]*)\]", _text(self._group.attrs.get("comments", "")))
        names = tuple(part.strip() for part in listed[1].split(",")) if listed else ()
        return names if len(names) == number and all(names) else ()

    @cached_property
    def _index(self) -> Float[NDArray, " M"]:
        """The timestamp, s, of every INDEX_STRIDE-th sample."""
        return self._group["timestamps"][::INDEX_STRIDE]

    def between(
        self, start: float, stop: float
    ) -> tuple[Float[NDArray, " S"], Float[NDArray, "S D"]]:
        """Reads the samples from ``start`` to ``stop``, s, and one more on either side.

        Returns:
          Times (s) and values of the samples, values with their scale and offset applied.
        """
        if self.rate is not None:
            first = int(np.floor((start - self.start) * self.rate)) - 1
            last = int(np.ceil((stop - self.start) * self.rate)) + 2
            first, last = (min(max(n, 0), self.shape[0]) for n in (first, last))
            times_S = self.start + np.arange(first, last) / self.rate
        else:
            # Only the timestamps between two entries of the index have to be read.
            first = max(int(np.searchsorted(self._index, start)) - 1, 0) * INDEX_STRIDE
            last = int(np.searchsorted(self._index, stop, side="right")) * INDEX_STRIDE + 1
            last = min(last, self.shape[0])
            times_S = self._group["timestamps"][first:last]
            low = max(int(np.searchsorted(times_S, start)) - 1, 0)
            high = min(int(np.searchsorted(times_S, stop, side="right")) + 1, len(times_S))
            times_S, first, last = times_S[low:high], first + low, first + high
        data = self._group["data"]
        x_SD = np.asarray(data[first:last], np.float64).reshape(last - first, -1)
        scale, offset = (float(data.attrs.get(k, v)) for k, v in (("conversion", 1), ("offset", 0)))
        return times_S, x_SD * scale + offset


class Table:
    """A table of the file.

    Attributes:
      where: file and name of the table, with which every error message starts.
      columns: names of the columns.
    """

    def __init__(self, where: str, group: h5py.Group) -> None:
        self.where = where
        self._group = group
        listed = [_text(name) for name in group.attrs.get("colnames", [])]
        self.columns = [name for name in listed if name in group]

    def __len__(self) -> int:
        return len(self._group["id"]) if "id" in self._group else 0

    @property
    def ids(self) -> Int[NDArray, " n"]:
        """Identifiers of the rows.

        Raises:
          UserError: two rows have the same one.
        """
        ids = np.asarray(self._group["id"][()], np.int64)
        values, counts = np.unique(ids, return_counts=True)
        if np.any(counts > 1):
            raise UserError(
                f"{self.where}: {counts.max()} rows have the id {values[counts > 1][0]}; give "
                "every row an id of its own"
            )
        return ids

    def column(self, name: str) -> NDArray:
        """Reads a column with one value per row: numbers, booleans or text.

        Raises:
          UserError: there is no such column, or it holds lists or something else.
        """
        if name not in self.columns:
            plain = ", ".join(n for n in self.columns if f"{n}_index" not in self._group)
            raise UserError(f"{self.where} has no column {name}; columns: {plain or 'none'}")
        data = self._group[name]
        if f"{name}_index" in self._group or data.ndim != 1:
            raise UserError(f"{self.where}: column {name} holds lists; name one with single values")
        if h5py.check_string_dtype(data.dtype):
            return np.asarray([_text(value) for value in data[()]])
        if data.dtype.kind not in "buif":
            raise UserError(
                f"{self.where}: column {name} has type {data.dtype}; name one with numbers or text"
            )
        return data[()]

    def numbered(self, name: str) -> NDArray:
        """As :meth:`column`; ``id`` is the identifiers of the rows."""
        return self.ids if name == "id" and name not in self.columns else self.column(name)

    def flags(self, name: str) -> NDArray:
        """Reads a column of booleans, stored as such or as 0 and 1.

        Raises:
          UserError: there is no such column, or it holds other values.
        """
        x = self.column(name)
        if x.dtype.kind not in "bui" or not np.isin(x, (0, 1)).all():
            raise UserError(f"{self.where}: column {name} must hold true or false in every row")
        return x.astype(bool)

    def times(self, name: str) -> Float[NDArray, " n"]:
        """Reads a column of times, s; NaN where a row has none.

        Raises:
          UserError: there is no such column, or it holds no numbers.
        """
        x = self.column(name)
        if x.dtype.kind not in "uif":
            others = ", ".join(n for n in self.columns if n.endswith("_time"))
            raise UserError(
                f"{self.where}: column {name} holds no times; columns of times: {others or 'none'}"
            )
        return x.astype(np.float64)


class Units(Table):
    """The units table; its rows have spike times and observation intervals."""

    def spikes(self, row: int) -> Iterator[Float[NDArray, " s"]]:
        """Spike times of a unit, s, in blocks.

        Raises:
          UserError: a time is not finite, or times are not in order.
        """
        first, last = self._range("spike_times", row)
        before = -np.inf
        for start in range(first, last, SPIKES_PER_BLOCK):
            stop = min(start + SPIKES_PER_BLOCK, last)
            times = self._group["spike_times"][start:stop].astype(np.float64)
            what = f"{self.where}: the spike times of unit {self._group['id'][row]}"
            if not np.isfinite(times).all():
                bad = int(np.argmin(np.isfinite(times)))
                raise UserError(f"{what} hold {times[bad]} at {start - first + bad}; remove it")
            steps = np.diff(times, prepend=before)
            if np.any(steps < 0):
                bad = int(np.argmax(steps < 0))
                raise UserError(
                    f"{what} are not in order: number {start - first + bad} is {times[bad]:.6f} s, "
                    f"the one before is later; sort them"
                )
            before = times[-1]
            yield times

    @property
    def areas(self) -> NDArray | None:
        """The location of every unit's electrodes, or else of its electrode group.

        Empty where none is stated; None if none is stated for any unit.
        """
        with explaining_damage(self.where):
            found = np.array([self._area(row) for row in range(len(self))], "U")
        return found if np.any(found != "") else None

    def _area(self, row: int) -> str:
        """The location of a unit's first electrode with one, or else of its electrode group."""
        places: list[str] = []
        electrodes = self._group.file.get("general/extracellular_ephys/electrodes")
        if "electrodes_index" in self._group and electrodes is not None:
            first, last = self._range("electrodes", row)
            if "location" in electrodes:
                places += [
                    _text(electrodes["location"][n]) for n in self._group["electrodes"][first:last]
                ]
        if "electrode_group" in self._group:
            group = self._group.file[self._group["electrode_group"][row]]
            places.append(_text(group.attrs.get("location", "")))
        return next((area for area in map(_area_of, places) if area), "")

    def count(self, row: int) -> int:
        """The number of spikes of a unit."""
        first, last = self._range("spike_times", row)
        return last - first

    def recorded_intervals(self, row: int) -> Float[NDArray, "i 2"] | None:
        """The observation intervals of a unit, s: when it was recorded; None if there are none."""
        if "obs_intervals" not in self._group or "obs_intervals_index" not in self._group:
            return None
        first, last = self._range("obs_intervals", row)
        return (
            np.asarray(self._group["obs_intervals"][first:last], np.float64)
            if first < last
            else None
        )

    def _range(self, column: str, row: int) -> tuple[int, int]:
        """First and last index of a row's values in a column of lists."""
        index = self._group[f"{column}_index"]
        return int(index[row - 1]) if row else 0, int(index[row])


class NWB:
    """An open NWB file.

    Attributes:
      path: the file.
      series: its time series by name, see ``Series``.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self.series = self._find_series()

    @property
    def units(self) -> Units:
        """The units table.

        Raises:
          UserError: the file holds no spike times.
        """
        group = self._file.get("units")
        if group is None or "spike_times" not in group or "spike_times_index" not in group:
            raise UserError(
                f"{self.path} has no units table with spike times; sort the spikes first, or take "
                "another file"
            )
        return Units(f"{self.path}: units", group)

    @property
    def trials(self) -> Table:
        """The trials table.

        Raises:
          UserError: the file has none.
        """
        group = self._file.get("intervals/trials")
        if group is None:
            tables = ", ".join(self._file.get("intervals", {}))
            raise UserError(
                f"{self.path} has no trials table (intervals present: {tables or 'none'}); add "
                "trials to the file, or bin the spikes and use: stndt prepare arrays"
            )
        return Table(f"{self.path}: trials", group)

    def one_series(self, name: str) -> Series:
        """A series by its name, or by the end of its name if that is unique.

        Raises:
          UserError: there is no such series, or several.
        """
        found = [s for key, s in self.series.items() if key == name or key.endswith(f"/{name}")]
        if len(found) != 1:
            names = ", ".join(s.name for s in found) or ", ".join(self.series) or "none"
            raise UserError(
                f"{self.path} has {'several series' if found else 'no series'} {name}; "
                f"{'name one of' if found else 'series:'} {names}"
            )
        return found[0]

    def _find_series(self) -> dict[str, Series]:
        found: dict[str, Series] = {}

        def add_series(name: str, item: Any) -> None:
            timed = isinstance(item, h5py.Group) and "data" in item
            if not timed or not ("timestamps" in item or "starting_time" in item):
                return
            if not isinstance(item["data"], h5py.Dataset) or item["data"].dtype.kind not in "uif":
                return
            short = name.partition("/")[2] or name
            if "starting_time" in item:
                rate: float | None = float(item["starting_time"].attrs["rate"])
                start = float(item["starting_time"][()])
            else:
                rate, times = None, item["timestamps"]
                start = float(times[0]) if len(times) else 0.0
            found[short] = Series(short, item["data"].shape, rate, start, item)

        for top in ("acquisition", "processing", "stimulus"):
            if top in self._file:
                self._file[top].visititems(
                    lambda name, item, top=top: add_series(f"{top}/{name}", item)
                )
        return found


@contextmanager
def open_nwb(path: str | Path) -> Iterator[NWB]:
    """Opens an NWB file for reading.

    Raises:
      UserError: the file is missing, damaged, or not NWB 2.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        version = _text(file.attrs.get("nwb_version", ""))
        if not version.startswith("2"):
            kind = f"NWB {version}, but NWB 2 is needed" if version else "HDF5, but not NWB"
            raise UserError(f"{path} is {kind}; list its contents with: stndt inspect {path}")
        yield NWB(path, file)


def _area_of(location: str) -> str:
    """The area that the text of a location states; empty if none, or if it is no short name."""
    # Some files write several facts into the text, the area among them.
    named = re.search(r"brain_(?:area|regions?)\W+([^;,'\"}\]]+)", location)
    area = (named[1] if named else location).strip()
    is_name = len(area) <= _LONGEST_AREA and area.lower() not in _NOTHING
    return area if is_name else ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
