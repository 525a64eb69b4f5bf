"""Tables of an NWB file: trials and other intervals, and units with their spike times.

Only the schema of the standard is assumed, and it is read as people write it: single names and
values in arrays of one, arrays with an axis too many or transposed, booleans as numbers or texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import h5py
import numpy as np

from stndt_jax.data import hdf5_items, limits
from stndt_jax.data.hdf5_items import array_in, attribute, texts
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0", "")
MOST_ROWS = 10**7


class Table:
    """A table of the file.

    Attributes:
      where: file and name of the table, with which every error message starts.
      columns: names of the columns.
    """

    _most_rows = 10**7

    def __init__(self, where: str, group: h5py.Group) -> None:
        self.where = where
        self._group = group
        listed = texts(attribute(group, "colnames", np.array([], object)))
        listed = [name for name in dict.fromkeys(listed) if hdf5_items.member(group, name).item]
        self._rows = self._count_rows(listed)
        if self._rows > self._most_rows:
            raise UserError(
                f"{where} declares {self._rows} rows, more than any recording has; write it again"
            )
        # Some writers list some of the columns only.
        names = hdf5_items.names_in(group, where)
        others = [name for name in names if name not in listed and self._is_column(name)]
        self.columns = listed + others

    def __len__(self) -> int:
        return self._rows

    def _count_rows(self, listed: list[str]) -> int:
        """As many rows as identifiers, or as the first column of single values has entries."""
        for name in ("id", "start_time", *listed):
            data = array_in(self._group, name)
            if data is not None and array_in(self._group, f"{name}_index") is None:
                return int(data.size)
        index = array_in(self._group, "spike_times_index")
        return 0 if index is None else int(index.size)

    def _is_column(self, name: str) -> bool:
        if name == "id" or name.endswith("_index"):
            return False
        data = array_in(self._group, name)
        if data is None:
            return False
        return data.size == self._rows or array_in(self._group, f"{name}_index") is not None

    @cached_property
    def own_ids(self) -> NDArray:
        """Identifiers of the rows as the file has them, the rows' numbers where it has none."""
        data = array_in(self._group, "id")
        is_column = data is not None and data.size == self._rows
        ids = hdf5_items.whole_numbers(data, f"{self.where}: id") if is_column else None
        return np.arange(self._rows) if ids is None else ids

    @property
    def ids(self) -> Int[NDArray, " n"]:
        """Identifiers of the rows.

        Raises:
          UserError: two rows have the same one.
        """
        values, counts = np.unique(self.own_ids, return_counts=True)
        if np.any(counts > 1):
            raise UserError(
                f"{self.where}: {counts.max()} rows have the id {values[counts > 1][0]}; number "
                "the rows anew with --ids=new"
            )
        return self.own_ids

    def column(self, name: str) -> NDArray:
        """Reads a column with one value per row: numbers, booleans or text.

        Raises:
          UserError: there is no such column, or it holds lists or something else.
        """
        if name not in self.columns:
            plain = ", ".join(n for n in self.columns if self._holds(n) != "lists")
            raise UserError(f"{self.where} has no column {name}; columns: {plain or 'none'}")
        holds = self._holds(name)
        if holds == "lists":
            raise UserError(f"{self.where}: column {name} holds lists; name one with single values")
        if holds:
            raise UserError(
                f"{self.where}: column {name} {holds}; name one with a number or text for each row"
            )
        return self._read(name)

    def _holds(self, name: str) -> str:
        """What a column holds in place of single values; empty if it holds these."""
        data = array_in(self._group, name)
        if data is None:
            return hdf5_items.member(self._group, name).reason or "is a group"
        if array_in(self._group, f"{name}_index") is not None:
            return "lists"
        if data.size != self._rows:
            is_wide = data.ndim > 1 and self._rows in data.shape
            return "lists" if is_wide else f"has {data.size} values for {self._rows} rows"
        if not hdf5_items.is_text(data) and data.dtype.kind not in "buif":
            return f"has type {data.dtype}"
        return ""

    def _read(self, name: str) -> NDArray:
        return np.ravel(hdf5_items.load(self._group[name], f"{self.where}: column {name}"))

    def numbered(self, name: str) -> NDArray:
        """As :meth:`column`; ``id`` is the identifiers of the rows."""
        return self.ids if name == "id" and name not in self.columns else self.column(name)

    def flags(self, name: str) -> Bool[NDArray, " n"]:
        """Reads a column of booleans, stored as such, as 0 and 1, or as texts.

        Raises:
          UserError: there is no such column, or it holds other values.
        """
        x = self.column(name)
        if x.dtype.kind == "U":
            words = np.char.lower(np.char.strip(x))
            x = np.where(np.isin(words, _TRUE), 1, np.where(np.isin(words, _FALSE), 0, 2))
        if not np.isin(x, (0, 1)).all():
            raise UserError(f"{self.where}: column {name} must hold true or false in every row")
        return x.astype(bool)

    def times(self, name: str) -> Float[NDArray, " n"]:
        """Reads a column of times, s; NaN where a row has none.

        Raises:
          UserError: there is no such column, or it holds no numbers.
        """
        x = self.column(name)
        if x.dtype.kind not in "uif":
            others = ", ".join(n for n in self.columns if n.endswith("_time"))
            raise UserError(
                f"{self.where}: column {name} holds no times; columns of times: {others or 'none'}"
            )
        return x.astype(np.float64)


class MemoryTable(Table):
    """A table that is put together from other parts of a file."""

    def __init__(self, where: str, columns: Mapping[str, NDArray], rows: int) -> None:
        self.where, self.columns, self._rows = where, list(columns), rows
        self._columns = columns

    @cached_property
    def own_ids(self) -> NDArray:
        return np.arange(self._rows)

    def _holds(self, name: str) -> str:
        return ""

    def _read(self, name: str) -> NDArray:
        return self._columns[name]


class Lists:
    """A column of lists: all of them in one array with an index, or one list a row.

    Attributes:
      where: table and column, with which messages start.
      problem: why nothing of it can be read; empty if something can.
    """

    def __init__(self, where: str, group: h5py.Group, name: str, rows: int) -> None:
        self.where, self._rows = where, rows
        self._data = array_in(group, name)
        index = array_in(group, f"{name}_index")
        self.problem = hdf5_items.member(group, name).reason if self._data is None else ""
        self._form, self._index = "", np.zeros(0, np.int64)
        if self._data is not None:
            size, stored = self._data.size * self._data.dtype.itemsize, None
            if h5py.check_vlen_dtype(self._data.dtype) is None:
                stored = self._data.id.get_storage_size()
            limits.check(where, size, stored, copies=0)  # it is read in parts
        if self._data is None:
            self.problem = self.problem or "is a group"
        elif index is not None:
            self._form = "index"
            self._index = self._checked_index(name, index)
        elif h5py.check_vlen_dtype(self._data.dtype) is not None and self._data.size == rows:
            self._form = "lists"
        elif self._data.ndim == 2 and self._data.shape[0] == rows and self._data.shape[1] > 1:
            self._form = "matrix"  # padded with NaN
        elif rows == 1:
            self._form, self._index = "index", np.array([self._data.size])
        else:
            self.problem = f"has no {name}_index, which says whose its values are"

    def _checked_index(self, name: str, index: h5py.Dataset) -> Int[NDArray, " n"]:
        """The end of every row's list."""
        ends = hdf5_items.whole_numbers(index, f"{self.where}_index")
        if ends is None:
            self.problem = f"has an index of type {index.dtype} that holds no whole numbers"
            return np.zeros(0, np.int64)
        if len(ends) == self._rows + 1 and ends[0] == 0:
            ends = ends[1:]
        if len(ends) > self._rows:
            self.problem = f"disagrees: {name}_index has {len(ends)} entries for {self._rows} rows"
        return ends

    def span(self, row: int) -> tuple[int, int]:
        """First and last index of a row's values.

        Raises:
          UserError: index and values disagree about this row.
        """
        if self.problem:
            raise UserError(f"{self.where} {self.problem}; write the table again")
        assert self._data is not None
        if self._form == "matrix":
            return 0, int(self._data.shape[1])
        if self._form == "lists":
            return 0, len(self._one(row))
        if row >= len(self._index):
            raise UserError(
                f"{self.where} and its index disagree: the index has {len(self._index)} entries "
                f"for {self._rows} rows"
            )
        first, last = (int(self._index[row - 1]) if row else 0), int(self._index[row])
        size = int(self._data.size)
        if not 0 <= first <= last <= size:
            raise UserError(
                f"{self.where} and its index disagree: the index says {first} to {last} of "
                f"{size} values"
            )
        return first, last

    def read(self, row: int, start: int, stop: int) -> NDArray:
        """Some of a row's values, by their place in its span."""
        assert self._data is not None
        if self._form == "lists":
            return self._one(row)[start:stop]
        with hdf5_items.explaining_damage(self.where):
            if self._form == "matrix":
                return self._data[row, start:stop]
            if self._data.ndim == 1:
                return self._data[start:stop]
            axis = int(np.argmax(self._data.shape))
            places = [0] * self._data.ndim
            where: list[int | slice] = [*places]
            where[axis] = slice(start, stop)
            return self._data[tuple(where)]

    @property
    def is_padded(self) -> bool:
        """Whether NaN fills the rows of a matrix."""
        return self._form == "matrix"

    def _one(self, row: int) -> NDArray:
        assert self._data is not None
        with hdf5_items.explaining_damage(self.where):
            return np.ravel(np.ravel(self._data)[row] if self._data.ndim > 1 else self._data[row])


def intervals_of(x: NDArray, expected: int | None = None) -> NDArray | None:
    """Intervals as (intervals, 2), open ends infinite; None if the array cannot be understood.

    Args:
      x: (intervals, 2), (2, intervals), or begins and ends in turn.
      expected: how many there must be; None if unknown.
    """
    x = np.asarray(x, np.float64)
    if x.ndim == 1 and x.size % 2 == 0:
        x = x.reshape(-1, 2)
    if x.ndim != 2 or 2 not in x.shape:
        return None
    is_stored = x.shape[1] == 2 and (expected in (None, x.shape[0]) or x.shape[0] != 2)
    if x.shape == (2, 2) and not np.any(x[:, 0] > x[:, 1]):
        is_stored = True
    elif x.shape == (2, 2) and not np.any(x[0] > x[1]):
        is_stored = False
    x = x if is_stored else x.T
    if expected not in (None, len(x)):
        return None
    low = np.where(np.isnan(x[:, 0]), -np.inf, x[:, 0])
    return np.stack([low, np.where(np.isnan(x[:, 1]), np.inf, x[:, 1])], axis=1)
