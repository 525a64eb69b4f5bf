"""Behaviour from files: in bins, in trials laid end to end, or as samples with times; angles."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.data import array_files, count_files, spike_trials, table_files
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

TIMES = {
    **dict.fromkeys(
        ("time", "time_s", "times", "t", "timestamp", "timestamps", "time_stamps"), 1.0
    ),
    **dict.fromkeys(("time_ms", "t_ms", "timestamps_ms", "timestamp_ms"), 1e-3),
}
_TURN = 2 * np.pi


class TimedSamples(NamedTuple):
    """A time series in memory, as :class:`stndt_jax.data.spike_trials.Samples` asks for it.

    Attributes:
      name: what it is called.
      times: of the samples, s, in order.
      values: one row a sample.
      rate: samples/s; None, as every sample has its own time.
    """

    name: str
    times: Float[NDArray, " S"]
    values: Float[NDArray, "S D"]
    rate: float | None = None

    @property
    def start(self) -> float:
        """The time of the first sample, s."""
        return float(self.times[0])

    @property
    def duration(self) -> float:
        """The time from the first sample to the last, s."""
        return float(self.times[-1] - self.times[0])

    def between(self, start: float, stop: float) -> tuple[NDArray, NDArray]:
        """Times (s) and values from ``start`` to ``stop``, and one more on either side."""
        low = max(int(np.searchsorted(self.times, start)) - 1, 0)
        high = int(np.searchsorted(self.times, stop, side="right")) + 1
        return self.times[low:high], self.values[low:high]


class Angles(NamedTuple):
    """An angle among the dimensions of behaviour.

    Attributes:
      name: of the dimension; empty for the only one.
      turn: what a full turn is, 2 pi or 360; None where that was not said.
    """

    name: str
    turn: float | None


def parsed_angles(words: Sequence[str]) -> tuple[Angles, ...]:
    """Angles as a user names them: ``heading`` or ``heading:deg``.

    Raises:
      UserError: the unit is none of rad and deg.
    """
    found = []
    for word in words:
        name, colon, unit = word.partition(":")
        if colon and unit not in ("rad", "deg"):
            raise UserError(f"--circular={word}: the unit of an angle is rad or deg")
        found.append(Angles(name, {"rad": _TURN, "deg": 360.0}.get(unit)))
    return tuple(found)


def without_angles(
    values: NDArray, names: Sequence[str], angles: Sequence[Angles], where: str = "behavior"
) -> tuple[NDArray, tuple[str, ...]]:
    """Replaces angles by their sine and cosine, which have no jump.

    Args:
      values: (..., dimensions).
      names: of the dimensions; empty if they have none.
      angles: which dimensions are angles.
      where: what the values are, with which messages start.

    Returns:
      The values with two dimensions in place of each angle, and the names, ``sin_`` and ``cos_``
      before that of an angle.

    Raises:
      UserError: there is no such dimension, or values are beyond a turn of a unit not stated.
    """
    if not angles:
        return values, tuple(names)
    number = values.shape[-1]
    known = list(names) or [f"angle{d}" if number > 1 else "angle" for d in range(number)]
    by_name = {angle.name: angle for angle in angles}
    if not names and number == 1 and len(by_name) == 1:
        known = [next(iter(by_name)) or "angle"]
    if unknown := [name for name in by_name if name not in known]:
        listed = ", ".join(names) or f"none of {number}; name them with --behavior-name"
        raise UserError(f"--circular={unknown[0]}: {where} has no such dimension: {listed}")
    columns, called = [], []
    for d, name in enumerate(known):
        x = values[..., d]
        if name not in by_name:
            columns.append(x)
            called.append(name)
            continue
        turn = by_name[name].turn
        most = float(np.nanmax(np.abs(x))) if np.isfinite(x).any() else 0.0
        if turn is None and most > 1.01 * _TURN:
            raise UserError(
                f"--circular={name}: {where} reaches {most:g}, more than a turn of 2 pi; write "
                f"{name}:deg for degrees, or {name}:rad for radians of several turns"
            )
        radians = x * (_TURN / (turn or _TURN))
        columns += [np.sin(radians), np.cos(radians)]
        called += [f"sin_{name}", f"cos_{name}"]
    return np.stack(columns, axis=-1), tuple(called)


class Behavior(NamedTuple):
    """Behaviour of a recording.

    Attributes:
      values: as ``SpikeData.from_arrays`` takes them, or (bins, dimensions) of a continuous
        recording.
      names: of the dimensions; empty if the file has none.
    """

    values: Any
    names: tuple[str, ...] = ()


def from_file(
    named: str,
    spikes: NDArray | list[NDArray],
    bin_ms: float,
    *,
    starts: NDArray | None = None,
    angles: Sequence[Angles] = (),
    names: Sequence[str] = (),
) -> Behavior:
    """Behaviour from a file, for the trials or the bins of spike counts.

    A table, or named arrays, with a column ``time`` (s; ``time_ms``, ms) holds samples, of which
    every bin gets the mean. Rows without times are the bins of all trials, one after the other.

    Args:
      named: the file, or the file and an array or column.
      spikes: the counts.
      bin_ms: bin width, ms.
      starts: time of the first bin of every trial, s; a continuous recording begins at 0.
      angles: dimensions that are angles.
      names: of the dimensions, in place of those of the file.

    Raises:
      UserError: the file is missing or damaged, or does not fit the spikes.
    """
    path, name = table_files.split(named)
    file = array_files.open_file(path)
    columns = _columns(file, name)
    if columns is None:
        return from_arrays(count_files.load_behavior(named), spikes, angles=angles, names=names)
    time = next((key for key in file.entries if key.strip().lower() in TIMES), None)
    trial = next((key for key in file.entries if key.strip().lower() == "trial"), None)
    called = tuple(key for key in columns if key not in (time, trial))
    if not called:
        raise UserError(f"{named} holds no behaviour; give one column for each dimension")
    x_SD = np.column_stack([columns[key] for key in called]).astype(np.float64)
    shown = names if len(names) == len(called) else called
    x_SD, called = without_angles(x_SD, shown, angles, named)
    if time is None or trial is not None:
        return Behavior(_in_trials(x_SD, spikes, named), called)
    series, called = samples(named, angles, names)
    return Behavior(_resampled(series, spikes, bin_ms, starts), called)


def samples(
    named: str, angles: Sequence[Angles] = (), names: Sequence[str] = ()
) -> tuple[TimedSamples, tuple[str, ...]]:
    """Samples with times from a table or from named arrays, and the names of their dimensions.

    Args:
      named: the file, or the file and a column.
      angles: dimensions that are angles.
      names: of the dimensions, in place of those of the file.

    Raises:
      UserError: the file is missing or damaged, has no times, or its times do not rise.

    Warns:
      UserWarning: times are no numbers, which are left out.
    """
    path, name = table_files.split(named)
    file = array_files.open_file(path)
    columns = _columns(file, name)
    time = next((key for key in file.entries if key.strip().lower() in TIMES), None)
    if columns is None or time is None:
        raise UserError(
            f"{named} has no column of times ({', '.join(list(TIMES)[:3])} ...), but "
            f"{file.listed()}; give samples of behaviour with their times, s"
        )
    called = tuple(key for key in columns if key != time)
    if not called:
        raise UserError(f"{named} holds no behaviour; give one column for each dimension")
    x_SD = np.column_stack([columns[key] for key in called]).astype(np.float64)
    times_S = np.asarray(file.read(time), np.float64).ravel() * TIMES[time.strip().lower()]
    known = np.isfinite(times_S)
    if len(times_S) != len(x_SD):
        raise UserError(f"{named} has {len(times_S)} times, but {len(x_SD)} values; write it again")
    if not known.all():
        warnings.warn(
            f"{named}: left out {np.sum(~known)} samples whose time is no number",
            UserWarning,
            stacklevel=3,
        )
    times_S, x_SD = times_S[known], x_SD[known]
    if len(times_S) < 2 or np.any(np.diff(times_S) < 0):
        raise UserError(f"{named}: its times do not rise from sample to sample; sort the rows")
    shown = names if len(names) == len(called) else called
    x_SD, called = without_angles(x_SD, shown, angles, named)
    return TimedSamples(named, times_S, x_SD), called


def from_arrays(
    values: Any,
    spikes: NDArray | list[NDArray],
    *,
    angles: Sequence[Angles] = (),
    names: Sequence[str] = (),
) -> Behavior:
    """Behaviour from arrays, in the form of the spikes, of whole trials, or end to end.

    Raises:
      UserError: an angle is none of its dimensions.
    """
    if isinstance(values, list):
        rows = [np.asarray(row) for row in values]
        rows = [row[:, None] if row.ndim == 1 else row for row in rows]
        found = [without_angles(row, names, angles)[0] for row in rows] if angles else rows
        return Behavior(found, without_angles(rows[0], names, angles)[1] if rows else ())
    x = np.asarray(values)
    if x.ndim in (1, 2) and not _is_continuous(spikes) and len(x) == _bins(spikes) > len(spikes):
        x = x.reshape(len(x), -1)
        x, called = without_angles(x, names, angles)
        return Behavior(_in_trials(x, spikes, "behavior"), called)
    if x.ndim == 1 and _is_continuous(spikes):
        x = x[:, None]
    x, called = without_angles(x, names, angles)
    return Behavior(x, called)


def _columns(file: array_files.ArrayFile, name: str) -> Mapping[str, NDArray] | None:
    """The columns of a table of numbers, or of arrays with times; None of other files."""
    is_table = file.path.suffix.lower() in array_files.TABLES
    has_time = any(key.strip().lower() in TIMES for key in file.entries)
    if not is_table and not has_time:
        return None
    found = {}
    for key in [name] if name else list(file.entries):
        x = np.asarray(file.read(key))
        if x.dtype.kind in "buif" and (x.ndim == 1 or (x.ndim == 2 and 1 in x.shape)):
            found[key] = x.ravel()
        elif x.dtype.kind in "buif" and x.ndim == 2 and not is_table:
            found |= {f"{key}_{d}": column for d, column in enumerate(x.T)}
        elif name:
            raise UserError(f"{file.where(name)} holds no numbers; give a column of numbers")
    if len({len(x) for x in found.values()}) > 1:
        raise UserError(f"{file.path} holds columns of several lengths: {file.listed()}; name one")
    return found


def _is_continuous(spikes: NDArray | list[NDArray]) -> bool:
    return isinstance(spikes, np.ndarray) and spikes.ndim == 2


def _bins(spikes: NDArray | list[NDArray]) -> int:
    """The bins of all trials together."""
    return len(spikes) if _is_continuous(spikes) else sum(len(row) for row in spikes)


def _in_trials(x_SD: NDArray, spikes: NDArray | list[NDArray], where: str) -> Any:
    """Values of all bins, one after the other, as one array a trial."""
    if _is_continuous(spikes):
        return x_SD
    if len(x_SD) == len(spikes) != _bins(spikes):
        return x_SD  # one row for each trial
    if len(x_SD) != _bins(spikes):
        raise UserError(
            f"{where} has {len(x_SD)} rows, but the {len(spikes)} trials have {_bins(spikes)} bins "
            f"together; give a row for each bin, or a column time with the times of samples"
        )
    return np.split(x_SD, np.cumsum([len(row) for row in spikes])[:-1])


def _resampled(
    series: TimedSamples,
    spikes: NDArray | list[NDArray],
    bin_ms: float,
    starts: NDArray | None,
) -> Any:
    """The mean of samples in every bin."""
    rows = [spikes] if _is_continuous(spikes) else list(spikes)
    if starts is None and not _is_continuous(spikes):
        raise UserError(
            f"{series.name} has times of samples, but the times of the trials are not known; give "
            f"a column start_s, s, in --trial-table"
        )
    firsts = np.zeros(1) if starts is None else np.asarray(starts, np.float64)
    if len(firsts) != len(rows):
        raise UserError(f"there are {len(firsts)} starts of {len(rows)} trials; give one for each")
    edges = [
        np.round(first * 1e9 + np.arange(len(row) + 1) * (bin_ms * 1e6)).astype(np.int64)
        for first, row in zip(firsts, rows, strict=True)
    ]
    found = spike_trials.behavior_in(series, edges, 0.0, series.name)
    return found[0] if _is_continuous(spikes) else found
