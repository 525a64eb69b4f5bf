"""Recordings from arrays without trials, and from files of spike counts.

A continuous recording is chopped into overlapping windows, which take the role of trials; rates
of the windows are merged into one array again.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data import behavior, count_files, lfads, table_files
from stndt_jax.data.behavior import Angles, Behavior
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray, Shaped


def window_starts(bins: int, window: int, overlap: int) -> Int[NDArray, " R"]:
    """First bins of the windows that cover a recording.

    Neighbouring windows share ``overlap`` bins; the last one ends with the recording and may share
    more.

    Args:
      bins: bins of the recording.
      window: bins of a window.
      overlap: bins that neighbouring windows share.

    Raises:
      UserError: the window is longer than the recording, or the overlap not shorter than a window.
    """
    if not 0 < window <= bins:
        raise UserError(f"a window of {window} bins does not fit into {bins}; choose 1 to {bins}")
    if not 0 <= overlap < window:
        raise UserError(
            f"an overlap of {overlap} bins does not fit windows of {window} bins; choose 0 to "
            f"{window - 1}"
        )
    starts = np.arange(0, bins - window + 1, window - overlap)
    return starts if starts[-1] + window == bins else np.append(starts, bins - window)


def chop(
    x_SD: Shaped[NDArray, "S D"], window: int, starts_R: Int[NDArray, " R"]
) -> Shaped[NDArray, "R T D"]:
    """The windows of an array over time.

    Args:
      x_SD: values in all bins of the recording.
      window: T, bins of a window.
      starts_R: first bin of every window.
    """
    return np.stack([x_SD[first : first + window] for first in starts_R])


def merge(
    x_RTD: Float[NDArray, "R T D"], starts_R: Int[NDArray, " R"], bins: int
) -> Float[NDArray, "S D"]:
    """Merges windows into one array over time.

    Where windows overlap, a bin is a weighted mean. A window's weight falls linearly towards its
    ends, where a model sees less of a bin's context.

    Args:
      x_RTD: values in the windows; NaN where missing.
      starts_R: first bin of every window.
      bins: S, bins of the recording.

    Returns:
      The values, NaN in bins that no window covers.
    """
    _, T, D = x_RTD.shape
    weight_TD = np.minimum(np.arange(1.0, T + 1), np.arange(T, 0.0, -1))[:, None]
    sums_SD, weights_SD = np.zeros((bins, D)), np.zeros((bins, D))
    for x_TD, first in zip(x_RTD, starts_R, strict=True):
        finite_TD = np.isfinite(x_TD)
        sums_SD[first : first + T] += weight_TD * np.where(finite_TD, x_TD, 0)
        weights_SD[first : first + T] += weight_TD * finite_TD
    return np.where(weights_SD > 0, sums_SD / np.maximum(weights_SD, 1), np.nan)


def from_continuous(
    spikes: NDArray,
    *,
    bin_ms: float,
    window: int,
    overlap: int = 0,
    evaluated: float = 0.25,
    behavior: NDArray | None = None,
    first_s: float = 0.0,
    **options: Any,
) -> SpikeData:
    """Makes a recording from continuous arrays, chopped into windows.

    The last part of the recording is evaluated. No window crosses into it, so that no bin is
    both trained on and evaluated.

    Args:
      spikes: spike counts (bins, neurons); NaN where not recorded.
      bin_ms: bin width, ms.
      window: bins of a window.
      overlap: bins that neighbouring windows share.
      evaluated: fraction of the recording, at its end, to evaluate.
      behavior: values (bins, dimensions).
      first_s: time of the first bin, s.
      **options: options of ``SpikeData.from_arrays``.

    Raises:
      UserError: a part of the recording is shorter than a window; or see ``from_arrays``.
    """
    if spikes.ndim != 2:
        raise UserError(
            f"spikes have shape {spikes.shape}; give (bins, neurons) for a continuous recording"
        )
    bins = len(spikes)
    edge = round(bins * (1 - evaluated))
    if not window <= min(edge, bins - edge):
        raise UserError(
            f"the recording's {bins} bins are split into {edge} to train on and {bins - edge} to "
            f"evaluate, and each part must hold a window of {window} bins; choose a shorter window "
            "or another split"
        )
    first = window_starts(edge, window, overlap)
    last = edge + window_starts(bins - edge, window, overlap)
    starts_R = np.concatenate([first, last])
    if behavior is not None:
        if behavior.ndim != 2 or len(behavior) != bins:
            raise UserError(
                f"behavior has shape {behavior.shape}, but the spikes require ({bins}, dimensions)"
            )
        options["behavior"] = chop(behavior, window, starts_R)
    return SpikeData.from_arrays(
        chop(spikes, window, starts_R),
        bin_ms=bin_ms,
        evaluated=len(first) + np.arange(len(last)),
        starts=first_s + starts_R * (bin_ms / 1000.0),
        **options,
    )


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is known besides spike counts: files, and names.

    A file may be followed by a colon and the name of an array or column in it.

    Attributes:
        behavior: file with behaviour in the form of the spikes.
        behavior_names: of its dimensions.
        behavior_unit: its unit.
        conditions: file with the condition of every trial.
        trial_table: .csv or .npz with columns about trials.
        unit_table: .csv or .npz with columns about units.
        area: file with the area of every unit.
        angles: dimensions of behaviour that are angles.
    """

    behavior: str = ""
    behavior_names: Sequence[str] = ()
    behavior_unit: str = ""
    conditions: str = ""
    trial_table: str = ""
    unit_table: str = ""
    area: str = ""
    angles: Sequence[Angles] = ()

    def of_units(self, units: int) -> dict[str, NDArray]:
        """The columns about units.

        Raises:
            UserError: a file cannot be read, or there are areas in both.
        """
        columns = table_files.read(self.unit_table) if self.unit_table else {}
        if self.area:
            if "area" in columns:
                raise UserError(
                    f"{self.unit_table} has a column area, and --area={self.area} was given too; "
                    "leave one of the two out"
                )
            columns["area"] = table_files.labels(self.area, units, "area", "area")
        return columns

    def of_behavior(self, found: Behavior) -> dict[str, Any]:
        """Behaviour with its names and unit; options of ``SpikeData.from_arrays``."""
        # Angles have other names than those that were given.
        names = found.names if self.angles or not self.behavior_names else self.behavior_names
        return {
            "behavior": found.values,
            "behavior_names": names,
            "behavior_unit": self.behavior_unit,
        }

    @contextmanager
    def naming(self, spikes: str) -> Iterator[None]:
        """Puts the flag and the file in front of a mistake in what they gave."""
        flags = {
            "trial_table": ("--trial-table", self.trial_table),
            "unit_table": ("--unit-table", self.unit_table),
            "unit_table 'area'": ("--area", self.area),
            "behavior": ("--behavior", self.behavior),
            "conditions": ("--conditions", self.conditions),
            "spikes": ("--spikes", spikes),
        }
        try:
            yield
        except UserError as error:
            text = str(error)
            starts = [start for start, (_, file) in flags.items() if file and
                      re.match(rf"{start}\b(?!_)", text)]  # fmt: skip
            if not starts:
                raise
            flag, file = flags[max(starts, key=len)]
            raise UserError(f"{flag}={file}: {text}") from None

    def in_bins(
        self, found: count_files.Counts, bin_ms: float, starts: NDArray | None
    ) -> dict[str, Any]:
        """Behaviour of counts, from its own file or from theirs; options of ``from_arrays``."""
        how: dict[str, Any] = {"angles": self.angles, "names": self.behavior_names}
        if self.behavior:
            given = behavior.from_file(self.behavior, found.spikes, bin_ms, starts=starts, **how)
        elif found.behavior is not None:
            given = behavior.from_arrays(found.behavior, found.spikes, **how)
        else:
            given_for = {"behavior_name": self.behavior_names, "circular": self.angles}
            for flag, value in {**given_for, "behavior_unit": self.behavior_unit}.items():
                if value:
                    spelled = flag.replace("_", "-")
                    raise UserError(f"--{spelled} has no effect without --behavior; leave it out")
            return {}
        return self.of_behavior(given)


def from_file(
    path: Path,
    *,
    bin_ms: float | None = None,
    name: str = "",
    axes: Sequence[str] = (),
    window_ms: float | None = None,
    overlap_ms: float | None = None,
    bins_forward: int | None = None,
    evaluated: float | str | None = None,
    heldout: float | str | None = None,
    seed: int = 0,
    beside: Beside | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> SpikeData:
    """A recording from a file of spike counts.

    The file holds counts (trials, bins, neurons), (bins, neurons) of a continuous recording, or one
    array (bins, neurons) per trial, in one of the formats of
    :mod:`stndt_jax.data.array_files`; or it is a file of LFADS or lfads-torch.

    Args:
      path: of the file; behind a colon, the name of an array in it.
      bin_ms: bin width, ms; None where the file states it.
      name: of the recording; by default the file's own.
      axes: of the array, if they are not in the order above.
      window_ms: length of the windows of a continuous recording, ms.
      overlap_ms: what neighbouring windows of it share, ms; by default nothing.
      bins_forward: last bins of a trial to predict; by default none.
      evaluated: fraction of the trials to evaluate, or which ones, as
        :class:`stndt_jax.data.table_files.Choices` takes them; by default a quarter. LFADS has
        its own.
      heldout: fraction of the units to hold out, or which ones, in the same way; by default those
        that the unit table holds out, else a quarter.
      seed: of the random choices.
      beside: what else is known.
      say: called with each line on what was taken of the file.

    Raises:
      UserError: a file is missing or malformed, or an option does not apply to this kind of file.
    """
    beside = beside or Beside()
    file, _ = table_files.split(str(path))
    found = None if lfads.is_lfads(file) else count_files.read(path, axes)
    width = _bin_ms(bin_ms, None if found is None else found.bin_ms, file)
    units = lfads.neurons(file) if found is None else _last_size(found.spikes)
    columns = beside.of_units(units)
    if found is not None and found.units is not None:
        columns.setdefault("unit", found.units)
    options: dict[str, Any] = {"bin_ms": width, "name": name or file.stem, "seed": seed}
    options |= _heldout(heldout, units, columns) | {"unit_table": columns}
    if bins_forward is not None:
        options["bins_forward"] = bins_forward
    windows = {"window_ms": window_ms, "overlap_ms": overlap_ms}
    of_trials = {"conditions": beside.conditions, "trial_table": beside.trial_table}
    if found is None:
        given = {**of_trials, "evaluated": evaluated, "axes": axes or None, **windows}
        _unused(file, "trials in the form of LFADS", **given)
        if beside.behavior:
            options |= beside.of_behavior(behavior.from_arrays(
                count_files.load_behavior(beside.behavior), [], angles=beside.angles,
                names=beside.behavior_names,
            ))  # fmt: skip
        return lfads.from_lfads(file, **options)
    for note in found.notes:
        say(f"{file.name}: {note}")
    if not any(np.any(row) for row in found.spikes):
        warnings.warn(
            f"{found.where} holds no spike, only zeros; check the array and how it was saved",
            UserWarning,
            stacklevel=2,
        )
    if isinstance(found.spikes, np.ndarray) and found.spikes.ndim == 2:
        listed = evaluated if isinstance(evaluated, str) else None
        given = {**of_trials, "bins_forward": bins_forward, "evaluated": listed}
        _unused(file, "a continuous recording", **given)
        fraction = {} if evaluated is None else {"evaluated": evaluated}
        return _continuous(found, width, beside, windows, {**options, **fraction}, not axes)
    _unused(file, "trials", **windows)
    options |= _of_trials(beside, found.spikes, evaluated)
    options |= beside.in_bins(found, width, options["trial_table"].get("start_s"))
    return SpikeData.from_arrays(found.spikes, **options)


def _bin_ms(given: float | None, stated: float | None, file: Path) -> float:
    """The bin width, ms, of the user or of the file.

    Raises:
      UserError: neither states it, or they differ.
    """
    if given is None and stated is None:
        raise UserError(
            f"--bin-ms is missing, and {file} does not state the bin width; for example --bin-ms=5"
        )
    if given is None:
        assert stated is not None
        return stated
    if stated is not None and abs(given - stated) > 1e-3 * stated:
        raise UserError(
            f"--bin-ms={given:g}, but {file} states bins of {stated:g} ms; leave --bin-ms out, or "
            f"name the array of counts alone, {file}:NAME, if that means something else"
        )
    return given


def _continuous(
    found: count_files.Counts,
    bin_ms: float,
    beside: Beside,
    windows: dict[str, float | None],
    options: dict[str, Any],
    warn: bool,
) -> SpikeData:
    """A recording from continuous counts, chopped into windows."""
    assert isinstance(found.spikes, np.ndarray)
    bins, units = found.spikes.shape
    if warn and units > bins:
        warnings.warn(
            f"{found.where} holds {bins} bins of {units} neurons; if it is {bins} neurons of "
            f"{units} bins, give --axes=neurons,bins",
            UserWarning,
            stacklevel=3,
        )
    if not windows["window_ms"]:
        raise UserError(
            f"{found.where} holds a continuous recording {found.spikes.shape}; give the length of "
            "the windows to chop it into with --window-ms"
        )
    options |= beside.in_bins(found, bin_ms, None)
    check_windows(**windows)
    window, overlap = (round((ms or 0.0) / bin_ms) for ms in windows.values())
    return from_continuous(found.spikes, window=window, overlap=overlap, **options)


def check_windows(window_ms: float | None, overlap_ms: float | None) -> None:
    """Refuses lengths of windows that are none.

    Raises:
      UserError: one is no finite number from 0.
    """
    for flag, ms in (("window-ms", window_ms), ("overlap-ms", overlap_ms)):
        if ms is not None and not 0 <= ms < np.inf:
            raise UserError(f"--{flag} is {ms:g}; give a length in ms")


def _of_trials(
    beside: Beside, found: NDArray | list[NDArray], evaluated: float | str | None
) -> dict[str, Any]:
    """What is known of the trials, and which are evaluated; options of ``from_arrays``."""
    trials = len(found) if isinstance(found, list) or found.ndim else 0
    columns = table_files.read(beside.trial_table) if beside.trial_table else {}
    options: dict[str, Any] = {"trial_table": columns}
    if beside.conditions:
        options["conditions"] = table_files.labels(
            beside.conditions, trials, "condition", "conditions"
        )
    if isinstance(evaluated, str):
        hint = "give it in --trial-table"
        choices = table_files.Choices("evaluated", "trials", np.arange(trials), columns, hint)
        options["evaluated"] = choices.chosen(evaluated)
    elif evaluated is not None:
        options["evaluated"] = evaluated
    return options


def _heldout(
    heldout: float | str | None, units: int, columns: dict[str, NDArray]
) -> dict[str, Any]:
    """Which units are held out; an option of ``from_arrays``. Removes it from the columns."""
    stated = columns.pop("held_out", None)
    if isinstance(heldout, str):
        ids = columns.get("unit", np.arange(units))
        hint = "give it with --area or in --unit-table"
        return {"heldout": table_files.Choices("heldout", "units", ids, columns, hint)
                .chosen(heldout)}  # fmt: skip
    if heldout is not None:
        return {"heldout": heldout}
    return {} if stated is None else {"heldout": stated.astype(bool)}


def _last_size(found: NDArray | list[NDArray]) -> int:
    """The number of neurons; 0 of what has no such axis, which is refused later."""
    shape = np.shape(found[0] if isinstance(found, list) and found else found)
    return shape[-1] if shape else 0


def _unused(path: Path, kind: str, **options: Any) -> None:
    """Refuses options that were given but do not apply to the kind of file."""
    given = [name for name, value in options.items() if value not in (None, "")]
    if given:
        raise UserError(f"{path} holds {kind}, on which {given[0]} has no effect; leave it out")
