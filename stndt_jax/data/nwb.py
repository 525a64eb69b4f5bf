"""NWB files, read through HDF5 piece by piece: units, trials, time series.

Nothing is read before it is asked for, and spike times come unit by unit, so that a file of many
gigabytes needs the memory of its largest unit. Any file of NWB 2 will do: no schema beyond the
standard's is assumed, and no extension has to be installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data.validation import open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray

BLOCK = 1 << 20  # spike times read at once
MARK = 1 << 14  # distance of the sample times that are kept of a series


@dataclass(frozen=True)
class Series:
    """A time series: values at a rate of its own.

    Attributes:
        name: its path in the file, without the leading folder of the standard.
        shape: of its values, samples first.
        rate: samples/s; None where every sample has its own time.
        start: time of the first sample, s.
    """

    name: str
    shape: tuple[int, ...]
    rate: float | None
    start: float
    _group: h5py.Group

    @property
    def duration(self) -> float:
        """Time from the first sample to the last, s."""
        if self.rate is not None:
            return (self.shape[0] - 1) / self.rate
        return float(self._group["timestamps"][-1]) - self.start if self.shape[0] else 0.0

    @cached_property
    def _marks(self) -> Float[NDArray, " M"]:
        """Times of every MARK-th sample."""
        return self._group["timestamps"][::MARK]

    def between(
        self, start: float, stop: float
    ) -> tuple[Float[NDArray, " S"], Float[NDArray, "S D"]]:
        """Times (s) and values of the samples from `start` to `stop`, and one beyond either."""
        if self.rate is not None:
            first = int(np.floor((start - self.start) * self.rate)) - 1
            last = int(np.ceil((stop - self.start) * self.rate)) + 2
            first, last = (min(max(n, 0), self.shape[0]) for n in (first, last))
            times_S = self.start + np.arange(first, last) / self.rate
        else:
            # Every MARK-th time is known: only the times between two of them need be read.
            first = max(int(np.searchsorted(self._marks, start)) - 1, 0) * MARK
            last = int(np.searchsorted(self._marks, stop, side="right")) * MARK + 1
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
    """The columns of a table of the file; `where` starts every message about it."""

    def __init__(self, where: str, group: h5py.Group) -> None:
        self.where = where
        self._group = group
        listed = [_text(name) for name in group.attrs.get("colnames", [])]
        self.columns = [name for name in listed if name in group]

    def __len__(self) -> int:
        return len(self._group["id"]) if "id" in self._group else 0

    @property
    def ids(self) -> Int[NDArray, " n"]:
        """Identifiers of the rows; no two are the same."""
        ids = np.asarray(self._group["id"][()], np.int64)
        values, counts = np.unique(ids, return_counts=True)
        if np.any(counts > 1):
            raise UserError(
                f"{self.where}: id {values[counts > 1][0]} stands in {counts.max()} rows; give "
                "every row an id of its own"
            )
        return ids

    def column(self, name: str) -> NDArray:
        """A column with one value a row: numbers, booleans or text.

        Raises:
            UserError: no such column, listing those there are, or not one value a row.
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
            raise UserError(f"{self.where}: column {name} holds {data.dtype}; name one with values")
        return data[()]

    def flags(self, name: str) -> NDArray:
        """A column of true and false, whether stored as booleans or as 0 and 1."""
        x = self.column(name)
        if x.dtype.kind not in "bui" or not np.isin(x, (0, 1)).all():
            raise UserError(f"{self.where}: column {name} must hold true or false in every row")
        return x.astype(bool)

    def times(self, name: str) -> Float[NDArray, " n"]:
        """A column of times, s; NaN where a row has none."""
        x = self.column(name)
        if x.dtype.kind not in "uif":
            others = ", ".join(n for n in self.columns if n.endswith("_time"))
            raise UserError(
                f"{self.where}: column {name} holds no times; columns of times: {others or 'none'}"
            )
        return x.astype(np.float64)


class Units(Table):
    """The units table, whose rows have spike times and observation intervals."""

    def spikes(self, row: int) -> Iterator[Float[NDArray, " s"]]:
        """Spike times of a unit, s, in portions.

        Raises:
            UserError: times that are not numbers, or not in order.
        """
        first, last = self._range("spike_times", row)
        before = -np.inf
        for start in range(first, last, BLOCK):
            times = self._group["spike_times"][start : min(start + BLOCK, last)].astype(np.float64)
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

    def count(self, row: int) -> int:
        """The number of spikes of a unit."""
        first, last = self._range("spike_times", row)
        return last - first

    def observed(self, row: int) -> Float[NDArray, "i 2"] | None:
        """The intervals, s, in which a unit was recorded; None where the file tells none."""
        if "obs_intervals" not in self._group or "obs_intervals_index" not in self._group:
            return None
        first, last = self._range("obs_intervals", row)
        return (
            np.asarray(self._group["obs_intervals"][first:last], np.float64)
            if first < last
            else None
        )

    def _range(self, column: str, row: int) -> tuple[int, int]:
        index = self._group[f"{column}_index"]
        return int(index[row - 1]) if row else 0, int(index[row])


class NWB:
    """An open NWB file.

    Attributes:
        path: the file.
        units: its units table.
        trials: its trials table.
        series: its time series by name, `processing/behavior/hand_vel` as `behavior/hand_vel`.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self.series = self._find_series()

    @property
    def units(self) -> Units:
        """The units.

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
        """The trials.

        Raises:
            UserError: the file holds none.
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
        """A series by its name, or by the end of it where that is enough.

        Raises:
            UserError: no such series, or several.
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

        def visit(name: str, item: Any) -> None:
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
                self._file[top].visititems(lambda name, item, top=top: visit(f"{top}/{name}", item))
        return found


@contextmanager
def open_nwb(path: str | Path) -> Iterator[NWB]:
    """Opens an NWB file to read.

    Raises:
        UserError: no such file, damaged, or not NWB 2.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        version = _text(file.attrs.get("nwb_version", ""))
        if not version.startswith("2"):
            kind = f"NWB {version}, but NWB 2 is needed" if version else "HDF5, but not NWB"
            raise UserError(f"{path} is {kind}; see what it holds with: stndt inspect {path}")
        yield NWB(path, file)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
