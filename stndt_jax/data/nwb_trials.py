"""Any NWB file to trials: windows around an event, spikes binned, behaviour resampled.

Times are compared in whole nanoseconds, so that a spike on the edge of a bin belongs to the bin
that begins there, whatever the last digit of a float says.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stndt_jax.data.nwb import Series, Table, Units, open_nwb
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

TRAIN, EVALUATED = ("train",), ("val", "valid", "validation", "eval", "test")
# Neighbouring samples of behaviour further apart than this many periods have a gap between.
GAP_PERIODS = 1.5


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How trials are cut out of a recording.

    Attributes:
        align: column of the trials table with the time of an event.
        window_ms: from where to where a trial reaches, relative to the event.
        bin_ms: bin width.
        until: column with the time to which the window's end is relative, for trials of unequal
            length; empty for the event itself.
        forward_ms: how much of the end of the window is forward bins.
        behavior: name of a time series; empty for none.
        lag_ms: how much later than the spikes behaviour is taken.
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
            raise UserError(f"window is {low:g} to {high:g} ms; it must end after it begins")
        for what, ms in (("window", high - low), ("forward_ms", self.forward_ms)):
            if not self.until and abs(ms / self.bin_ms - round(ms / self.bin_ms)) > 1e-6:
                raise UserError(
                    f"{what} is {ms:g} ms long, no whole number of bins of {self.bin_ms:g} ms"
                )


def prepare(
    path: str | Path,
    cut: Cut,
    *,
    name: str = "",
    heldout: float = 0.25,
    heldout_column: str = "",
    evaluated: float = 0.25,
    split_column: str = "",
    condition_column: str = "",
    seed: int = 0,
) -> SpikeData:
    """Trials of an NWB file.

    Bins that the units' observation intervals do not cover whole are not valid.

    Args:
        path: the NWB file.
        cut: how trials are cut.
        name: name of the recording; default the file's own.
        heldout: fraction of the units to hold out, drawn by the seed.
        heldout_column: column of the units table that tells them instead.
        evaluated: fraction of the trials to evaluate, drawn by the seed.
        split_column: column of the trials table that tells them instead: `train`, and `val` or
            `test`; trials with any other value are left out.
        condition_column: column of the trials table whose values are the conditions.
        seed: of the draws.

    Raises:
        UserError: the file does not hold what is asked for, or holds it broken.

    Warns:
        UserWarning: trials are left out, or spikes lie outside the observation intervals.
    """
    path = Path(path)
    with open_nwb(path) as file:
        units, trials = file.units, file.trials
        ids = units.ids
        out: float | NDArray = heldout
        if heldout_column:
            out = np.flatnonzero(units.flags(heldout_column))
            if not 0 < len(out) < len(ids):
                raise UserError(
                    f"{units.where}: column {heldout_column} holds out {len(out)} of {len(ids)} "
                    "units; some must be held out and some held in"
                )
        rows, start_R, bins_R = _windows(trials, cut)
        rows, start_R, bins_R, chosen = _split(trials, split_column, rows, start_R, bins_R)
        edges = [
            start + np.round(np.arange(bins + 1) * (cut.bin_ms * 1e6)).astype(np.int64)
            for start, bins in zip(start_R, bins_R, strict=True)
        ]
        counts, seen = _bin(units, edges)
        kept = [r for r in range(len(rows)) if seen[r].any()]
        if not kept:
            raise UserError(
                f"{path}: no unit was recorded in any of the {len(rows)} windows; the observation "
                f"intervals and {cut.align} must be times of one clock, in s"
            )
        _warn_left_out(path, len(rows) - len(kept), "lie outside the observation intervals")
        behavior = None
        if cut.behavior:
            series = file.one_series(cut.behavior)
            behavior = _behavior(series, [edges[r] for r in kept], cut, path)
        conditions = None
        if condition_column:
            values = trials.column(condition_column)[rows[kept]]
            conditions = np.unique(values, return_inverse=True)[1].astype(np.int32)
    spikes = [
        counts[r] if seen[r].all() else np.where(seen[r], counts[r], np.float32(np.nan))
        for r in kept
    ]
    if chosen is not None:
        evaluated_ix = np.flatnonzero(chosen[kept])
        if not 0 < len(evaluated_ix) < len(kept):
            raise UserError(
                f"{trials.where}: of the {len(kept)} trials that can be cut, {len(evaluated_ix)} "
                f"are to be evaluated by {split_column}; there must be some of either kind"
            )
    data = SpikeData.from_arrays(
        spikes,
        bin_ms=cut.bin_ms,
        name=name or path.stem,
        heldout=out,
        evaluated=evaluated if chosen is None else evaluated_ix,
        bins_forward=round(cut.forward_ms / cut.bin_ms),
        behavior=behavior,
        conditions=conditions,
        starts=start_R[kept] / 1e9,
        units=ids,
        seed=seed,
    )
    _warn_shared(path, data, cut)
    return data


def _windows(trials: Table, cut: Cut) -> tuple[Int[NDArray, " R"], Int[NDArray, " R"], list[int]]:
    """Row, start (ns) and number of bins of every trial that has its times."""
    event_R = trials.times(cut.align)
    end_R = trials.times(cut.until) if cut.until else event_R
    low, high = (ms / 1000.0 for ms in cut.window_ms)
    rows = np.flatnonzero(np.isfinite(event_R) & np.isfinite(end_R))
    if not rows.size:
        raise UserError(f"{trials.where}: column {cut.align} has no time in any of {len(event_R)}")
    start_R = np.round((event_R[rows] + low) * 1e9).astype(np.int64)
    length_R = np.round((end_R[rows] + high) * 1e9).astype(np.int64) - start_R
    bins_R = (length_R + 1000) // round(cut.bin_ms * 1e6)  # a microsecond's grace
    good = (bins_R > cut.forward_ms / cut.bin_ms) & (start_R >= 0)
    _warn_left_out(trials.where, len(event_R) - len(rows), f"have no {cut.align}")
    _warn_left_out(trials.where, int(np.sum(~good)), "begin before the recording or are too short")
    if not good.any():
        raise UserError(
            f"{trials.where}: no window of {cut.window_ms[0]:g} to {cut.window_ms[1]:g} ms around "
            f"{cut.align} fits into the recording; choose another window"
        )
    return rows[good], start_R[good], [int(n) for n in bins_R[good]]


def _split(
    trials: Table, column: str, rows: NDArray, start_R: NDArray, bins_R: list[int]
) -> tuple[NDArray, NDArray, list[int], Bool[NDArray, " R"] | None]:
    """The trials that have a part to play, and which of them are evaluated."""
    if not column:
        return rows, start_R, bins_R, None
    values = np.char.lower(trials.column(column).astype(str))[rows]
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
    keep = is_train | is_eval
    return (
        rows[keep],
        start_R[keep],
        [n for n, k in zip(bins_R, keep, strict=True) if k],
        is_eval[keep],
    )


def _bin(units: Units, edges: Sequence[NDArray]) -> tuple[list[NDArray], list[NDArray]]:
    """Counts (bins, units) of every trial, and which bins were observed whole.

    A loop over units, in each a search for all edges in the spike times: memory for one portion of
    one unit's spikes and for the counts.
    """
    N = len(units)
    sizes = [len(e) - 1 for e in edges]
    every_E = np.concatenate(list(edges))
    bounds = np.cumsum([0, *(len(e) for e in edges)])
    # Differences of the number of spikes before an edge: the one across two trials is no bin.
    is_bin = np.ones(len(every_E) - 1, bool)
    is_bin[bounds[1:-1] - 1] = False
    counts_SN = np.zeros((sum(sizes), N), np.uint16)
    seen_SN = np.ones((sum(sizes), N), bool)
    known: dict[bytes, NDArray] = {}
    total = within = strays = 0
    first, last = np.inf, -np.inf
    for n in range(N):
        before_E = np.zeros(len(every_E), np.int64)
        intervals = units.observed(n)
        inside = 0
        for times in units.spikes(n):
            spikes = np.round(times * 1e9).astype(np.int64)
            before_E += np.searchsorted(spikes, every_E, side="left")
            first, last = min(first, times[0]), max(last, times[-1])
            if intervals is not None:
                inside += _inside(times, intervals)
        found_S = np.diff(before_E)[is_bin]
        if np.any(found_S > np.iinfo(np.uint16).max):
            raise UserError(f"{units.where}: a bin holds {found_S.max()} spikes; check the times")
        counts_SN[:, n] = found_S
        total, within = total + units.count(n), within + int(found_S.sum())
        if intervals is not None:
            strays += units.count(n) - inside
            if inside < units.count(n) / 2:
                raise UserError(
                    f"{units.where}: {units.count(n) - inside} of {units.count(n)} spikes of unit "
                    f"{units.ids[n]} lie outside its observation intervals "
                    f"({intervals.min():g} to {intervals.max():g} s); all times must be in s, of "
                    "one clock"
                )
            key = intervals.tobytes()
            if key not in known:
                known[key] = _observed(intervals, every_E)[is_bin]
            seen_SN[:, n] = known[key]
    if not within:
        raise UserError(
            f"{units.where}: none of the {total} spikes falls into a window: spikes are from "
            f"{first:g} to {last:g} s, windows from {every_E.min() / 1e9:g} to "
            f"{every_E.max() / 1e9:g} s; all times must be in s, of one clock"
        )
    if strays:
        warnings.warn(
            f"{units.where}: {strays} of {total} spikes lie outside the observation intervals and "
            "are not counted",
            UserWarning,
            stacklevel=3,
        )
    stops = np.cumsum(sizes)[:-1]
    return np.split(counts_SN, stops), np.split(seen_SN, stops)


def _inside(times: Float[NDArray, " s"], intervals: Float[NDArray, "i 2"]) -> int:
    low, high = (
        np.searchsorted(times, intervals[:, 0]),
        np.searchsorted(times, intervals[:, 1], side="right"),
    )
    return int(np.sum(high - low))


def _observed(
    intervals: Float[NDArray, "i 2"], edges_E: Int[NDArray, " E"]
) -> Bool[NDArray, " bins"]:
    """Whether a bin, from one edge to the next, lies within one interval."""
    begin, end = np.round(intervals[np.argsort(intervals[:, 0])].T * 1e9).astype(np.int64)
    # Intervals that touch are one.
    apart = np.append(True, begin[1:] > np.maximum.accumulate(end)[:-1])
    end = np.maximum.reduceat(end, np.flatnonzero(apart))
    begin = begin[apart]
    which = np.searchsorted(begin, edges_E[:-1], side="right") - 1
    return (which >= 0) & (edges_E[1:] <= end[which])


def _behavior(series: Series, edges: Sequence[NDArray], cut: Cut, path: Path) -> list[NDArray]:
    found = []
    for edges_E in edges:
        edges_s = edges_E / 1e9 + cut.lag_ms / 1e3
        times_S, x_SD = series.between(edges_s[0], edges_s[-1])
        period = 1 / series.rate if series.rate else None
        found.append(resample(times_S, x_SD, edges_s, period))
    known = np.concatenate([np.isfinite(x_TD).all(axis=1) for x_TD in found])
    if not known.any():
        raise UserError(
            f"{path}: {series.name} has no known value in any window: its samples, "
            f"{series.start:g} to {series.start + series.duration:g} s, are NaN or elsewhere; name "
            "another series or leave --behavior out"
        )
    if not known.all():
        warnings.warn(
            f"{path}: {series.name} is unknown in {np.mean(~known):.1%} of the bins, which have "
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

    Bins of many samples get their mean, bins between two samples the value between them. NaN
    where a bin touches a gap: a NaN sample, or samples more than 1.5 periods apart.

    Args:
        times_S: times of the samples, s, in order.
        x_SD: their values.
        edges_E: edges of the bins, s.
        period: usual time between samples, s; None takes their median distance.
    """
    bins, D = len(edges_E) - 1, x_SD.shape[1]
    good = np.isfinite(x_SD).all(axis=1)
    times_S, x_SD = times_S[good], x_SD[good]
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
    # A microsecond's grace for times that were rounded.
    beyond = (edges_E < times_S[0] - 1e-6) | (edges_E > times_S[-1] + 1e-6)
    wide = np.append(0, np.cumsum(steps > GAP_PERIODS * (period or np.median(steps))))
    # The segment a bin ends in is the one its last moment lies in.
    last = np.clip(np.searchsorted(times_S, edges_E[1:], side="left") - 1, 0, len(steps) - 1)
    in_gap = wide[last + 1] > wide[at[:-1]]
    mean[in_gap | beyond[1:] | beyond[:-1]] = np.nan
    return mean.astype(np.float32)


def _warn_shared(path: Path, data: SpikeData, cut: Cut) -> None:
    """Moments that are trained on and evaluated as well flatter every score."""
    spans = []
    for trials in (data.train, data.eval):
        known_RT = np.any(trials.has_count(data.bins_forward, data.heldout), axis=2)
        ends = np.argmax(known_RT, axis=1), data.bins - np.argmax(known_RT[:, ::-1], axis=1)
        assert trials.starts is not None
        spans.append([trials.starts + bins_R * (cut.bin_ms / 1e3) for bins_R in ends])
    (begin, end), (first, last) = spans
    shared = (begin[None] < last[:, None] - 1e-6) & (end[None] > first[:, None] + 1e-6)
    if shared.any():
        warnings.warn(
            f"{path}: the windows of {int(shared.any(axis=1).sum())} of {len(data.eval)} evaluated "
            "trials overlap with those of training trials, which flatters scores; choose a shorter "
            "window or split by a column",
            UserWarning,
            stacklevel=3,
        )


def _warn_left_out(where: object, number: int, why: str) -> None:
    if number:
        warnings.warn(f"{where}: {number} trials {why} and are left out", UserWarning, stacklevel=3)
