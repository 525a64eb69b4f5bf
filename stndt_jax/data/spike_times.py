"""Spike times and events in memory, and recordings made of them."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import arrays, limits, spike_binning, spike_trials, tables
from stndt_jax.data.spike_trials import Cut, Samples
from stndt_jax.data.table_files import Choices
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Int, NDArray, Shaped

SPIKES_PER_BLOCK = 1 << 20  # spike times in memory as floats at once
# Columns of events that the recording itself has, under another name.
_TAKEN = {"start_s": "table_start_s", "condition": "table_condition"}


@dataclass(frozen=True)
class SpikeTimes:
    """Spike times of units, as :class:`stndt_jax.data.spike_binning.Spikes` asks for them.

    Attributes:
      where: what they are of, with which messages start.
      ids: identifiers of the units.
      times: of all units, one unit after the other, in order within a unit.
      bounds: where each unit begins in ``times``, and the end of the last.
      tick: length of a unit of ``times``, s.
      columns: about units, one entry each.
      intervals: when all units were recorded, (intervals, 2), s; None where nothing is known.
    """

    where: str
    ids: Int[NDArray, " N"]
    times: Shaped[NDArray, " s"]
    bounds: Int[NDArray, " bounds"]
    tick: float = 1.0
    columns: Mapping[str, NDArray] = field(default_factory=dict)
    intervals: NDArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def count(self, row: int) -> int:
        """The number of spikes of a unit."""
        return int(self.bounds[row + 1] - self.bounds[row])

    def spikes(self, row: int) -> Iterable[NDArray]:
        """Spike times of a unit, s, in order, in blocks."""
        first, last = int(self.bounds[row]), int(self.bounds[row + 1])
        for start in range(first, last, SPIKES_PER_BLOCK):
            yield self.times[start : min(start + SPIKES_PER_BLOCK, last)] * self.tick

    def recorded_intervals(self, row: int) -> NDArray | None:
        """When a unit was recorded, s; None where nothing is known."""
        return self.intervals

    @property
    def span(self) -> tuple[float, float]:
        """The times of the first and the last spike, s.

        Raises:
          UserError: there are no spikes.
        """
        rows = [row for row in range(len(self)) if self.count(row)]
        if not rows:
            raise UserError(f"{self.where} holds no spikes; check the file")
        first = min(float(self.times[self.bounds[row]]) for row in rows)
        last = max(float(self.times[self.bounds[row + 1] - 1]) for row in rows)
        return first * self.tick, last * self.tick

    def take(self, chosen: Bool[NDArray, " N"]) -> SpikeTimes:
        """Some of the units.

        Raises:
          UserError: there are none.
        """
        rows = np.flatnonzero(chosen)
        if not rows.size:
            raise UserError(f"{self.where}: no unit is left; choose others with --units")
        if len(rows) == len(self):
            return self
        parts = [self.times[self.bounds[row] : self.bounds[row + 1]] for row in rows]
        return SpikeTimes(
            self.where,
            self.ids[rows],
            np.concatenate(parts),
            np.append(0, np.cumsum([len(part) for part in parts])),
            self.tick,
            {name: column[rows] for name, column in self.columns.items()},
            self.intervals,
        )


@dataclass(frozen=True)
class EventTable:
    """Events, as :class:`stndt_jax.data.spike_trials.Events` asks for them.

    Attributes:
      where: what they are, with which messages start.
      columns: by name, one entry a trial.
    """

    where: str
    columns: Mapping[str, NDArray]

    def column(self, name: str) -> NDArray:
        """A column of numbers, booleans or texts.

        Raises:
          UserError: there is none of this name.
        """
        if name not in self.columns:
            known = ", ".join(self.columns) or "none"
            raise UserError(f"{self.where} has no column {name}; columns: {known}")
        return self.columns[name]

    def times(self, name: str) -> NDArray:
        """A column of times, s; NaN where a row has none.

        Raises:
          UserError: there is none of this name, or it holds no numbers.
        """
        x = self.column(name)
        if x.dtype.kind not in "uif":
            others = ", ".join(n for n, x in self.columns.items() if x.dtype.kind in "uif")
            raise UserError(
                f"{self.where}: column {name} holds no times; columns of numbers: "
                f"{others or 'none'}"
            )
        return x.astype(np.float64)

    def default_align(self, flag: str = "--align", condition: str = "") -> str:
        """The column to align to if none is named: the only one of numbers, if these rise.

        Args:
          flag: how to name a column, for messages.
          condition: the column with the conditions, which is none of times.

        Raises:
          UserError: there are several, or none, or it does not hold times.
        """
        found = [n for n, x in self.columns.items() if x.dtype.kind in "uif" and n != condition]
        rising = [name for name in found if _rises(self.columns[name])]
        if len(found) == 1 and (rising or len(self.columns) == 1):
            return found[0]
        likely = rising or found or ["TIME"]
        example = next((name for name in likely if "time" in name.lower()), likely[0])
        raise UserError(
            f"{self.where} has the columns {', '.join(self.columns) or 'none'}; name the one with "
            f"the time of the event, for example {flag}={example}"
        )


def _rises(times: NDArray) -> bool:
    """Whether numbers may be times of trials: they never fall, and few are equal."""
    x = times[np.isfinite(times)]
    return bool(x.size) and bool(np.all(x[1:] >= x[:-1])) and 2 * len(np.unique(x)) > len(x)


def grouped(
    where: str,
    blocks: Callable[[], Iterable[tuple[NDArray, NDArray]]],
    *,
    tick: float = 1.0,
    chosen: Callable[[NDArray], NDArray] | None = None,
) -> SpikeTimes:
    """Spike times by unit, from times and units in any order.

    Needs memory for the times of the chosen units, in their own type, and for a block.

    Args:
      where: what they are of, with which messages start.
      blocks: called twice; gives times and units of some spikes, again and again.
      tick: length of a unit of the times, s.
      chosen: which of the identifiers to take; all by default.

    Raises:
      UserError: units are no whole numbers from 0 to 65534, or times do not fit into memory.

    Warns:
      UserWarning: times are NaN or infinite, which are left out.
    """
    counts, dropped, most = np.zeros(MAX_COUNT + 1, np.int64), 0, 0.0
    kind: np.dtype = np.dtype("u4")
    for times, units in blocks():
        good, lost = _sound(where, times, units)
        dropped += lost
        counts += np.bincount(units[good].astype(np.int64), minlength=len(counts))
        if times.dtype.kind == "f":
            kind = np.dtype("f8")
        elif times.size:
            if int(times.min()) < 0:
                kind = np.dtype("f8")
            most = max(most, float(times.max()))
    if kind != np.dtype("f8") and most >= 2**32:
        kind = np.dtype("u8")
    ids = np.flatnonzero(counts)
    if chosen is not None:
        ids = ids[chosen(ids)]
    if dropped:
        warnings.warn(
            f"{where}: left out {counted(dropped, 'spike')} whose time is no number",
            UserWarning,
            stacklevel=3,
        )
    if not ids.size:
        raise UserError(f"{where} holds no spikes of the units that are taken; check the file")
    row_of = np.full(len(counts), -1, np.int64)
    row_of[ids] = np.arange(len(ids))
    bounds = np.append(0, np.cumsum(counts[ids]))
    limits.check(f"{where}: {bounds[-1]} spike times", int(bounds[-1]) * kind.itemsize)
    flat, at = np.empty(int(bounds[-1]), kind), bounds[:-1].copy()
    for times, units in blocks():
        good, _ = _sound(where, times, units)
        rows = row_of[units[good].astype(np.int64)]
        times, rows = times[good][rows >= 0], rows[rows >= 0]
        order = np.argsort(rows.astype(np.uint16), kind="stable")
        rows, times = rows[order], times[order]
        number = np.bincount(rows, minlength=len(ids))
        first = np.cumsum(number) - number
        flat[at[rows] + np.arange(len(rows)) - first[rows]] = times
        at += number
    for low, high in itertools.pairwise(bounds):
        part = flat[low:high]
        if np.any(part[1:] < part[:-1]):
            part.sort()
    return SpikeTimes(where, ids, flat, bounds, tick)


def _sound(where: str, times: NDArray, units: NDArray) -> tuple[NDArray, int]:
    """Which spikes have a time, and how many have none.

    Raises:
      UserError: there are other numbers of times and units, or units are no identifiers.
    """
    if len(times) != len(units):
        raise UserError(
            f"{where} holds {len(times)} spike times, but units of {len(units)} spikes; write it "
            f"again"
        )
    if times.dtype.kind not in "uif" or units.dtype.kind not in "uif":
        raise UserError(f"{where} holds texts as spike times or units; give numbers")
    bad = ~((units >= 0) & (units < MAX_COUNT) & (units == np.floor(units)))
    if np.any(bad):
        raise UserError(
            f"{where} holds the unit {units[bad][0]}; give whole numbers from 0 to {MAX_COUNT - 1}"
        )
    good = np.isfinite(times) if times.dtype.kind == "f" else np.ones(len(times), bool)
    return good, int(np.sum(~good))


def from_lists(
    where: str,
    lists: Sequence[Any],
    names: Sequence[Any] | None = None,
    *,
    columns: Mapping[str, NDArray] | None = None,
    intervals: NDArray | None = None,
) -> SpikeTimes:
    """Spike times from one list a unit, s.

    Args:
      where: what they are of, with which messages start.
      lists: spike times of every unit.
      names: identifiers of the units, numbers or texts that end in one; their index by default.
      columns: about units.
      intervals: when all units were recorded, (intervals, 2), s.

    Raises:
      UserError: a list holds no numbers.

    Warns:
      UserWarning: times were not in order, or no numbers.
    """
    rows, unsorted, dropped = [], 0, 0
    for number, given in enumerate(lists):
        try:
            x = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            raise UserError(f"{where}: spikes of unit {number} are no list of times, s") from None
        if x.ndim > 1 and x.size != max(x.shape):
            raise UserError(
                f"{where}: spikes of unit {number} have shape {x.shape}; give a list of times, s; "
                f"counts per bin go into: stndt prepare arrays"
            )
        x = x.ravel()
        good = np.isfinite(x)
        dropped += int(np.sum(~good))
        x = x[good]
        if np.any(np.diff(x) < 0):
            unsorted += 1
            x = np.sort(x)
        rows.append(x)
    for number, what in ((unsorted, "units had spike times out of order, which were sorted"),
                         (dropped, "spike times were no numbers and were left out")):  # fmt: skip
        if number:
            warnings.warn(f"{where}: {number} {what}", UserWarning, stacklevel=3)
    ids, named = identifiers(range(len(rows)) if names is None else names)
    found = dict(columns or {}) | ({"name": named} if named is not None else {})
    bounds = np.append(0, np.cumsum([len(row) for row in rows]))
    flat = np.concatenate(rows) if rows else np.zeros(0)
    return SpikeTimes(where, ids, flat, bounds, columns=found, intervals=intervals)


def identifiers(names: Iterable[Any]) -> tuple[Int[NDArray, " N"], NDArray | None]:
    """Whole numbers that identify units, and their names where these are something else.

    Names that end in numbers, all different, have these as identifiers; others their index.
    """
    texts = [str(name) for name in names]
    numbers = [re.search(r"(\d{1,5})(?:\.0)?$", text) for text in texts]
    found = [int(number[1]) for number in numbers if number]
    if len(set(found)) == len(texts) and (not found or max(found) < MAX_COUNT):
        plain = all(re.fullmatch(r"(unit|neuron|cluster|cell)?_?\d+(\.0)?", x, re.I) for x in texts)
        return np.array(found, np.int64), None if plain else np.array(texts, "U")
    return np.arange(len(texts)), np.array(texts, "U")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a recording of spike times and events is, besides its trials.

    Attributes:
      name: of the recording.
      heldout: fraction of the units to hold out, or which ones, as
        :class:`stndt_jax.data.table_files.Choices` takes them.
      evaluated: the same of trials, by the rows of the events.
      split_column: column of the events with ``train``, and ``val`` or ``test``.
      condition_column: column of the events with the conditions.
      series: behaviour.
      behavior_names: of its dimensions.
      behavior_unit: its unit.
      seed: of the random choices.
    """

    name: str = "recording"
    heldout: Any = 0.25
    evaluated: Any = 0.25
    split_column: str = ""
    condition_column: str = ""
    series: Samples | None = None
    behavior_names: Sequence[str] = ()
    behavior_unit: str = ""
    seed: int = 0


def recording(units: SpikeTimes, events: EventTable, cut: Cut, options: Options) -> SpikeData:
    """A recording from spike times and events: windows around an event are its trials.

    Raises:
      UserError: as :func:`stndt_jax.data.spike_trials.cut_trials`, or an option does not fit.

    Warns:
      UserWarning: trials or spikes are left out, behaviour is missing, or windows of training and
        evaluated trials overlap.
    """
    split_column = options.split_column
    found = spike_trials.cut_trials(units.where, units, events, cut, split_column=split_column)
    rows = found.windows.rows
    kept = {_TAKEN.get(name, name): x[rows] for name, x in events.columns.items()}
    given: dict[str, Any] = {"trial_table": {tables.SOURCE: rows} | kept}
    if found.windows.evaluated is not None:
        given["evaluated"] = spike_trials.chosen_by(events, split_column, found.windows.evaluated)
    elif isinstance(options.evaluated, str):
        hint = "take one of the events"
        columns = {name: x[rows] for name, x in events.columns.items()}
        choices = Choices("evaluated", "trials", rows, columns, hint)
        given["evaluated"] = choices.chosen(options.evaluated)
    elif np.ndim(options.evaluated) == 1:
        listed, number = np.asarray(options.evaluated), len(events.times(cut.align))
        is_mask = listed.dtype == bool and len(listed) == number
        given["evaluated"] = listed[rows] if is_mask else np.isin(rows, listed)
    else:
        given["evaluated"] = options.evaluated
    if options.condition_column:
        given["conditions"] = events.column(options.condition_column)[rows]
    if options.series is not None:
        given["behavior"] = spike_trials.behavior(options.series, found.edges, cut, units.where)
        given["behavior_names"] = options.behavior_names
        given["behavior_unit"] = options.behavior_unit
    data = SpikeData.from_arrays(
        found.counts,
        bin_ms=cut.bin_ms,
        name=options.name,
        bins_forward=round(cut.forward_ms / cut.bin_ms),
        starts=found.windows.starts_ns / 1e9,
        units=units.ids,
        unit_table=dict(units.columns),
        heldout=heldout(options.heldout, units),
        seed=options.seed,
        **given,
    )
    spike_trials.warn_shared(units.where, data)
    return data


def heldout(given: Any, units: SpikeTimes) -> Any:
    """Which units are held out, or which fraction of them."""
    if not isinstance(given, str):
        return given
    hint = "give it in --unit-table"
    return Choices("heldout", "units", units.ids, units.columns, hint).chosen(given)


def continuous(
    units: SpikeTimes, cut: Cut, *, window_ms: float, overlap_ms: float, options: Options
) -> SpikeData:
    """A recording from spike times without events, chopped into windows.

    Bins begin at the whole second before the first spike. The last part is evaluated.

    Args:
      units: spike times.
      cut: the bins, what becomes of units that are lost half-way, and whether the unit of the
        spike times is known.
      window_ms: length of a window, ms.
      overlap_ms: what neighbouring windows share, ms.
      options: what else is known.

    Raises:
      UserError: the recording is shorter than a window, or its counts do not fit into memory.
    """
    bin_ms = cut.bin_ms
    arrays.check_windows(window_ms, overlap_ms)
    first, last = units.span
    start = float(np.floor(first))
    if not max(abs(first), abs(last)) < 1e9:
        raise UserError(
            f"{units.where}: spike times from {first:g} to {last:g} s are no times of a recording; "
            f"give their unit with --spike-time-unit, or remove what is wrong"
        )
    bins = int(np.floor((last - start) * 1000.0 / bin_ms))
    # Counts, and the edges of the bins.
    limits.check_array(f"{units.where}: counts", (bins, len(units) + 16), 2)
    if bins < 2:
        raise UserError(f"{units.where} lasts {last - first:g} s, less than two bins; check it")
    edges = np.round(start * 1e9 + np.arange(bins + 1) * (bin_ms * 1e6)).astype(np.int64)
    rate = None if cut.spike_time_unit else 0.0  # unknown, so that the unit of time is checked
    [counts], [recorded] = spike_binning.bin_spikes(units, [edges], cut.drifting, rate)
    counts = spike_binning.with_nan(counts, recorded)
    extra: dict[str, Any] = {}
    if options.series is not None:
        [extra["behavior"]] = spike_trials.behavior_in(options.series, [edges], 0.0, units.where)
        extra["behavior_names"] = options.behavior_names
        extra["behavior_unit"] = options.behavior_unit
    if isinstance(options.evaluated, str):
        raise UserError(
            f"--evaluated={options.evaluated} has no effect without --events; use --split"
        )
    return arrays.from_continuous(
        counts,
        bin_ms=bin_ms,
        window=round(window_ms / bin_ms),
        overlap=round(overlap_ms / bin_ms),
        evaluated=options.evaluated,
        name=options.name,
        units=units.ids,
        unit_table=dict(units.columns),
        heldout=heldout(options.heldout, units),
        seed=options.seed,
        first_s=start,
        **extra,
    )


def with_columns(units: SpikeTimes, columns: Mapping[str, NDArray]) -> SpikeTimes:
    """The same spike times with more columns about units."""
    return replace(units, columns={**units.columns, **columns})
