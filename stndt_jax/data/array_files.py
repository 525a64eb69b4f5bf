"""Arrays by name from files of any format: .npy, .npz, .mat, HDF5, .csv, .tsv, .parquet.

What a file holds is known before its numbers are read, so that a file can be listed, and only the
arrays that are asked for have to be sound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import scipy.sparse

from stndt_jax import files
from stndt_jax.data import limits, matlab, numpy_files, table_files
from stndt_jax.data.tables import texts_or_numbers
from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

TABLES = (".csv", ".tsv", ".parquet")
HDF5 = (".h5", ".hdf5", ".hdf", ".nwb")
ENDINGS = (".npy", ".npz", ".mat", ".h5", *TABLES)


class Entry(NamedTuple):
    """An array of a file.

    Attributes:
      shape: its shape.
      kind: ``numbers``, ``texts``, ``lists`` (arrays of unequal length, cells) or ``other``.
    """

    shape: tuple[int, ...]
    kind: str

    @property
    def text(self) -> str:
        """Its shape, and its kind unless it is numbers: "(40, 30, 12)"."""
        shape = str(self.shape) if self.shape else "one value"
        return shape if self.kind == "numbers" else f"{shape} of {self.kind}"


class ArrayFile(NamedTuple):
    """A file of arrays.

    Attributes:
      path: the file.
      form: its format, for people.
      entries: its arrays by name; the array of an .npy file has an empty name.
      reader: reads one of them.
    """

    path: Path
    form: str
    entries: Mapping[str, Entry]
    reader: Callable[[str], Any]

    def read(self, name: str) -> Any:
        """An array: numbers, texts, or an object array of lists.

        Raises:
          UserError: there is none of this name, or it cannot be read.
        """
        if name not in self.entries:
            raise UserError(f"{self.path} has no array {name}; it holds {self.listed()}")
        found = self.reader(name)
        if scipy.sparse.issparse(found):
            return matlab.dense(found, self.where(name))
        return found

    def where(self, name: str) -> str:
        """The file and an array in it, with which messages start."""
        return f"{self.path}: {name}" if name else str(self.path)

    def listed(self, most: int = 8) -> str:
        """Its arrays with their shapes, for messages."""
        first = list(self.entries.items())[:most]
        shown = [f"{name} {entry.text}".strip() for name, entry in first]
        return (", ".join(shown) or "nothing") + (" ..." if len(self.entries) > most else "")


def open_file(path: str | Path) -> ArrayFile:
    """The arrays of a file, before they are read.

    Raises:
      UserError: the file is missing, damaged, or of none of the formats.
    """
    path = Path(path)
    files.check_input(path)
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return _table(path)
    if suffix == ".mat":
        return _mat(path)
    if suffix in HDF5 or (os.path.isfile(path) and h5py.is_hdf5(path)):
        return _hdf5(path)
    return _numpy(path)


def _numpy(path: Path) -> ArrayFile:
    headers = numpy_files.headers(path)
    if list(headers) != [""]:
        kinds = {name: Entry(h.shape, _kind(h.dtype)) for name, h in headers.items()}

        def one(name: str) -> Any:
            found = numpy_files.load_numpy(path, name=name)
            return found[name] if isinstance(found, dict) else found

        return ArrayFile(path, "NumPy's .npz", kinds, one)
    if not headers[""].dtype.hasobject:
        entry = Entry(headers[""].shape, _kind(headers[""].dtype))
        return ArrayFile(path, "NumPy's .npy", {"": entry}, lambda _: numpy_files.load_numpy(path))
    found = numpy_files.load_numpy(path)
    named = found if isinstance(found, dict) else {"": found}
    entries = {name: Entry(x.shape, _kind(x.dtype)) for name, x in named.items()}
    return ArrayFile(path, "NumPy's .npy", entries, named.__getitem__)


def _mat(path: Path) -> ArrayFile:
    kinds = {"numbers": "numbers", "texts": "texts", "cells": "lists"}
    entries = {
        name: Entry(found.shape, kinds.get(found.kind, "other"))
        for name, found in matlab.variables(path).items()
    }
    version = "7.3" if matlab.is_hdf5(path) else "7 or earlier"
    return ArrayFile(path, f"MATLAB {version}", entries, lambda name: matlab.read(path, name))


def _hdf5(path: Path) -> ArrayFile:
    entries: dict[str, Entry] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            is_text = h5py.check_string_dtype(item.dtype) is not None
            is_list = h5py.check_vlen_dtype(item.dtype) is not None and not is_text
            kind = "texts" if is_text else "lists" if is_list else _kind(item.dtype)
            entries[name] = Entry(item.shape or (), kind)

    with open_hdf5(path) as file, explaining_damage(str(path)):
        if any("MATLAB_class" in item.attrs for item in map(file.get, file) if item is not None):
            return _mat(path)
        file.visititems(visit)

    def read(name: str) -> Any:
        with open_hdf5(path) as file, explaining_damage(f"{path}: {name}"):
            item = file[name]
            stored = item.id.get_storage_size()
            limits.check_array(f"{path}: {name}", item.shape or (), item.dtype.itemsize, stored)
            found = np.asarray(item[()])
        return found if (plain := texts_or_numbers(found)) is None else plain

    return ArrayFile(path, "HDF5", entries, read)


def _table(path: Path) -> ArrayFile:
    columns = table_files.read(path)
    entries = {name: Entry(x.shape, _kind(x.dtype)) for name, x in columns.items()}
    return ArrayFile(path, "a table", entries, columns.__getitem__)


def _kind(dtype: np.dtype) -> str:
    if dtype.kind in "buif":
        return "numbers"
    return {"U": "texts", "S": "texts", "T": "texts", "O": "lists"}.get(dtype.kind, "other")


def as_lists(found: Any) -> list[NDArray] | None:
    """The arrays of an object array or of cells, sparse ones made dense; None of anything else."""
    if not isinstance(found, np.ndarray | list) or (
        isinstance(found, np.ndarray) and found.dtype != object
    ):
        return None
    rows = []
    for item in found.flat if isinstance(found, np.ndarray) else found:
        try:
            x = np.asarray(matlab.dense(item, "a cell"))
        except ValueError:
            return None
        if x.dtype.kind not in "buif":
            return None
        rows.append(x)
    return rows
