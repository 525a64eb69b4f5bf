"""Checked reading of .npy and .npz files: sizes before contents, and no pickle executed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax import files
from stndt_jax.data import limits, object_arrays
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

WAY_ROUND = (
    "save texts with numpy.save(path, x.astype(str)), and trials of unequal length with "
    "numpy.savez(path, *trials)"
)


class Header(NamedTuple):
    """What a file says of an array before its numbers.

    Attributes:
      shape: its shape.
      dtype: its type.
      stored: bytes that it takes in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    stored: int


def headers(path: str | Path) -> dict[str, Header]:
    """The arrays of a file, without reading them.

    Returns:
      Headers by name; that of a ``.npy`` file under an empty name.

    Raises:
      UserError: the file is missing, damaged, or of another format.
    """
    path = Path(path)
    files.check_input(path)
    with _explaining(path):
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return {"": _header(file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            return {
                _name(info): _header(file, info.compress_size)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
                for file in [archive.open(info)]
            }


def load_numpy(
    path: str | Path, mmap: bool = False, name: str = ""
) -> NDArray | dict[str, NDArray]:
    """Reads the array of a ``.npy`` file, or the arrays by name of an ``.npz`` file.

    Of objects, arrays, numbers and texts are read, without executing their pickle, and a single
    dictionary of them as arrays by name; others are refused.

    Args:
      path: the file.
      mmap: map a ``.npy`` file into memory instead of reading it.
      name: of the only array to read of an ``.npz`` file; empty for all.

    Raises:
      UserError: the file is missing, damaged, of another format, or larger than memory; or an
        ``.npz`` file has no array of this name.
    """
    path = Path(path)
    found = headers(path)
    if "" in found and len(found) == 1:
        with _explaining(path):
            return _named(_one(path, found[""], mmap))
    if name and name not in found:
        raise UserError(f"{path} has no array {name}; it holds {listed(found)}")
    wanted = {key: header for key, header in found.items() if not name or key == name}
    sizes = [math.prod(header.shape) * header.dtype.itemsize for header in wanted.values()]
    stored = sum(header.stored for header in wanted.values())
    shown = listed({k: h for k, h in wanted.items() if sum(sizes) < 2 * _size(h)} or wanted)
    limits.check(f"{path} ({shown})", sum(sizes), stored)
    with _explaining(path), zipfile.ZipFile(path) as archive:
        members = {_name(info): info for info in archive.infolist()}
        return {key: _member(archive, members[key]) for key in wanted}


def listed(found: dict[str, Any], most: int = 8) -> str:
    """Arrays or headers by name with their shapes, for messages."""
    shown = [f"{name} {x.shape}" for name, x in list(found.items())[:most]]
    return (", ".join(shown) or "nothing") + (" ..." if len(found) > most else "")


def _size(header: Header) -> int:
    return math.prod(header.shape) * header.dtype.itemsize


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _header(file: Any, stored: int) -> Header:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return Header(shape, dtype, stored)


def _one(path: Path, header: Header, mmap: bool) -> NDArray:
    """The array of a .npy file."""
    if header.dtype.hasobject:
        with path.open("rb") as file:
            return _objects(file, header)
    if _size(header) > header.stored:
        raise ValueError(
            f"it declares shape {header.shape}, that is {_size(header)} bytes, but holds "
            f"{header.stored}: it is truncated"
        )
    if not mmap:
        limits.check_array(str(path), header.shape, header.dtype.itemsize)
    return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray:
    with archive.open(info) as file:
        header = _header(file, info.compress_size)
        if header.dtype.hasobject:
            limits.check(info.filename, info.file_size, info.compress_size)
            with archive.open(info) as again:
                return _objects(again, header)
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _named(found: NDArray) -> NDArray | dict[str, NDArray]:
    """The arrays of a dictionary that was saved as if it were one; other arrays as they are."""
    if found.dtype != object or found.shape or not isinstance(found.item(), dict):
        return found
    return {name: _as_array(value) for name, value in found.item().items()}


def _as_array(value: Any) -> NDArray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal length
        rows = np.empty(len(value), object)
        rows[:] = [_as_array(row) for row in value]
        return rows


def _objects(file: Any, header: Header) -> NDArray:
    """An object array."""
    if header.dtype != np.dtype(object):
        raise ValueError(f"type {header.dtype}")
    _header(file, 0)
    return object_arrays.read(file.read())


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turns what a damaged file raises into a UserError that names it."""
    try:
        yield
    except object_arrays.NotArrays as error:
        raise UserError(
            f"{path} holds Python objects, of which only arrays, numbers and texts are read, and "
            f"nothing is executed ({error}); {WAY_ROUND}"
        ) from None
    except UserError as error:
        text = str(error)
        raise (error if text.startswith(str(path)) else UserError(f"{path}: {text}")) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    # On damaged bytes numpy may raise whatever Python's tokenizer and parser, zlib and zipfile
    # raise; these exceptions have no other common base.
    except Exception as error:  # noqa: BLE001
        raise UserError(
            f"{path} cannot be read as .npy or .npz ({error}); write it with numpy.save or "
            f"numpy.savez"
        ) from None
