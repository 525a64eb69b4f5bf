"""Trials from any NWB file: its units, trials and time series, and what is kept of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data import spike_trials, tables
from stndt_jax.data.nwb import open_nwb
from stndt_jax.data.nwb_population import Population, Taken
from stndt_jax.data.nwb_series import Series
from stndt_jax.data.nwb_tables import Table
from stndt_jax.data.spike_trials import Cut
from stndt_jax.data.table_files import Choices
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.types import Int, NDArray


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a recording keeps of the file besides spikes and behaviour.

    Attributes:
      trial_columns: of the trials table.
      unit_columns: of the units table; area, probe and quality are kept if the file has them.
      conditions: column of the trials table whose values are the conditions; empty for none.
      behavior_names: of the dimensions of behaviour; empty for those in the file.
      behavior_unit: of behaviour; empty for that in the file.
    """

    trial_columns: Sequence[str] = ()
    unit_columns: Sequence[str] = ()
    conditions: str = ""
    behavior_names: Sequence[str] = ()
    behavior_unit: str = ""

    def of_units(self, units: Population) -> dict[str, NDArray]:
        """The columns about units."""
        return units.table(self.unit_columns)

    def of_trials(self, trials: Table, rows: Int[NDArray, " R"]) -> dict[str, NDArray]:
        """The columns about some of the trials, and their rows in the table."""
        found = {name: trials.numbered(name)[rows] for name in self.trial_columns}
        return {tables.SOURCE: rows, **found}

    def of_behavior(self, series: Series) -> dict[str, Any]:
        """Names and unit of behaviour; options of ``SpikeData.from_arrays``."""
        return {
            "behavior_names": self.behavior_names or series.value_names,
            "behavior_unit": self.behavior_unit or series.unit,
        }


def prepare(
    path: str | Path,
    cut: Cut,
    *,
    name: str = "",
    heldout: float | str = 0.25,
    heldout_column: str = "",
    evaluated: float | str = 0.25,
    split_column: str = "",
    trials_table: str = "",
    behavior_rate: float | None = None,
    taken: Taken | None = None,
    kept: Kept | None = None,
    seed: int = 0,
) -> SpikeData:
    """Reads a recording from an NWB file.

    Bins that are not completely covered by a unit's observation intervals, or that touch invalid
    times, are not recorded.

    Args:
      path: the NWB file.
      cut: how trials are cut out.
      name: name of the recording; default the file's own.
      heldout: fraction of the units to hold out, chosen at random, or which ones, as
        :class:`stndt_jax.data.table_files.Choices` takes them.
      heldout_column: column of the units table, true for held-out units, instead of ``heldout``.
      evaluated: fraction of the trials to evaluate, chosen at random, or which ones, as for
        ``heldout``, by their rows or a column of the trials table.
      split_column: column of the trials table with ``train``, and ``val`` or ``test``, instead of
        ``evaluated``; trials with any other value are left out.
      trials_table: table of intervals, by path or end of path; empty for the trials table.
      behavior_rate: sampling rate of behaviour, samples/s; None for that in the file.
      taken: which units to take, and from where.
      kept: what to keep besides; by default rows and starts of trials, and areas of units.
      seed: seed of the random choices.

    Raises:
      UserError: the file lacks what is needed, or holds values that cannot be right.

    Warns:
      UserWarning: trials or spikes are left out, spike times are sorted, bins are marked as not
        recorded, behaviour is missing, or windows of training and evaluated trials overlap.
    """
    path, taken, kept = Path(path), taken or Taken(), kept or Kept()
    with open_nwb(path) as file:
        trials = file.intervals(trials_table)
        units = Population(file.units_tables(taken.tables), taken)
        options: dict[str, Any] = {"units": units.ids, "unit_table": kept.of_units(units)}
        options["heldout"] = (
            _flagged(units, heldout_column)
            if heldout_column
            else _heldout(units, heldout, options["unit_table"])
        )
        is_eval_R = _evaluated(trials, evaluated) if isinstance(evaluated, str) else None
        found = spike_trials.cut_trials(
            path,
            units,
            trials,
            cut,
            split_column=split_column,
            invalid=file.invalid_times() if taken.intervals else None,
            sampling_rate=file.sampling_rate(),
        )
        for note in units.notes():
            warnings.warn(note, UserWarning, stacklevel=2)
        rows, flags_R = found.windows.rows, found.windows.evaluated
        if len(rows) < 2:
            raise UserError(
                f"{trials.where}: only one trial can be cut, but one is needed to train and one to "
                "evaluate; name a table of more intervals with --trials-table"
            )
        options["trial_table"] = kept.of_trials(trials, rows)
        options["evaluated"] = evaluated
        if flags_R is not None:
            options["evaluated"] = spike_trials.chosen_by(trials, split_column, flags_R)
        elif is_eval_R is not None:
            options["evaluated"] = spike_trials.chosen_by(trials, str(evaluated), is_eval_R[rows])
        if cut.behavior:
            series = file.one_series(cut.behavior, behavior_rate)
            if series.note:
                warnings.warn(f"{series.where}: {series.note}", UserWarning, stacklevel=2)
            options["behavior"] = spike_trials.behavior(series, found.edges, cut, path)
            options |= kept.of_behavior(series)
        labels = trials.column(kept.conditions)[rows] if kept.conditions else None
        options["conditions"], names = _conditions(labels)
    data = SpikeData.from_arrays(
        found.counts,
        bin_ms=cut.bin_ms,
        name=name or path.stem,
        bins_forward=round(cut.forward_ms / cut.bin_ms),
        starts=found.windows.starts_ns / 1e9,
        seed=seed,
        **options,
    )
    spike_trials.warn_shared(path, data)
    return replace(data, condition_names=names) if names else data


def _conditions(labels: NDArray | None) -> tuple[NDArray | None, tuple[str, ...]]:
    """The number of every trial's condition, -1 for none, and the names of the conditions.

    Empty texts and NaN are none. Numbers keep their order, and are the names.
    """
    if labels is None:
        return None, ()
    none = tables.without_label(labels)
    values, index = np.unique(labels[~none], return_inverse=True)
    numbers = np.full(len(labels), -1, np.int32)
    numbers[~none] = index
    names = values if labels.dtype.kind in "Ub" else [f"{value:g}" for value in values]
    return numbers, tuple(map(str, names))


def _heldout(units: Population, heldout: float | str, columns: dict[str, NDArray]) -> Any:
    """Which units are held out, or which fraction of them."""
    if len(units) < 2:
        raise UserError(
            f"{units.where}: there is only one unit, but one must be held in, one held out; take "
            "more with --units, or another table with --units-table"
        )
    if not isinstance(heldout, str):
        return heldout
    chosen_N = units.chosen("heldout", heldout, units.ids, columns)
    if chosen_N.all() or not chosen_N.any():
        raise UserError(
            f"{units.where}: --heldout={heldout} holds out {int(chosen_N.sum())} of {len(units)} "
            "units; some must be held out and some held in"
        )
    return chosen_N


def _evaluated(trials: Table, words: str) -> NDArray:
    """Which rows of the trials table are evaluated."""
    name = words.partition("=")[0]
    columns = {name: trials.column(name)} if name in trials.columns else {}
    hint = "take one of the trials table, which stndt inspect lists"
    rows = np.arange(len(trials))
    return Choices("evaluated", "trials", rows, columns, hint).chosen(words)


def _flagged(units: Population, column: str) -> Int[NDArray, " n"]:
    """Indices of the held-out units, by a column of the units table."""
    flags_N = units.flags(column)
    heldout = np.flatnonzero(flags_N)
    if not 0 < len(heldout) < len(flags_N):
        raise UserError(
            f"{units.where}: column {column} holds out {len(heldout)} of {len(flags_N)} units; "
            "some must be held out and some held in"
        )
    return heldout
