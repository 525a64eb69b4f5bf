"""Trials from any NWB file: its units, trials and time series, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data import spike_trials, tables
from stndt_jax.data.nwb import Series, Table, Units, open_nwb
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
      unit_columns: of the units table; ``area`` is taken from the electrodes if not listed.
      conditions: column of the trials table whose values are the conditions; empty for none.
      behavior_names: of the dimensions of behaviour; empty for those in the file.
      behavior_unit: of behaviour; empty for that in the file.
    """

    trial_columns: Sequence[str] = ()
    unit_columns: Sequence[str] = ()
    conditions: str = ""
    behavior_names: Sequence[str] = ()
    behavior_unit: str = ""

    def of_units(self, units: Units) -> dict[str, NDArray]:
        """The columns about units."""
        found = {name: units.numbered(name) for name in self.unit_columns}
        areas = None if "area" in found else units.areas
        return found if areas is None else {**found, "area": areas}

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
    evaluated: float = 0.25,
    split_column: str = "",
    kept: Kept | None = None,
    seed: int = 0,
) -> SpikeData:
    """Reads a recording from an NWB file.

    Bins that are not completely covered by a unit's observation intervals are not recorded.

    Args:
      path: the NWB file.
      cut: how trials are cut out.
      name: name of the recording; default the file's own.
      heldout: fraction of the units to hold out, chosen at random, or which ones, as
        :class:`stndt_jax.data.table_files.Choices` takes them.
      heldout_column: column of the units table, true for held-out units, instead of ``heldout``.
      evaluated: fraction of the trials to evaluate, chosen at random.
      split_column: column of the trials table with ``train``, and ``val`` or ``test``, instead of
        ``evaluated``; trials with any other value are left out.
      kept: what to keep besides; by default rows and starts of trials, and areas of units.
      seed: seed of the random choices.

    Raises:
      UserError: the file lacks what is needed, or holds values that cannot be right.

    Warns:
      UserWarning: trials or spikes are left out, behaviour is missing, or windows of training and
        evaluated trials overlap.
    """
    path = Path(path)
    with open_nwb(path) as file:
        units, trials = file.units, file.trials
        kept = kept or Kept()
        options: dict[str, Any] = {"evaluated": evaluated, "units": units.ids}
        options["unit_table"] = kept.of_units(units)
        options["heldout"] = (
            _flagged(units, heldout_column)
            if heldout_column
            else _heldout(units, heldout, options["unit_table"])
        )
        found = spike_trials.cut_trials(path, units, trials, cut, split_column=split_column)
        rows, flags_R = found.windows.rows, found.windows.evaluated
        options["trial_table"] = kept.of_trials(trials, rows)
        if flags_R is not None:
            options["evaluated"] = spike_trials.chosen_by(trials, split_column, flags_R)
        if cut.behavior:
            series = file.one_series(cut.behavior)
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
    none = labels == "" if labels.dtype.kind == "U" else np.isnan(labels.astype(float))
    values, index = np.unique(labels[~none], return_inverse=True)
    numbers = np.full(len(labels), -1, np.int32)
    numbers[~none] = index
    names = values if labels.dtype.kind in "Ub" else [f"{value:g}" for value in values]
    return numbers, tuple(map(str, names))


def _heldout(units: Units, heldout: float | str, columns: dict[str, NDArray]) -> Any:
    """Which units are held out, or which fraction of them."""
    if not isinstance(heldout, str):
        return heldout
    column = heldout.partition("=")[0]
    if column in units.columns:
        columns = {**columns, column: units.column(column)}
    hint = "take one of the units table, which stndt inspect lists"
    return Choices("heldout", "units", units.ids, columns, hint).chosen(heldout)


def _flagged(units: Units, column: str) -> Int[NDArray, " n"]:
    """Indices of the held-out units, by a column of the units table."""
    flags_N = units.flags(column)
    heldout = np.flatnonzero(flags_N)
    if not 0 < len(heldout) < len(flags_N):
        raise UserError(
            f"{units.where}: column {column} holds out {len(heldout)} of {len(flags_N)} units; "
            "some must be held out and some held in"
        )
    return heldout
