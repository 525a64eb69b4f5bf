"""Reading of MATLAB's .mat files: version 4 through SciPy, 5 to 7 by mat5.py, 7.3 through HDF5.

Arrays have the axes that MATLAB shows. A cell array becomes an object array of what it holds, a
structure a dictionary, an array of structures a list of them. Nothing in a file is executed;
objects of MATLAB's classes, such as tables, are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from stndt_jax.data import limits, mat5
from stndt_jax.data.validation import explaining_damage, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

_NUMBERS = {
    *("double", "single", "logical", "sparse"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_KINDS = {mat5.CELL: "cells", mat5.CHAR: "texts", mat5.OBJECT: "object"}  # of version 5
_DEEPEST = 8  # structures and cells within one another
_OPAQUE = (
    "an object of MATLAB, such as a table; save its columns as arrays: t = struct(); t.x = "
    "table.x; save('file.mat', '-struct', 't')"
)


class Variable(NamedTuple):
    """A variable of a file, or a field of a structure.

    Attributes:
      shape: its shape, as MATLAB shows it.
      kind: ``numbers``, ``texts``, ``cells``, ``structures`` or ``object``.
    """

    shape: tuple[int, ...]
    kind: str


def variables(path: str | Path) -> dict[str, Variable]:
    """The variables of a file by name, and the fields of structures as ``structure.field``.

    Raises:
      UserError: the file is missing or damaged, or is no .mat file.
    """
    path = Path(path)
    if is_hdf5(path):
        with open_hdf5(path) as file, explaining_damage(str(path)):
            found: dict[str, Variable] = {}
            for name, item in _members(file):
                _describe(found, name, item)
            return found
    with _explaining(path):
        found = {}
        if not mat5.is_mat5(path):
            for name, shape, kind in scipy.io.whosmat(path):
                found[name] = Variable(tuple(map(int, shape)), _kind(kind))
            return found
        for matrix in mat5.matrices(path, values=False):
            if matrix.kind != mat5.STRUCTURE:
                if matrix.name:
                    found[matrix.name] = Variable(matrix.shape, _KINDS.get(matrix.kind, "numbers"))
                continue
            _flatten(found, matrix.name, _of_version_5(path, matrix.name), matrix.shape)
        return found


def read(path: str | Path, name: str) -> Any:
    """A variable, or a field of a structure behind a dot.

    Returns:
      An array of numbers or texts; a sparse matrix; an object array; a dictionary; or a list of
      dictionaries.

    Raises:
      UserError: there is none, it is an object of MATLAB, or the file is missing or damaged.
    """
    path = Path(path)
    top, *fields = name.split(".")
    if is_hdf5(path):
        with open_hdf5(path) as file, explaining_damage(f"{path}: {name}"):
            value = _hdf5(file.get(top), file, f"{path}: {name}")
    else:
        with _explaining(path):
            value = _of_version_5(path, top) if mat5.is_mat5(path) else _of_version_4(path, top)
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    if value is None:
        raise UserError(f"{path} has no variable {name}; it holds {', '.join(variables(path))}")
    return value


def is_hdf5(path: str | Path) -> bool:
    """Whether a .mat file is of version 7.3.

    Raises:
      UserError: there is no such file.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; check the path")
    return os.path.isfile(path) and h5py.is_hdf5(path)


def _kind(of_matlab: str) -> str:
    if of_matlab in _NUMBERS:
        return "numbers"
    kinds = {"char": "texts", "string": "texts", "cell": "cells", "struct": "structures"}
    return kinds.get(of_matlab, "object")


def _flatten(found: dict[str, Variable], name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Adds a structure's fields, and those of structures in it."""
    if not isinstance(value, dict):
        found[name] = Variable(tuple(map(int, shape)), "structures")
        return
    for field, x in value.items():
        if isinstance(x, dict):
            _flatten(found, f"{name}.{field}", x, (1, 1))
        elif isinstance(x, list):
            found[f"{name}.{field}"] = Variable((len(x),), "structures")
        else:
            kind = getattr(x, "dtype", np.dtype(object)).kind
            kinds = {"O": "cells", "U": "texts"}
            found[f"{name}.{field}"] = Variable(np.shape(x), kinds.get(kind, "numbers"))


# Versions 4 to 7.


def _of_version_4(path: Path, name: str) -> Any:
    """A variable of the oldest version, which SciPy reads in Python."""
    return scipy.io.loadmat(path, variable_names=[name]).get(name)


def _of_version_5(path: Path, name: str) -> Any:
    """A variable; None if there is none of this name."""
    for matrix in mat5.matrices(path, name):
        if matrix.name == name:
            return _plain(matrix.value)
    return None


def _plain(value: Any) -> Any:
    """What was read, vectors of cells flat.

    Raises:
      UserError: it holds an object of MATLAB.
    """
    if isinstance(value, mat5.Opaque):
        raise UserError(_OPAQUE)
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, list):
        return [_plain(x) for x in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return _cells([_plain(x) for x in value.ravel(order="F")], value.shape)
    return value


def _cells(items: list[Any], shape: tuple[int, ...]) -> NDArray:
    """An object array of the items of a cell array, in MATLAB's order; a vector is flat."""
    found = np.empty(len(items), object)
    for number, item in enumerate(items):
        found[number] = item
    if len([size for size in shape if size != 1]) < 2:
        return found
    return found.reshape(shape, order="F")


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turns what a damaged file raises into a UserError that names it."""
    try:
        yield
    except UserError as error:
        text = str(error)
        raise (error if text.startswith(str(path)) else UserError(f"{path}: {text}")) from None
    # On damaged bytes zlib, struct and SciPy may raise anything.
    except Exception as error:  # noqa: BLE001
        raise UserError(
            f"{path} cannot be read as a .mat file ({type(error).__name__}: {error}); save it again"
        ) from None


# Version 7.3.


def _members(group: h5py.Group) -> list[tuple[str, Any]]:
    return [(name, group.get(name)) for name in group if not name.startswith("#")]


def _class(item: Any) -> str:
    found = item.attrs.get("MATLAB_class", b"")
    text = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
    return "object" if "MATLAB_object_decode" in item.attrs else text


def _describe(found: dict[str, Variable], name: str, item: Any) -> None:
    """Adds a member of a file of version 7.3, and the fields of a structure."""
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            columns = max(item["jc"].shape[0] - 1, 0) if "jc" in item else 0
            found[name] = Variable((int(item.attrs["MATLAB_sparse"]), columns), "numbers")
        elif name.count(".") < _DEEPEST:
            for field, x in _members(item):
                _describe(found, f"{name}.{field}", x)
    elif isinstance(item, h5py.Dataset):
        kind = _class(item)
        if not kind:
            kind = "cell" if h5py.check_ref_dtype(item.dtype) else "double"
        shape = tuple(int(size) for size in reversed(item.shape or ()))
        found[name] = Variable(shape, _kind(kind))


def _hdf5(item: Any, file: h5py.File, where: str, depth: int = 0) -> Any:
    """What a member of a file of version 7.3 holds."""
    if item is None:
        return None
    if depth > _DEEPEST:
        raise UserError(f"{where} lies too deeply in structures or cells; save a flat one")
    kind = _class(item)
    if kind in ("object", "function_handle", "table", "FileWrapper__"):
        raise UserError(f"{where} holds {_OPAQUE}")
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            return _sparse(item)
        fields = {name: _hdf5(x, file, where, depth + 1) for name, x in _members(item)}
        return fields
    if "MATLAB_empty" in item.attrs:
        shape = tuple(int(size) for size in np.ravel(item[()])[:8])
        empty = 0 in shape or not shape
        return np.zeros(shape if empty else (0, 0), object if kind == "cell" else float)
    limits.check_array(where, item.shape, item.dtype.itemsize, item.id.get_storage_size())
    x = np.asarray(item[()]).T
    if h5py.check_ref_dtype(item.dtype):
        cells = [_hdf5(file[ref], file, where, depth + 1) for ref in x.ravel(order="F")]
        return _cells(cells, x.shape)
    if kind == "char":
        rows = x if x.ndim == 2 else x.reshape(1, -1)
        return np.array(["".join(map(chr, row)) for row in rows], "U")
    return x.astype(bool) if kind == "logical" else x


def _sparse(group: h5py.Group) -> Any:
    """A sparse matrix, which is kept by columns."""
    rows, columns = int(group.attrs["MATLAB_sparse"]), group["jc"].shape[0] - 1
    if "data" not in group:
        return scipy.sparse.csc_matrix((rows, columns))
    for key in ("data", "ir", "jc"):
        item = group[key]
        limits.check_array(f"{group.name}/{key}", item.shape, item.dtype.itemsize)
    data, ir, jc = (np.asarray(group[key][()]) for key in ("data", "ir", "jc"))
    ir, jc = ir.astype(np.int64), jc.astype(np.int64)
    if len(data) != len(ir) or jc[0] != 0 or jc[-1] != len(ir) or np.any(np.diff(jc) < 0):
        raise ValueError("the sparse matrix disagrees with its own index")
    if len(ir) and not 0 <= ir.min() <= ir.max() < rows:
        raise ValueError("the sparse matrix has entries beyond its rows")
    return scipy.sparse.csc_matrix((data, ir, jc), (rows, columns))


def dense(x: Any, where: str) -> NDArray:
    """A sparse matrix as an array, whole numbers up to 255 as uint8; other arrays as they are."""
    if not scipy.sparse.issparse(x):
        return np.asarray(x)
    values = np.asarray(x.data)
    small = not values.size or (
        np.isfinite(values).all()
        and values.min() >= 0
        and values.max() <= 255
        and not np.any(values % 1)
    )
    kind = np.dtype(np.uint8 if small else np.float32)
    limits.check_array(where, x.shape, kind.itemsize)
    return np.asarray(x.astype(kind).toarray())
