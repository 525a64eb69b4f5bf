"""Trials from spike times and events: windows around an event, binned spikes, resampled behaviour.

Whatever holds spike times and a table of events, a file of any format or objects in memory, makes
its trials here. Times are compared in whole nanoseconds, so that a spike on the edge of two bins
belongs to the second one regardless of rounding errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import drift, limits, time_units
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError, check_choice
from stndt_jax.types import Bool, Float, Int, NDArray

# Values of a split column.
TRAIN, EVALUATED = ("train",), ("val", "valid", "validation", "eval", "test")
# Samples of behaviour further apart than this many sampling periods have a gap between them.
GAP_PERIODS = 1.5
# Trials are padded to the longest; one that is longer than the median by this factor is refused.
LONGEST_TRIAL = 20
# Times, s, beyond which nothing is a time of a recording; they fit into 64 bits of ns.
_END = 9e9
DRIFTING = ("mask", "keep")


@runtime_checkable
class Spikes(Protocol):
    """Spike times of units, s.

    Attributes:
      where: what they are of, with which messages start.
      ids: identifiers of the units.
    """

    @property
    def where(self) -> str: ...

    @property
    def ids(self) -> NDArray: ...

    def __len__(self) -> int: ...

    def count(self, row: int) -> int:
        """The number of spikes of a unit."""
        ...

    def spikes(self, row: int) -> Iterable[NDArray]:
        """Spike times of a unit, s, in order, in blocks that are not empty."""
        ...

    def recorded_intervals(self, row: int) -> NDArray | None:
        """When a unit was recorded, (intervals, 2), s; None where nothing is known."""
        ...


@runtime_checkable
class Events(Protocol):
    """A table with one row a trial, columns of which are times of events, s.

    Attributes:
      where: what it is, with which messages start.
    """

    @property
    def where(self) -> str: ...

    def times(self, name: str) -> NDArray:
        """A column of times, s; NaN where a row has none."""
        ...

    def column(self, name: str) -> NDArray:
        """A column of numbers, booleans or texts."""
        ...


@runtime_checkable
class Samples(Protocol):
    """A time series.

    Attributes:
      name: what it is called.
      rate: samples/s; None if every sample has a time of its own.
      start: time of the first sample, s.
      duration: time from the first sample to the last, s.
    """

    @property
    def name(self) -> str: ...

    @property
    def rate(self) -> float | None: ...

    @property
    def start(self) -> float: ...

    @property
    def duration(self) -> float: ...

    def between(self, start: float, stop: float) -> tuple[NDArray, NDArray]:
        """Times (s) and values (samples, dimensions) from start to stop, and one more each side."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How trials are cut out of a recording.

    Attributes:
      align: column of the trials table with the time of an event.
      window_ms: begin and end of a trial relative to the event, ms.
      bin_ms: bin width, ms.
      until: column of another event, to which the end of the window is relative, for trials of
        unequal length; empty for the same event.
      forward_ms: length of the forward bins, at the end of the window, ms.
      behavior: name of a time series; empty for none.
      lag_ms: lag of behaviour behind spikes, ms: a bin's behaviour is taken that much later.
      max_bins: trials with more bins are left out; 0 for none, but for a trial that is longer than
        the median by a factor of ``LONGEST_TRIAL``, which is refused.
      drifting: units without recorded intervals that fall silent, or appear, in the middle of the
        recording: ``mask`` marks the silence as not recorded, ``keep`` takes it as a rate of 0.
      spike_time_unit: unit of spike times, as :func:`stndt_jax.data.time_units.seconds` takes it;
        empty for s, unless they cannot be s.
      trial_time_unit: unit of the times of events, in the same form.

    Raises:
      UserError: a width is not positive, or a length is not a whole number of bins.
    """

    align: str
    window_ms: tuple[float, float]
    bin_ms: float
    until: str = ""
    forward_ms: float = 0.0
    behavior: str = ""
    lag_ms: float = 0.0
    max_bins: int = 0
    drifting: str = "mask"
    spike_time_unit: str = ""
    trial_time_unit: str = ""

    def __post_init__(self) -> None:
        check_choice("drifting", self.drifting, DRIFTING)
        low, high = self.window_ms
        if not 1e-6 <= self.bin_ms < np.inf:
            raise UserError(f"bin_ms is {self.bin_ms:g}; give the bin width in ms, above 0")
        if not np.isfinite([low, high, self.forward_ms, self.lag_ms]).all():
            raise UserError(f"window is {low:g} to {high:g} ms; give finite times")
        if not low < high and not self.until:
            raise UserError(f"window is {low:g} to {high:g} ms; its end must be after its begin")
        for what, ms in (("window", high - low), ("forward_ms", self.forward_ms)):
            if not self.until and abs(ms / self.bin_ms - round(ms / self.bin_ms)) > 1e-6:
                raise UserError(
                    f"{what} is {ms:g} ms long, which is not a whole number of bins of "
                    f"{self.bin_ms:g} ms; change one of them"
                )


class Windows(NamedTuple):
    """The windows of trials.

    Attributes:
      rows: row of every trial in the trials table.
      starts_ns: begin of every window, ns.
      bins: number of bins of every window.
      evaluated: which trials are evaluated; None if that is not decided here.
    """

    rows: Int[NDArray, " R"]
    starts_ns: Int[NDArray, " R"]
    bins: Int[NDArray, " R"]
    evaluated: Bool[NDArray, " R"] | None = None

    def take(self, which: NDArray) -> Windows:
        """Some of the windows, by a mask or by indices."""
        evaluated = None if self.evaluated is None else self.evaluated[which]
        return Windows(self.rows[which], self.starts_ns[which], self.bins[which], evaluated)

    def edges(self, bin_ms: float) -> list[Int[NDArray, " E"]]:
        """The edges of all bins of every window, ns."""
        return [
            start + np.round(np.arange(bins + 1) * (bin_ms * 1e6)).astype(np.int64)
            for start, bins in zip(self.starts_ns, self.bins, strict=True)
        ]


class CutTrials(NamedTuple):
    """Trials that were cut out of spike times.

    Attributes:
      windows: where they lie.
      counts: of every trial, spike counts (bins, units); NaN where not recorded.
      edges: of every trial, the edges of its bins, ns.
    """

    windows: Windows
    counts: list[NDArray]
    edges: list[Int[NDArray, " E"]]


def cut_trials(
    where: object,
    units: Spikes,
    trials: Events,
    cut: Cut,
    *,
    split_column: str = "",
    invalid: Float[NDArray, "i 2"] | None = None,
    sampling_rate: float | None = None,
) -> CutTrials:
    """Cuts trials out of spike times.

    Bins that are not completely covered by a unit's recorded intervals, or that touch invalid
    times, are not recorded; a trial in which no unit was recorded is left out.

    Args:
      where: the source, with which messages start.
      units: spike times.
      trials: events.
      cut: the event, the window and the bins.
      split_column: column of the events with ``train``, and ``val`` or ``test``; trials with any
        other value are left out.
      invalid: times in which nothing was recorded properly, s.
      sampling_rate: of the recording, samples/s, if it is known; for messages.

    Raises:
      UserError: no trial can be cut, or values cannot be right.

    Warns:
      UserWarning: trials or spikes are left out, or bins are marked as not recorded.
    """
    length = time_units.seconds("spike-time-unit", cut.spike_time_unit)
    if length not in (None, 1.0):
        units = _Scaled(units, length)
    found = windows(trials, cut, lambda: _first_spike(units))
    if split_column:
        found = split(trials, split_column, found)
    edges = found.edges(cut.bin_ms)
    _check_size(where, edges, len(units))
    counts, recorded = bin_spikes(
        units, edges, cut.drifting, None if length else (sampling_rate or 0.0)
    )
    if invalid is not None:
        recorded = _without(where, invalid, edges, recorded)
    used = np.array([r for r, block in enumerate(recorded) if block.any()], int)
    if not used.size:
        raise UserError(
            f"{where}: no unit was recorded in any of the {len(edges)} windows; the observation "
            f"intervals and {cut.align} must be times of the same clock, in s"
        )
    warn_left_out(
        where, len(edges) - used.size, "outside the observation intervals or in invalid times"
    )
    counts = [with_nan(counts[r], recorded[r]) for r in used]
    return CutTrials(found.take(used), counts, [edges[r] for r in used])


class _Scaled:
    """Spikes whose times are in another unit than s."""

    def __init__(self, units: Spikes, length: float) -> None:
        self._units, self._length = units, length
        self.where, self.ids = units.where, units.ids

    def __len__(self) -> int:
        return len(self._units)

    def count(self, row: int) -> int:
        return self._units.count(row)

    def spikes(self, row: int) -> Iterable[NDArray]:
        return (times * self._length for times in self._units.spikes(row))

    def recorded_intervals(self, row: int) -> NDArray | None:
        """Intervals in s, or else in the unit of the spikes, whichever fits them."""
        intervals = self._units.recorded_intervals(row)
        if intervals is None:
            return None
        scaled = intervals * self._length
        fits = [sum(_number_inside(x, y) for x in self.spikes(row)) for y in (intervals, scaled)]
        return intervals if fits[0] >= fits[1] else scaled


def _first_spike(units: Spikes) -> float:
    """When the recording began, s: five mean times between spikes before the first spike."""
    first, last, number = np.inf, -np.inf, 0
    for n in range(len(units)):
        for times in units.spikes(n):
            first, last = min(first, float(times[0])), max(last, float(times[-1]))
            number += len(times)
    return first - 5 * (last - first) / number if number else np.inf


def _check_size(where: object, edges: Sequence[NDArray], units: int) -> None:
    """Raises UserError if the counts of all trials would not fit into memory."""
    longest = max(len(edges_E) - 1 for edges_E in edges)
    limits.check_array(f"{where}: counts", (len(edges), longest, units), 4)


def _without(
    where: object,
    invalid: Float[NDArray, "i 2"],
    edges: Sequence[NDArray],
    recorded: Sequence[NDArray],
) -> list[NDArray]:
    """Where units were recorded, without the bins that touch invalid times.

    Warns:
      UserWarning: there are such bins.
    """
    low, high = np.round(np.clip(invalid.T, -_END, _END) * 1e9).astype(np.int64)
    found, number = [], 0
    for edges_E, recorded_TN in zip(edges, recorded, strict=True):
        touched_T = np.any(
            (edges_E[:-1, None] < high[None]) & (edges_E[1:, None] > low[None]), axis=1
        )
        number += int(touched_T.sum())
        found.append(recorded_TN & ~touched_T[:, None])
    if number:
        total = sum(len(edges_E) - 1 for edges_E in edges)
        warnings.warn(
            f"{where}: {number} of {total} bins lie in invalid_times, in which nothing was "
            "recorded properly, and count as not recorded",
            UserWarning,
            stacklevel=3,
        )
    return found


def windows(trials: Events, cut: Cut, begin: Callable[[], float] = lambda: 0.0) -> Windows:
    """The windows of all trials that have their times.

    Args:
      trials: events.
      cut: the event, the window and the bins.
      begin: when the recording began, s; called only for trials before time 0.

    Raises:
      UserError: there are none, or one is so long that it would pad all others.
    """
    length = time_units.seconds("trial-time-unit", cut.trial_time_unit) or 1.0
    event_R = trials.times(cut.align) * length
    end_R = trials.times(cut.until) * length if cut.until else event_R
    low, high = (ms / 1000.0 for ms in cut.window_ms)
    with np.errstate(invalid="ignore"):
        is_time_R = (np.abs(event_R + low) < _END / 2) & (np.abs(end_R + high) < _END / 2)
    rows = np.flatnonzero(is_time_R)
    if not rows.size:
        raise UserError(
            f"{trials.where}: column {cut.align} has no time in any of {len(event_R)} trials"
        )
    starts = np.round((event_R[rows] + low) * 1e9).astype(np.int64)
    lengths = np.round((end_R[rows] + high) * 1e9).astype(np.int64) - starts
    bins = (lengths + 1000) // round(cut.bin_ms * 1e6)  # with a tolerance of a microsecond
    is_late = starts >= (0 if np.all(starts >= 0) else min(begin(), 0.0) * 1e9)
    usable = (bins > cut.forward_ms / cut.bin_ms) & (bins >= 1) & is_late
    warn_left_out(trials.where, len(event_R) - len(rows), f"without {cut.align}")
    too_short = int(np.sum(~usable))
    warn_left_out(trials.where, too_short, "that began before the recording or were too short")
    if cut.max_bins:
        is_long = usable & (bins > cut.max_bins)
        warn_left_out(trials.where, int(is_long.sum()), f"longer than --max-bins={cut.max_bins}")
        usable &= ~is_long
    if not usable.any():
        raise UserError(
            f"{trials.where}: no window of {cut.window_ms[0]:g} to {cut.window_ms[1]:g} ms around "
            f"{cut.align} fits into the recording; choose another window"
        )
    found = Windows(rows, starts, bins).take(usable)
    if not cut.max_bins:
        _check_longest(trials, found, cut.bin_ms)
    return found


def _check_longest(trials: Events, found: Windows, bin_ms: float) -> None:
    """Raises UserError if one trial is so long that the others would be mostly padding."""
    median = float(np.median(found.bins))
    longest = int(np.argmax(found.bins))
    most = int(found.bins[longest])
    if most <= LONGEST_TRIAL * median:
        return
    others = found.bins[found.bins <= LONGEST_TRIAL * median]
    raise UserError(
        f"{trials.where}: the trial in row {found.rows[longest]} has {most} bins "
        f"({most * bin_ms / 1e3:g} s), {most / median:.0f} times the median, and all others would "
        f"be padded to its length; leave trials out that are longer than N bins with "
        f"--max-bins=N, for example --max-bins={int(others.max())}, which leaves out "
        f"{counted(len(found.bins) - len(others), 'trial')}"
    )


def split(trials: Events, column: str, cut: Windows) -> Windows:
    """The windows of training and evaluated trials, by a column of the trials table."""
    values = np.char.lower(trials.column(column).astype(str))[cut.rows]
    is_train, is_eval = np.isin(values, TRAIN), np.isin(values, EVALUATED)
    for kind, found, words in (("train", is_train, TRAIN), ("evaluate", is_eval, EVALUATED)):
        if not found.any():
            present = ", ".join(
                f"{v} ({n})" for v, n in zip(*np.unique(values, return_counts=True), strict=True)
            )
            raise UserError(
                f"{trials.where}: column {column} has no trial to {kind}, which is "
                f"{' or '.join(words)}; values: {present}; or name those to evaluate with "
                f"--evaluated={column}=VALUE"
            )
    return cut._replace(evaluated=is_eval).take(is_train | is_eval)


def chosen_by(trials: Events, column: str, flags_R: Bool[NDArray, " R"]) -> Int[NDArray, " r"]:
    """Indices of the evaluated trials among those that were recorded."""
    found = np.flatnonzero(flags_R)
    if not 0 < len(found) < len(flags_R):
        raise UserError(
            f"{trials.where}: of the {len(flags_R)} trials that can be cut, {len(found)} "
            f"are evaluated according to {column}; some must be, and some must not"
        )
    return found


def with_nan(counts_TN: NDArray, recorded_TN: NDArray) -> NDArray:
    """Counts, NaN where not recorded."""
    return counts_TN if recorded_TN.all() else np.where(recorded_TN, counts_TN, np.float32(np.nan))


@dataclass
class Tally:
    """Numbers of spikes and the times between which they lie, s, for messages."""

    total: int = 0
    in_windows: int = 0
    not_recorded: int = 0  # outside the observation intervals
    is_whole: bool = True  # whether all spike times are whole numbers
    units: list[drift.Presence] = field(default_factory=list)

    @property
    def first(self) -> float:
        return min((unit.first for unit in self.units), default=np.inf)

    @property
    def last(self) -> float:
        return max((unit.last for unit in self.units), default=-np.inf)


def bin_spikes(
    units: Spikes,
    edges: Sequence[NDArray],
    drifting: str = "mask",
    sampling_rate: float | None = 0.0,
) -> tuple[list[NDArray], list[NDArray]]:
    """Bins the spikes of all units.

    Every unit's spike times are read in blocks, in which all edges are searched at once. This
    needs memory for one block and for the counts.

    Args:
      units: the units.
      edges: edges of the bins of every trial, ns.
      drifting: ``mask`` or ``keep``, see :class:`Cut`.
      sampling_rate: of the recording, samples/s, 0 if unknown; None if the unit of the spike times
        is known, so that it is not to be checked.

    Returns:
      For every trial the counts (bins, units), and where the unit was recorded during the whole
      bin.

    Raises:
      UserError: no spike lies in a trial, or times cannot be in s.
    """
    sizes = [len(edges_E) - 1 for edges_E in edges]
    every_E = np.concatenate(list(edges))
    # The interval from the last edge of one trial to the first edge of the next is not a bin.
    is_bin = np.ones(len(every_E) - 1, bool)
    is_bin[np.cumsum([len(edges_E) for edges_E in edges])[:-1] - 1] = False
    counts_SN = np.zeros((sum(sizes), len(units)), np.uint16)
    recorded_SN = np.ones(counts_SN.shape, bool)
    by_intervals: dict[bytes, NDArray] = {}  # units often share their intervals
    tally = Tally()
    for n in range(len(units)):
        intervals = units.recorded_intervals(n)
        counts_S = _unit_counts(units, n, intervals, every_E, tally)[is_bin]
        if np.any(counts_S > MAX_COUNT):
            raise UserError(f"{units.where}: a bin holds {counts_S.max()} spikes; check the times")
        counts_SN[:, n] = counts_S
        tally.in_windows += int(counts_S.sum())
        if intervals is not None:
            key = intervals.tobytes()
            if key not in by_intervals:
                by_intervals[key] = _recorded(intervals, every_E)[is_bin]
            recorded_SN[:, n] = by_intervals[key]
    _check_tally(units, tally, every_E, sampling_rate)
    _mark_drifting(units, tally, every_E, is_bin, recorded_SN, drifting)
    stops = np.cumsum(sizes)[:-1]
    return np.split(counts_SN, stops), np.split(recorded_SN, stops)


def _unit_counts(
    units: Spikes,
    n: int,
    intervals: Float[NDArray, "i 2"] | None,
    edges_E: Int[NDArray, " E"],
    tally: Tally,
) -> Int[NDArray, " bins"]:
    """Spikes of a unit between each edge (ns) and the next; adds to the tally.

    Raises:
      UserError: most of the spikes lie outside the observation intervals.
    """
    before_E = np.zeros(len(edges_E), np.int64)  # number of spikes before each edge
    inside, total, presence = 0, units.count(n), drift.Presence()
    for times in units.spikes(n):
        spikes_ns = np.round(np.clip(times, -_END, _END) * 1e9).astype(np.int64)
        before_E += np.searchsorted(spikes_ns, edges_E, side="left")
        presence = presence.with_block(times)
        tally.is_whole = tally.is_whole and not np.any(times % 1)
        if intervals is not None:
            inside += _number_inside(times, intervals)
    tally.units.append(presence if intervals is None else presence._replace(longest=np.inf))
    tally.total += total
    if intervals is not None:
        tally.not_recorded += total - inside
        if inside < total / 2:
            finite = intervals[np.isfinite(intervals)]
            ends = f"{finite.min():g} to {finite.max():g} s" if finite.size else "without ends"
            hint = ""
            if finite.size and total:
                unit = time_units.fitting(
                    (presence.first, presence.last), (float(finite.min()), float(finite.max()))
                )
                hint = f"; if spike times are in {unit}, give --spike-time-unit={unit}" * bool(unit)
            raise UserError(
                f"{units.where}: {total - inside} of {total} spikes of unit {units.ids[n]} lie "
                f"outside its observation intervals ({ends}); all times must be in s, of the same "
                f"clock{hint}"
            )
    return np.diff(before_E)


def _check_tally(
    units: Spikes, tally: Tally, edges_E: Int[NDArray, " E"], sampling_rate: float | None
) -> None:
    """Raises UserError if no spike lies in a window, or if times of spikes cannot be in s.

    Warns:
      UserWarning: some spikes are not counted.
    """
    windows_s = (float(edges_E.min()) / 1e9, float(edges_E.max()) / 1e9)
    spikes_s = (tally.first, tally.last)
    if not tally.total:
        raise UserError(f"{units.where}: there are no spikes; take another file or table of units")
    if sampling_rate is not None:
        _check_unit(units, tally, spikes_s, windows_s, sampling_rate)
    if not tally.in_windows:
        unit = time_units.fitting(windows_s, spikes_s)
        hint = f"; if the times of trials are in {unit}, give --trial-time-unit={unit}"
        raise UserError(
            f"{units.where}: none of the {tally.total} spikes falls into a window: spikes are from "
            f"{tally.first:g} to {tally.last:g} s, windows from {windows_s[0]:g} to "
            f"{windows_s[1]:g} s; all times must be in s, of the same clock{hint if unit else ''}"
        )
    if tally.not_recorded:
        warnings.warn(
            f"{units.where}: {tally.not_recorded} of {tally.total} spikes lie outside the "
            "observation intervals and are not counted",
            UserWarning,
            stacklevel=4,
        )


def _check_unit(
    units: Spikes,
    tally: Tally,
    spikes_s: tuple[float, float],
    windows_s: tuple[float, float],
    sampling_rate: float,
) -> None:
    """Raises UserError if the span and the rates of the spikes are not those of times in s."""
    rates_hz = [unit.rate_hz for unit in tally.units]
    unit = time_units.suspected(
        rates_hz, spikes_s, windows_s, whole=tally.is_whole, sampling_rate=sampling_rate or None
    )
    known = sorted(rate for rate, unit in zip(rates_hz, tally.units, strict=True)
                   if rate and unit.spikes >= drift.FEWEST_SPIKES)  # fmt: skip
    too_fast = bool(known) and known[len(known) // 2] > time_units.FASTEST
    if not unit and not too_fast:
        return
    middle = float(np.median([rate for rate in rates_hz if rate > 0]))
    said = (
        f"{units.where}: spike times from {spikes_s[0]:g} to {spikes_s[1]:g} seem not to be in s: "
        f"the trials are from {windows_s[0]:g} to {windows_s[1]:g} s, {tally.in_windows} of "
        f"{tally.total} spikes fall into them, and the median unit would fire {middle:.2g} spikes/s"
    )
    if too_fast and not unit:
        raise UserError(f"{said}; give their unit with --spike-time-unit ({time_units.FORMS})")
    length = time_units.seconds("spike-time-unit", unit) or 1.0
    guess = " (a guess: the file states no sampling rate)"
    raise UserError(
        f"{said}; with --spike-time-unit={unit}{guess if ':' in unit and not sampling_rate else ''}"
        f" they are from {spikes_s[0] * length:g} to {spikes_s[1] * length:g} s, with "
        f"{middle / length:.2g} spikes/s; if they are in s, give --spike-time-unit=s"
    )


def _mark_drifting(
    units: Spikes,
    tally: Tally,
    edges_E: Int[NDArray, " E"],
    is_bin: Bool[NDArray, " bins"],
    recorded_SN: Bool[NDArray, "S N"],
    drifting: str,
) -> None:
    """Marks bins in which a unit was not there yet, or no longer, in ``recorded_SN``.

    Warns:
      UserWarning: there are such bins.
    """
    begin, end = float(edges_E.min()) / 1e9, float(edges_E.max()) / 1e9
    spans = drift.present(tally.units, min(begin, tally.first), max(end, tally.last))
    found = []
    for n, span in enumerate(spans):
        there_S = None if span is None else _recorded(np.array([span]), edges_E)[is_bin]
        if span is None or there_S is None or there_S.all():
            continue
        found.append(f"{units.ids[n]} ({_span(span)})")
        if drifting == "mask":
            recorded_SN[:, n] &= there_S
    if not found:
        return
    what = (
        "the bins without it count as not recorded; take them as silence with --drifting=keep"
        if drifting == "mask"
        else "its silence is taken as a rate of 0; mark it as not recorded with --drifting=mask"
    )
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    warnings.warn(
        f"{units.where}: {len(found)} of {len(units)} units spike in a part of the recording only, "
        f"for which no observation intervals are given, and by chance would not (p < 1e-13): unit "
        f"{', '.join(found[:8])}{more}; {what}",
        UserWarning,
        stacklevel=4,
    )


def _span(span: tuple[float, float]) -> str:
    low, high = span
    return " ".join(
        [f"from {low:.1f} s"] * bool(np.isfinite(low))
        + [f"until {high:.1f} s"] * bool(np.isfinite(high))
    )


def _number_inside(times: Float[NDArray, " s"], intervals: Float[NDArray, "i 2"]) -> int:
    """How many of the times lie in the intervals."""
    low, high = (
        np.searchsorted(times, intervals[:, 0]),
        np.searchsorted(times, intervals[:, 1], side="right"),
    )
    return int(np.sum(high - low))


def _recorded(
    intervals: Float[NDArray, "i 2"], edges_E: Int[NDArray, " E"]
) -> Bool[NDArray, " bins"]:
    """Whether a bin, from one edge (ns) to the next, lies in one of the intervals (s)."""
    ordered = np.clip(intervals[np.argsort(intervals[:, 0])], -_END, _END)
    begin, end = np.round(ordered.T * 1e9).astype(np.int64)
    # Intervals that touch or overlap are merged.
    is_first = np.append(True, begin[1:] > np.maximum.accumulate(end)[:-1])
    end = np.maximum.reduceat(end, np.flatnonzero(is_first))
    begin = begin[is_first]
    which = np.searchsorted(begin, edges_E[:-1], side="right") - 1
    return (which >= 0) & (edges_E[1:] <= end[which])


def behavior(series: Samples, edges: Sequence[NDArray], cut: Cut, where: object) -> list[NDArray]:
    """Behaviour in the bins of every trial, taken later by the lag of ``cut``."""
    return behavior_in(series, edges, cut.lag_ms, where)


def behavior_in(
    series: Samples, edges: Sequence[NDArray], lag_ms: float, where: object
) -> list[NDArray]:
    """Behaviour in bins.

    Args:
      series: its samples.
      edges: of the bins of every trial, ns.
      lag_ms: how much later than the bins behaviour is taken, ms.
      where: the source, with which messages start.

    Returns:
      For every trial (bins, dimensions); NaN where missing.

    Raises:
      UserError: there is no sample in any bin.

    Warns:
      UserWarning: it is missing in some bins.
    """
    found = []
    for edges_E in edges:
        edges_s = edges_E / 1e9 + lag_ms / 1e3
        times_S, x_SD = series.between(edges_s[0], edges_s[-1])
        period = 1 / series.rate if series.rate else None
        found.append(resample(times_S, x_SD, edges_s, period))
    present = np.concatenate([np.isfinite(x_TD).all(axis=1) for x_TD in found])
    if not present.any():
        raise UserError(
            f"{where}: {series.name} has no value in any window: its samples, {series.start:g} to "
            f"{series.start + series.duration:g} s, are NaN or outside the windows; name another "
            "series or leave --behavior out"
        )
    if not present.all():
        warnings.warn(
            f"{where}: {series.name} is missing in {np.mean(~present):.1%} of the bins, which have "
            "no behaviour to decode",
            UserWarning,
            stacklevel=3,
        )
    return found


def resample(
    times_S: Float[NDArray, " S"],
    x_SD: Float[NDArray, "S D"],
    edges_E: Float[NDArray, " E"],
    period: float | None = None,
) -> Float[NDArray, "bins D"]:
    """The mean over every bin of the straight lines between samples.

    A bin with many samples gets their mean, a bin between two samples the interpolated value. A
    bin is NaN if it touches a gap: a NaN sample, samples more than 1.5 periods apart, or the time
    before the first or after the last sample.

    Args:
      times_S: times of the samples, s, in order.
      x_SD: values of the samples.
      edges_E: edges of the bins, s.
      period: usual time between samples, s; None for their median distance.

    Returns:
      The means, in bins.
    """
    bins, D = len(edges_E) - 1, x_SD.shape[1]
    finite_S = np.isfinite(x_SD).all(axis=1)
    times_S, x_SD = times_S[finite_S], x_SD[finite_S]
    if len(times_S) < 2:
        return np.full((bins, D), np.nan, np.float32)
    steps = np.diff(times_S)
    areas = np.concatenate(
        [np.zeros((1, D)), np.cumsum((x_SD[1:] + x_SD[:-1]) / 2 * steps[:, None], axis=0)]
    )
    at = np.clip(np.searchsorted(times_S, edges_E, side="right") - 1, 0, len(steps) - 1)
    part = (edges_E - times_S[at])[:, None]
    slope = (x_SD[at + 1] - x_SD[at]) / steps[at][:, None]
    area_ED = areas[at] + x_SD[at] * part + slope * part**2 / 2
    mean = np.diff(area_ED, axis=0) / np.diff(edges_E)[:, None]
    # With a tolerance of a microsecond, for times that were rounded.
    beyond = (edges_E < times_S[0] - 1e-6) | (edges_E > times_S[-1] + 1e-6)
    wide = np.append(0, np.cumsum(steps > GAP_PERIODS * (period or np.median(steps))))
    # A bin that ends on a sample ends in the segment before that sample.
    last = np.clip(np.searchsorted(times_S, edges_E[1:], side="left") - 1, 0, len(steps) - 1)
    in_gap = wide[last + 1] > wide[at[:-1]]
    mean[in_gap | beyond[1:] | beyond[:-1]] = np.nan
    return mean.astype(np.float32)


def warn_shared(where: object, data: SpikeData) -> None:
    """Warns of evaluated trials that overlap in time with training trials."""
    spans = []
    for trials in (data.train, data.eval):
        has_count_RT = np.any(trials.has_count(data.bins_forward, data.heldout), axis=2)
        first_R = np.argmax(has_count_RT, axis=1)
        stop_R = data.bins - np.argmax(has_count_RT[:, ::-1], axis=1)
        assert trials.starts is not None
        spans.append([trials.starts + bins_R * (data.bin_ms / 1e3) for bins_R in (first_R, stop_R)])
    (train_begin, train_end), (eval_begin, eval_end) = spans
    # Evaluated trials in rows, training trials in columns; a microsecond may be rounding.
    shared = (train_begin[None] < eval_end[:, None] - 1e-6) & (
        train_end[None] > eval_begin[:, None] + 1e-6
    )
    if shared.any():
        warnings.warn(
            f"{where}: the windows of {int(shared.any(axis=1).sum())} of {len(data.eval)} "
            "evaluated trials overlap with those of training trials, which makes scores too high; "
            "choose a shorter window or split by a column",
            UserWarning,
            stacklevel=3,
        )


def warn_left_out(where: object, number: int, reason: str) -> None:
    """Warns of trials that are left out, if there are any."""
    if number:
        warnings.warn(
            f"{where}: left out {counted(number, 'trial')} {reason}", UserWarning, stacklevel=3
        )
