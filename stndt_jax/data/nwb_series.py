"""Time series of an NWB file, whatever their form; one that cannot be read says why.

Series are read in parts, so that one of many gigabytes needs little memory.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import h5py
import numpy as np

from stndt_jax.data import clocks, hdf5_items, limits
from stndt_jax.data.hdf5_items import attribute, number, part, text
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

INDEX_STRIDE = 1 << 14  # samples of a series between two timestamps that are kept in memory
_FEW = 16  # values of a sample; few samples with many more values are transposed
_BLOCK = 1 << 20  # timestamps that are read at once
_FIRST = 1 << 12  # timestamps among which the first that is a number is looked for
# What a field of NWB that must not be missing says if nothing is known.
NOTHING = {"", "n/a", "na", "none", "null", "nan", "unknown", "unspecified", "no location"}


@dataclass(frozen=True)
class Series:
    """A time series, with a sampling rate or a timestamp of every sample.

    Attributes:
      name: its path in the file, without the first folder: ``behavior/hand_vel`` for
        ``processing/behavior/hand_vel``.
      shape: shape of its values, samples first.
      rate: samples/s; None if every sample has a timestamp.
      start: time of the first sample, s.
      where: file and name, with which messages start.
      problem: why it cannot be read, to follow its name; empty if it can.
      note: what is odd in it, but understood; empty if nothing is.
    """

    name: str
    shape: tuple[int, ...]
    rate: float | None
    start: float
    where: str
    problem: str
    note: str
    _group: h5py.Group
    _axis: int  # of the samples: 0, or -1 where they are last in the file

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.shape[0] if self.shape else 0

    @property
    def duration(self) -> float:
        """Time from the first sample to the last, s; 0 without samples."""
        if self.problem or not self.samples:
            return 0.0
        if self.rate is not None:
            return (self.samples - 1) / self.rate
        last = _number_of(_times(self._group, self.where, self.samples - _FIRST, self.samples), -1)
        return last - self.start

    def sampled(self, rate: float) -> Series:
        """The series with another sampling rate, samples/s, in place of what the file states.

        Raises:
          UserError: it has timestamps, no starting time or no values, or the rate cannot be.
        """
        if not 0 < rate < np.inf:
            raise UserError(f"--behavior-rate is {rate:g}; give samples/s, above 0")
        is_fixed = "rate" in self.problem or self.rate is not None
        if not is_fixed or not self.shape or not np.isfinite(self.start):
            raise UserError(
                f"{self.where} {self.problem or 'has timestamps'}; leave --behavior-rate out"
            )
        return replace(self, rate=rate, problem="")

    @property
    def unit(self) -> str:
        """The unit of its values, for example m/s; empty if the file states none."""
        unit = text(attribute(self._data, "unit", "")).strip()
        return "" if unit.lower() in NOTHING else unit

    @property
    def is_stored_in_unit(self) -> bool:
        """Whether the values are stored in this unit, without a scale or an offset."""
        return number(self._data, "conversion", 1) == 1 and number(self._data, "offset", 0) == 0

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of its values in a sample; empty if the file states none.

        A single value has the name of the series. Of several, some files list the names in the
        comments, as ``columns=[x,y]``.
        """
        size = int(np.prod(self.shape[1:], dtype=int))
        if size == 1:
            return (self.name.rpartition("/")[2],)
        comments = text(attribute(self._group, "comments", ""))
        listed = re.search(r"columns=\[([^\]]*)\]", comments)
        names = tuple(name.strip() for name in listed[1].split(",")) if listed else ()
        return names if len(names) == size and all(names) else ()

    @property
    def clock_note(self) -> str:
        """What of the timestamps cannot be used, of a series that is not too long to look."""
        if self.problem or self.rate is not None or not 0 < self.samples <= _BLOCK:
            return ""
        times = _times(self._group, self.where, 0, self.samples)
        is_clear = np.isfinite(times).all() and np.all(np.diff(times) > 0)
        note = "" if is_clear else clocks.in_order(times).note
        return note.replace("left out", "to be left out:").replace("sorted", "to be sorted:")

    @property
    def _data(self) -> h5py.Dataset | None:
        return hdf5_items.array_in(self._group, "data")

    @cached_property
    def _clock(self) -> clocks.Clock | None:
        """The timestamps that can be used, where they are not all in order; None if they are.

        Warns:
          UserWarning: some are left out.
        """
        before = -np.inf
        for start in range(0, self.samples, _BLOCK):
            times = _times(self._group, self.where, start, min(start + _BLOCK, self.samples))
            if not np.all(np.diff(times, prepend=before) > 0) or not np.isfinite(times).all():
                break
            before = times[-1]
        else:
            return None
        limits.check(f"{self.where}: the timestamps", self.samples * 8)
        clock = clocks.in_order(_times(self._group, self.where, 0, self.samples))
        warnings.warn(f"{self.where}: {clock.note}", UserWarning, stacklevel=5)
        return clock

    @cached_property
    def _index(self) -> Float[NDArray, " M"]:
        """The timestamp, s, of every INDEX_STRIDE-th sample."""
        return _times(self._group, self.where, 0, self.samples, INDEX_STRIDE)

    def between(
        self, start: float, stop: float
    ) -> tuple[Float[NDArray, " S"], Float[NDArray, "S D"]]:
        """Reads the samples from ``start`` to ``stop``, s, and one more on either side.

        Returns:
          Times (s) and values of the samples, values with their scale and offset applied.

        Raises:
          UserError: the series cannot be read.
        """
        if self.problem:
            raise UserError(f"{self.where} {self.problem}")
        if self.rate is not None:
            low, high = ((time - self.start) * self.rate for time in (start, stop))
            low, high = np.clip([low, high], -4, self.samples + 4)
            first, last = (
                min(max(n, 0), self.samples)
                for n in (int(np.floor(low)) - 1, int(np.ceil(high)) + 2)
            )
            times_S = self.start + np.arange(first, last) / self.rate
            return times_S, self._values(first, last)
        if self._clock is not None:
            times_S = self._clock.times
            low, high = _around(times_S, start, stop)
            kept = self._clock.kept[low:high]
            if not kept.size:
                return times_S[low:high], self._values(0, 0)
            first = int(kept.min())
            return times_S[low:high], self._values(first, int(kept.max()) + 1)[kept - first]
        # Only the timestamps between two entries of the index have to be read.
        first = max(int(np.searchsorted(self._index, start)) - 1, 0) * INDEX_STRIDE
        last = int(np.searchsorted(self._index, stop, side="right")) * INDEX_STRIDE + 1
        times_S = _times(self._group, self.where, first, min(last, self.samples))
        low, high = _around(times_S, start, stop)
        return times_S[low:high], self._values(first + low, first + high)

    def _values(self, first: int, last: int) -> Float[NDArray, "S D"]:
        """The values of some samples, their scale and offset applied."""
        data = self._data
        assert data is not None
        x = part(data, self.where, first, last, self._axis)
        x_SD = np.moveaxis(np.asarray(x, np.float64), self._axis, 0).reshape(
            last - first, int(np.prod(self.shape[1:], dtype=int))
        )
        return x_SD * number(data, "conversion", 1) + number(data, "offset", 0)


def _around(times_S: NDArray, start: float, stop: float) -> tuple[int, int]:
    """First and last index of the times from start to stop, and one more on either side."""
    low = max(int(np.searchsorted(times_S, start)) - 1, 0)
    return low, min(int(np.searchsorted(times_S, stop, side="right")) + 1, len(times_S))


def is_series(group: h5py.Group) -> bool:
    """Whether a group is meant to be a time series."""
    timed = "timestamps" in group or "starting_time" in group
    return timed and ("data" in group or group.get("data", getlink=True) is not None)


def broken(name: str, where: str, reason: str, group: h5py.Group) -> Series:
    """What is known of a series that cannot be opened."""
    return Series(name, (), None, np.nan, where, reason, "", group, 0)


def series(name: str, path: object, group: h5py.Group) -> Series:
    """A time series of a file; one that cannot be read has a ``problem``.

    Args:
      name: its name, see :class:`Series`.
      path: the file.
      group: the group of the series.
    """
    where = f"{path}: series {name}"
    member = hdf5_items.member(group, "data")
    data = member.item
    if not isinstance(data, h5py.Dataset):
        reason = member.reason or "is a group"
        return broken(name, where, f"cannot be read: its data {reason}", group)
    shape = data.shape or ()
    if hdf5_items.is_text(data) or data.dtype.kind not in "uifb":
        kind = "texts" if hdf5_items.is_text(data) else f"type {data.dtype}"
        return Series(name, shape, None, np.nan, where, f"holds {kind}", "", group, 0)
    if not shape:
        return Series(name, (), None, np.nan, where, "is a single value", "", group, 0)
    rate, start, problem = _rate(group)
    stamps = hdf5_items.member(group, "timestamps")
    if rate is None and stamps.item is not None:
        return _stamped(name, shape, where, group)
    if rate is None and not problem:
        problem = f"has no times: the array timestamps {stamps.reason}"
    axis, note = 0, ""
    if len(shape) == 2 and shape[0] <= _FEW and shape[1] >= 64 * shape[0]:
        axis, shape = -1, shape[::-1]
        note = f"its samples are taken from the last axis, for there would be {shape[1]} otherwise"
    return Series(name, shape, rate, start, where, problem, note, group, axis)


def _rate(group: h5py.Group) -> tuple[float | None, float, str]:
    """Sampling rate, time of the first sample, and what is wrong with them."""
    found = hdf5_items.array_in(group, "starting_time")
    if found is None:
        return None, np.nan, ""
    advice = "; give it with --behavior-rate"
    if found.size != 1 or found.dtype.kind not in "uif":
        return None, np.nan, f"has a starting_time of shape {found.shape}; one number is needed"
    start, rate = float(np.ravel(found[()])[0]), attribute(found, "rate")
    try:
        rate = None if rate is None else float(rate)
    except (TypeError, ValueError):
        rate = np.nan
    if rate is None:
        return None, start, f"has a starting time but no sampling rate{advice}"
    if not 0 < rate < np.inf:
        return None, start, f"has a sampling rate of {rate:g}{advice}"
    if not np.isfinite(start):
        return None, start, f"has the starting time {start:g}"
    return rate, start, ""


def _stamped(name: str, shape: tuple[int, ...], where: str, group: h5py.Group) -> Series:
    """A series with timestamps, which may have an unusual form."""
    stamps = hdf5_items.array_in(group, "timestamps")
    if stamps is None or stamps.dtype.kind not in "uif":
        return Series(
            name, shape, None, np.nan, where, "has no numbers as timestamps", "", group, 0
        )
    number_of = _number_of_times(stamps)
    if number_of is None:
        problem = f"has timestamps of shape {stamps.shape}; one time for each sample is needed"
        return Series(name, shape, None, np.nan, where, problem, "", group, 0)
    axis, note = 0, ""
    if shape[0] != number_of and shape[-1] == number_of:
        axis, shape = -1, (shape[-1], *shape[:-1])
        note = "its samples are in the last axis"
    if shape[0] != number_of:
        problem = f"has {number_of} timestamps for {shape[0]} samples"
        return Series(name, shape, None, np.nan, where, problem, "", group, 0)
    if min(stamps.shape) == 2 and stamps.ndim == 2 and stamps.size == 2 * number_of:
        note = "each sample has a begin and an end: its time is the middle"
    first = _number_of(_times(group, where, 0, min(_FIRST, number_of)), 0)
    return Series(name, shape, None, first if number_of else 0.0, where, "", note, group, axis)


def _number_of_times(stamps: h5py.Dataset) -> int | None:
    """The number of samples: times (S,), (S, 1), (1, S), or begins and ends (2, S), (S, 2)."""
    if stamps.ndim == 1:
        return int(stamps.shape[0])
    if stamps.ndim == 2 and min(stamps.shape) in (1, 2):
        return int(max(stamps.shape))
    return None


def _times(
    group: h5py.Group, where: str, first: int, last: int, step: int = 1
) -> Float[NDArray, " S"]:
    """Timestamps of some samples, s."""
    stamps, first = group["timestamps"], max(first, 0)
    with hdf5_items.explaining_damage(where):
        if stamps.ndim == 1:
            return np.asarray(stamps[first:last:step], np.float64)
        wide = stamps.shape[0] < stamps.shape[1]
        x = stamps[:, first:last:step] if wide else stamps[first:last:step].T
        return np.asarray(x, np.float64).mean(axis=0)


def _number_of(times: NDArray, which: int) -> float:
    """The first (0) or last (-1) of the times that is a number; NaN if none is."""
    finite = times[np.isfinite(times)]
    return float(finite[which]) if finite.size else float("nan")
