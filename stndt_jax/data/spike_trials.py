"""Trials from spike times and events: windows around an event, binned spikes, resampled behaviour.

Whatever holds spike times and a table of events, a file of any format or objects in memory, makes
its trials here. Times are compared in whole nanoseconds, so that a spike on the edge of two bins
belongs to the second one regardless of rounding errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import limits, time_units
from stndt_jax.data.spike_binning import (
    DRIFTING,
    END,
    Scaled,
    Spikes,
    bin_spikes,
    first_spike,
    with_nan,
)
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError, check_choice
from stndt_jax.types import Bool, Float, Int, NDArray

# Values of a split column.
TRAIN, EVALUATED = ("train",), ("val", "valid", "validation", "eval", "test")
# Samples of behaviour further apart than this many sampling periods have a gap between them.
GAP_PERIODS = 1.5
# Trials are padded to the longest; one that is longer than the median by this factor is refused.
LONGEST_TRIAL = 20


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
        units = Scaled(units, length)
    found = windows(trials, cut, lambda: first_spike(units))
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
    low, high = np.round(np.clip(invalid.T, -END, END) * 1e9).astype(np.int64)
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
        is_time_R = (np.abs(event_R + low) < END / 2) & (np.abs(end_R + high) < END / 2)
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
    times = f"{cut.align} or {cut.until}" if cut.until else cut.align
    warn_left_out(trials.where, len(event_R) - len(rows), f"without {times}")
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
