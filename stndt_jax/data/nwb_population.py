"""The units of a recording: those of one or several tables of a file, or some of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from stndt_jax.data.nwb_units import AREA_COLUMNS, KEPT_COLUMNS, Units
from stndt_jax.data.table_files import Choices, labels
from stndt_jax.data.tables import NAME
from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError, check_choice
from stndt_jax.types import Bool, Float, Int, NDArray

IDS = ("", "new")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Which units are taken, and from where.

    Attributes:
      tables: units tables, by path or end of path; several are joined. None for the usual one.
      units: which units to take, as :class:`stndt_jax.data.table_files.Choices` takes them; empty
        for all.
      skipped: which ones to leave out, in the same form.
      ids: ``new`` numbers the units anew; empty for the file's identifiers.
      intervals: whether observation intervals and invalid times count.

    Raises:
      UserError: ``ids`` is something else.
    """

    tables: Sequence[str] = ()
    units: str = ""
    skipped: str = ""
    ids: str = ""
    intervals: bool = True

    def __post_init__(self) -> None:
        check_choice("ids", self.ids, IDS)


class Population:
    """Units of one or several tables, as spikes to cut trials out of.

    Attributes:
      where: file and table, with which messages start.
      columns: of all of the tables.
    """

    def __init__(self, parts: Sequence[tuple[str, Units]], taken: Taken) -> None:
        self._parts = [units for _, units in parts]
        self._labels = [label for label, _ in parts]
        self._intervals = taken.intervals
        self.where = parts[0][1].where
        if len(parts) > 1:
            path = self.where.rpartition(":")[0]
            self.where = f"{path}: units of {', '.join(self._labels)}"
        self.columns = [
            name for name in self._parts[0].columns
            if all(name in units.columns for units in self._parts[1:])
        ]  # fmt: skip
        self._part_N = np.repeat(np.arange(len(parts)), [len(units) for units in self._parts])
        self._row_N = np.concatenate([np.arange(len(units)) for units in self._parts])
        self.names: NDArray | None = None
        self._choose(taken)
        self.ids, self.names = self._identified(taken.ids)

    def __len__(self) -> int:
        return len(self._row_N)

    def _choose(self, taken: Taken) -> None:
        """Keeps the units that are asked for."""
        keep_N = np.ones(len(self), bool)
        if taken.units:
            keep_N &= self.chosen("units", taken.units, self._own_ids)
        if taken.skipped:
            keep_N &= ~self.chosen("skip-units", taken.skipped, self._own_ids)
        if not keep_N.any():
            flag = "--units" if taken.units else "--skip-units"
            raise UserError(f"{self.where}: {flag} leaves no unit; choose others")
        self._part_N, self._row_N = self._part_N[keep_N], self._row_N[keep_N]

    def chosen(
        self, option: str, words: str, ids: NDArray, known: dict[str, NDArray] | None = None
    ) -> Bool[NDArray, " n"]:
        """Which units an option names.

        Args:
          option: its name.
          words: its value, see :class:`stndt_jax.data.table_files.Choices`.
          ids: identifiers of the units.
          known: columns that the tables do not have.

        Raises:
          UserError: it names none.
        """
        if self.names is not None and Path(words).suffix == ".txt" and Path(words).is_file():
            listed = labels(words, len(self), option).astype(str)
            if np.isin(listed, self.names).all():
                return np.isin(self.names, listed)
        columns = dict(known or {})
        name = words.partition("=")[0]
        if name in self.columns:
            columns[name] = self.column(name)
        elif name == "area" and name not in columns and self.areas is not None:
            columns[name] = self.areas
        elif name == "probe" and name not in columns and self.probes is not None:
            columns[name] = self.probes
        hint = "take one of the units table, which stndt inspect lists"
        return Choices(option, "units", ids, columns, hint).chosen(words)

    @property
    def _own_ids(self) -> NDArray:
        """Identifiers in the tables, which may repeat."""
        return self._each([units.own_ids for units in self._parts])

    def _each(self, columns: Sequence[NDArray]) -> NDArray:
        """One entry a unit, of columns of the tables."""
        if len({column.dtype.kind for column in columns}) > 1:
            columns = [column.astype(str) for column in columns]
        starts = np.cumsum([0, *(len(column) for column in columns[:-1])])
        return np.concatenate(columns)[starts[self._part_N] + self._row_N]

    def _identified(self, ids: str) -> tuple[Int[NDArray, " n"], NDArray | None]:
        """Identifiers that are unique, and names where they are not those of the file.

        Raises:
          UserError: identifiers repeat, and nothing tells the units apart.

        Warns:
          UserWarning: units are numbered anew although that was not asked for.
        """
        own, new = self._own_ids, np.arange(len(self))
        probes = self.probes
        names = own.astype(str)
        if probes is not None and (len(self._parts) > 1 or len(set(own.tolist())) < len(own)):
            names = np.array([f"{a}:{b}" if a else b for a, b in zip(probes, names, strict=True)])
        is_unique = len(set(own.tolist())) == len(own)
        if ids == "new":
            return new, names if len(set(names.tolist())) == len(names) else None
        if is_unique and len(self._parts) == 1 and np.all((own >= -1) & (own < MAX_COUNT)):
            return own, None
        if len(set(names.tolist())) < len(names):
            values, counts = np.unique(own, return_counts=True)
            raise UserError(
                f"{self.where}: {counts.max()} rows have the id {values[np.argmax(counts)]}, and "
                "nothing says on which probe they are; number the units anew with --ids=new"
            )
        reason = "repeat" if not is_unique else f"reach {own.max()}"
        if not is_unique or len(self._parts) == 1:
            warnings.warn(
                f"{self.where}: the ids of the units {reason}, so the units are numbered from 0, "
                f"and the column {NAME} names them: {names[0]} ...",
                UserWarning,
                stacklevel=4,
            )
        return new, names

    @cached_property
    def probes(self) -> NDArray | None:
        """The probe of every unit, empty where unknown; None if none is known."""
        found = []
        for label, units in zip(self._labels, self._parts, strict=True):
            probes = units.probes if len(self._parts) == 1 else np.full(len(units), label)
            if probes is None:
                return None
            found.append(probes)
        return self._each(found)

    @property
    def areas(self) -> NDArray | None:
        """The area of every unit, empty where unknown; None if none is known."""
        found = [units.areas for units in self._parts]
        if all(areas is None for areas in found):
            return None
        return self._each([
            np.full(len(units), "", "U1") if areas is None else areas
            for areas, units in zip(found, self._parts, strict=True)
        ])  # fmt: skip

    def column(self, name: str) -> NDArray:
        """A column of the tables.

        Raises:
          UserError: there is no such column, or it holds lists or something else.
        """
        return self._each([units.column(name) for units in self._parts])

    def numbered(self, name: str) -> NDArray:
        """As :meth:`column`; ``id`` is the identifiers in the file."""
        return self._own_ids if name == "id" and name not in self.columns else self.column(name)

    def flags(self, name: str) -> Bool[NDArray, " n"]:
        """A column of booleans.

        Raises:
          UserError: there is no such column, or it holds other values.
        """
        return self._each([units.flags(name) for units in self._parts])

    def table(self, wanted: Sequence[str]) -> dict[str, NDArray]:
        """The columns that are asked for, and area, probe, quality and names where they are known.

        Raises:
          UserError: a column that is asked for cannot be read.
        """
        found = {name: self.numbered(name) for name in wanted}
        more = {"area": self.areas, "probe": self.probes, NAME: self.names}
        for name in KEPT_COLUMNS:
            if name in self.columns and name not in found and name not in AREA_COLUMNS:
                try:
                    more[name] = self.column(name)
                except UserError:
                    continue
        return found | {name: x for name, x in more.items() if x is not None and name not in found}

    def count(self, row: int) -> int:
        """The number of spike times of a unit."""
        return self._parts[self._part_N[row]].count(int(self._row_N[row]))

    def spikes(self, row: int) -> Iterator[Float[NDArray, " s"]]:
        """Spike times of a unit, s, in order, in blocks."""
        return self._parts[self._part_N[row]].spikes(int(self._row_N[row]))

    def recorded_intervals(self, row: int) -> Float[NDArray, "i 2"] | None:
        """When a unit was recorded, s; None if the file does not say it."""
        if not self._intervals:
            return None
        return self._parts[self._part_N[row]].recorded_intervals(int(self._row_N[row]))

    def notes(self) -> list[str]:
        """What was changed in the spike times that were read."""
        return [note for units in self._parts for note in units.notes()]
