"""Trials from spike times and events: windows around an event, binned spikes, resampled behaviour.

Whatever holds spike times and a table of events, a file of any format or objects in memory, makes
its trials here. Times are compared in whole nanoseconds, so that a spike on the edge of two bins
belongs to the second one regardless of rounding errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

# Values of a split column.
TRAIN, EVALUATED = ("train",), ("val", "valid", "validation", "eval", "test")
# Samples of behaviour further apart than this many sampling periods have a gap between them.
GAP_PERIODS = 1.5


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

    def __post_init__(self) -> None:
        low, high = self.window_ms
        if not self.bin_ms > 0:
            raise UserError(f"bin_ms is {self.bin_ms:g}; give the bin width in ms, above 0")
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
    where: object, units: Spikes, trials: Events, cut: Cut, *, split_column: str = ""
) -> CutTrials:
    """Cuts trials out of spike times.

    Bins that are not completely covered by a unit's recorded intervals are not recorded; a trial
    in which no unit was recorded is left out.

    Args:
      where: the source, with which messages start.
      units: spike times.
      trials: events.
      cut: the event, the window and the bins.
      split_column: column of the events with ``train``, and ``val`` or ``test``; trials with any
        other value are left out.

    Raises:
      UserError: no trial can be cut, or values cannot be right.

    Warns:
      UserWarning: trials or spikes are left out.
    """
    found = windows(trials, cut)
    if split_column:
        found = split(trials, split_column, found)
    edges = found.edges(cut.bin_ms)
    counts, recorded = bin_spikes(units, edges)
    used = np.array([r for r, block in enumerate(recorded) if block.any()], int)
    if not used.size:
        raise UserError(
            f"{where}: no unit was recorded in any of the {len(edges)} windows; the observation "
            f"intervals and {cut.align} must be times of the same clock, in s"
        )
    warn_left_out(where, len(edges) - used.size, "outside the observation intervals")
    counts = [_with_nan(counts[r], recorded[r]) for r in used]
    return CutTrials(found.take(used), counts, [edges[r] for r in used])


def windows(trials: Events, cut: Cut) -> Windows:
    """The windows of all trials that have their times."""
    event_R = trials.times(cut.align)
    end_R = trials.times(cut.until) if cut.until else event_R
    low, high = (ms / 1000.0 for ms in cut.window_ms)
    rows = np.flatnonzero(np.isfinite(event_R) & np.isfinite(end_R))
    if not rows.size:
        raise UserError(
            f"{trials.where}: column {cut.align} has no time in any of {len(event_R)} trials"
        )
    starts = np.round((event_R[rows] + low) * 1e9).astype(np.int64)
    lengths = np.round((end_R[rows] + high) * 1e9).astype(np.int64) - starts
    bins = (lengths + 1000) // round(cut.bin_ms * 1e6)  # with a tolerance of a microsecond
    usable = (bins > cut.forward_ms / cut.bin_ms) & (starts >= 0)
    warn_left_out(trials.where, len(event_R) - len(rows), f"without {cut.align}")
    too_short = int(np.sum(~usable))
    warn_left_out(trials.where, too_short, "that began before the recording or were too short")
    if not usable.any():
        raise UserError(
            f"{trials.where}: no window of {cut.window_ms[0]:g} to {cut.window_ms[1]:g} ms around "
            f"{cut.align} fits into the recording; choose another window"
        )
    return Windows(rows, starts, bins).take(usable)


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
                f"{' or '.join(words)}; values: {present}"
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


def _with_nan(counts_TN: NDArray, recorded_TN: NDArray) -> NDArray:
    """Counts, NaN where not recorded."""
    return counts_TN if recorded_TN.all() else np.where(recorded_TN, counts_TN, np.float32(np.nan))


@dataclass
class Tally:
    """Numbers of spikes and the times between which they lie, s, for messages."""

    total: int = 0
    in_windows: int = 0
    not_recorded: int = 0  # outside the observation intervals
    first: float = np.inf
    last: float = -np.inf


def bin_spikes(units: Spikes, edges: Sequence[NDArray]) -> tuple[list[NDArray], list[NDArray]]:
    """Bins the spikes of all units.

    Every unit's spike times are read in blocks, in which all edges are searched at once. This
    needs memory for one block and for the counts.

    Args:
      units: the units.
      edges: edges of the bins of every trial, ns.

    Returns:
      For every trial the counts (bins, units), and where the unit was recorded during the whole
      bin.
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
    _check_tally(units, tally, every_E)
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
    inside, total = 0, units.count(n)
    for times in units.spikes(n):
        spikes_ns = np.round(times * 1e9).astype(np.int64)
        before_E += np.searchsorted(spikes_ns, edges_E, side="left")
        tally.first, tally.last = min(tally.first, times[0]), max(tally.last, times[-1])
        if intervals is not None:
            inside += _number_inside(times, intervals)
    tally.total += total
    if intervals is not None:
        tally.not_recorded += total - inside
        if inside < total / 2:
            raise UserError(
                f"{units.where}: {total - inside} of {total} spikes of unit {units.ids[n]} lie "
                f"outside its observation intervals ({intervals.min():g} to {intervals.max():g} "
                "s); all times must be in s, of the same clock"
            )
    return np.diff(before_E)


def _check_tally(units: Spikes, tally: Tally, edges_E: Int[NDArray, " E"]) -> None:
    """Raises UserError if no spike lies in a window; warns of spikes that are not counted."""
    if not tally.in_windows:
        raise UserError(
            f"{units.where}: none of the {tally.total} spikes falls into a window: spikes are from "
            f"{tally.first:g} to {tally.last:g} s, windows from {edges_E.min() / 1e9:g} to "
            f"{edges_E.max() / 1e9:g} s; all times must be in s, of the same clock"
        )
    if tally.not_recorded:
        warnings.warn(
            f"{units.where}: {tally.not_recorded} of {tally.total} spikes lie outside the "
            "observation intervals and are not counted",
            UserWarning,
            stacklevel=4,
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
    begin, end = np.round(intervals[np.argsort(intervals[:, 0])].T * 1e9).astype(np.int64)
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
