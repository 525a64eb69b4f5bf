"""Spike times in bins: counts, and where a unit was recorded.

Spike times of any source are read in blocks, so that memory holds one block and the counts. Times
are compared in whole nanoseconds, so that a spike on the edge of two bins belongs to the second one
regardless of rounding errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from stndt_jax.data import drift, time_units
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

# Times, s, beyond which nothing is a time of a recording; they fit into 64 bits of ns.
END = 9e9
# What becomes of the silence of units that were lost or found in the middle of a recording.
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


class Scaled:
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


def first_spike(units: Spikes) -> float:
    """When the recording began, s: five mean times between spikes before the first spike."""
    first, last, number = np.inf, -np.inf, 0
    for n in range(len(units)):
        for times in units.spikes(n):
            first, last = min(first, float(times[0])), max(last, float(times[-1]))
            number += len(times)
    return first - 5 * (last - first) / number if number else np.inf


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
      drifting: ``mask`` or ``keep``, see :class:`stndt_jax.data.spike_trials.Cut`.
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
        spikes_ns = np.round(np.clip(times, -END, END) * 1e9).astype(np.int64)
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
    begin, end = min(begin, tally.first), max(end, tally.last)
    spans = drift.present(tally.units, begin, end)
    likely = [
        None if certain else span
        for span, certain in zip(
            drift.present(tally.units, begin, end, drift.DOUBTFUL_SPIKES), spans, strict=True
        )
    ]
    _tell_doubtful(units, likely)
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


def _tell_doubtful(units: Spikes, spans: Sequence[tuple[float, float] | None]) -> None:
    """Warns of units that were lost or found in the middle of the recording in all likelihood."""
    named = [f"{units.ids[n]} ({_span(span)})" for n, span in enumerate(spans) if span]
    if not named:
        return
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    warnings.warn(
        f"{units.where}: {len(named)} of {len(units)} units may have been recorded in part of the "
        f"recording only (p < 1e-6): unit {', '.join(named[:8])}{more}; their silence is taken as "
        "a rate of 0; leave them out with --skip-units",
        UserWarning,
        stacklevel=5,
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
    ordered = np.clip(intervals[np.argsort(intervals[:, 0])], -END, END)
    begin, end = np.round(ordered.T * 1e9).astype(np.int64)
    # Intervals that touch or overlap are merged.
    is_first = np.append(True, begin[1:] > np.maximum.accumulate(end)[:-1])
    end = np.maximum.reduceat(end, np.flatnonzero(is_first))
    begin = begin[is_first]
    which = np.searchsorted(begin, edges_E[:-1], side="right") - 1
    return (which >= 0) & (edges_E[1:] <= end[which])
