"""Reading of MATLAB's files of version 5 to 7, byte by byte.

The format is a list of elements: a type, a size, and that many bytes, compressed or not. SciPy's
reader, in C, can end the process on damaged bytes; this one checks every size before it is used.
Source: MAT-File Format, The MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from stndt_jax.data import limits
from stndt_jax.types import NDArray

_MATRIX, _COMPRESSED = 14, 15
# Types of the numbers of an element, by their code; texts are stored as some of them.
_TYPES = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"},
    **{16: "u1", 17: "u2", 18: "u4"},
}
_ENCODINGS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCTURE, OBJECT, CHAR, SPARSE = 1, 2, 3, 4, 5
_NUMBERS = range(6, 16)
_LOGICAL, _COMPLEX = 0x02, 0x08
_DEEPEST = 20


class Opaque(NamedTuple):
    """What is no array: an object of a class, a function."""


class Matrix(NamedTuple):
    """A variable.

    Attributes:
      name: its name.
      kind: its class, by MATLAB's number.
      shape: its shape.
      value: an array; a sparse matrix; an object array of cells; a dictionary or a list of them;
        ``Opaque``.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    value: Any


class _Bytes:
    """A part of the file with its byte order."""

    def __init__(self, raw: memoryview, order: str) -> None:
        self.raw, self.order, self.at = raw, order, 0

    def take(self, size: int) -> memoryview:
        if not 0 <= size <= len(self.raw) - self.at:
            left = len(self.raw) - self.at
            raise ValueError(f"an element of {size} bytes, of which {left} are there")
        self.at += size
        return self.raw[self.at - size : self.at]

    def element(self) -> tuple[int, memoryview]:
        """The type and the bytes of the next element."""
        (first,) = struct.unpack(f"{self.order}I", self.take(4))
        if first >> 16:  # a small element has its size in the upper half, and 4 bytes
            return first & 0xFFFF, self.take(4)[: first >> 16]
        (size,) = struct.unpack(f"{self.order}I", self.take(4))
        found = self.take(size)
        if first != _COMPRESSED:
            self.at = min(self.at + -size % 8, len(self.raw))
        return first, found

    def numbers(self) -> NDArray:
        """The next element as numbers."""
        kind, raw = self.element()
        return self.as_numbers(kind, raw)

    def as_numbers(self, kind: int, raw: memoryview) -> NDArray:
        if kind not in _TYPES:
            raise ValueError(f"numbers of the unknown type {kind}")
        dtype = np.dtype(_TYPES[kind]).newbyteorder(self.order)  # type: ignore[arg-type]
        return np.frombuffer(raw, dtype, count=len(raw) // dtype.itemsize)

    @property
    def done(self) -> bool:
        return self.at >= len(self.raw)


def is_mat5(path: Path) -> bool:
    """Whether a file is of this version, by its header."""
    with path.open("rb") as file:
        head = file.read(128)
    return len(head) == 128 and head[126:128] in (b"IM", b"MI")


def matrices(path: Path, name: str | None = None, *, values: bool = True) -> Iterator[Matrix]:
    """The variables of a file.

    Args:
      path: the file.
      name: of the only one whose value is read; None for all.
      values: read values; without, only names, classes and shapes.

    Raises:
      ValueError: the file is damaged.
      UserError: a variable does not fit into memory.
    """
    whole = np.memmap(path, np.uint8, "r").data
    order = {b"IM": "<", b"MI": ">"}[bytes(whole[126:128])]
    source = _Bytes(whole[128:], order)
    while not source.done:
        kind, raw = source.element()
        if kind == _COMPRESSED:
            head = zlib.decompressobj().decompress(raw, 2**12)
            peeked = _peek(head, order)
            if not values or (name is not None and peeked.name != name):
                yield peeked
                continue
            (size,) = struct.unpack(f"{order}I", head[4:8])
            limits.check(f"{path}: {peeked.name}", size, len(raw))
            inner = _Bytes(memoryview(zlib.decompressobj().decompress(raw, size + 8)), order)
            kind, raw = inner.element()
        if kind != _MATRIX:
            continue
        found = _Bytes(raw, order)
        if not values:
            yield _header(found)[0]
        else:
            yield _matrix(found, name)


def _peek(head: bytes, order: str) -> Matrix:
    """The name, class and shape of a compressed variable, from its first bytes."""
    source = _Bytes(memoryview(head)[8:], order)
    return _header(source)[0]


def _header(source: _Bytes) -> tuple[Matrix, int]:
    """Name, class and shape of a variable, and its flags."""
    flags = source.numbers()
    if not len(flags):
        raise ValueError("a variable without class")
    kind = int(flags[0]) & 0xFF
    if kind not in (CELL, STRUCTURE, OBJECT, CHAR, SPARSE, *_NUMBERS):
        return Matrix("", kind, (), Opaque()), 0
    shape = tuple(int(size) for size in source.numbers())
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError(f"the shape {shape}")
    _, name = source.element()
    return Matrix(bytes(name).decode("ascii", "replace"), kind, shape, None), int(flags[0]) >> 8


def _matrix(source: _Bytes, name: str | None = None, depth: int = 0) -> Matrix:
    """A variable with its value, unless it has another name than the one that is given."""
    if depth > _DEEPEST:
        raise ValueError("structures or cells within one another too often")
    found, flags = _header(source)
    if name is not None and found.name != name:
        return found
    if found.value is not None or found.kind == OBJECT:
        return found._replace(value=Opaque())
    size = math.prod(found.shape)
    if found.kind == CELL:
        return found._replace(value=_cells(_items(source, size, depth), found.shape))
    if found.kind == STRUCTURE:
        return found._replace(value=_structures(source, size, depth))
    if found.kind == SPARSE:
        return found._replace(value=_sparse(source, found.shape, flags))
    if found.kind == CHAR:
        return found._replace(value=_texts(source, found.shape))
    x = source.numbers()
    if len(x) != size:
        raise ValueError(f"{len(x)} numbers of an array of shape {found.shape}")
    if flags & _COMPLEX:
        x = x + 1j * source.numbers()
    if flags & _LOGICAL:
        x = x.astype(bool)
    return found._replace(value=x.reshape(found.shape, order="F"))


def _items(source: _Bytes, number: int, depth: int) -> list[Any]:
    """The values of so many matrices, one after the other."""
    if number * 8 > len(source.raw):
        raise ValueError(f"{number} cells in {len(source.raw)} bytes")
    items = []
    for _ in range(number):
        kind, raw = source.element()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a matrix is expected")
        # An empty element is an empty matrix.
        inner = _Bytes(raw, source.order)
        items.append(_matrix(inner, depth=depth + 1).value if len(raw) else np.zeros((0, 0)))
    return items


def _cells(items: list[Any], shape: tuple[int, ...]) -> NDArray:
    found = np.empty(len(items), object)
    for number, item in enumerate(items):
        found[number] = item
    return found.reshape(shape, order="F")


def _structures(source: _Bytes, number: int, depth: int) -> Any:
    """A dictionary, or one for each of several structures."""
    length = source.numbers()
    _, raw = source.element()
    step = int(length[0]) if len(length) else 0
    if not 0 < step <= 4096:
        raise ValueError(f"names of fields of {step} bytes")
    names = [bytes(raw[k : k + step]).split(b"\0")[0].decode("ascii", "replace")
             for k in range(0, len(raw) - step + 1, step)]  # fmt: skip
    if not names:
        return [{} for _ in range(min(number, 1000))] if number != 1 else {}
    values = _items(source, number * len(names), depth)
    rows = [dict(zip(names, values[k : k + len(names)], strict=True))
            for k in range(0, len(values), len(names))]  # fmt: skip
    return rows[0] if len(rows) == 1 else rows


def _sparse(source: _Bytes, shape: tuple[int, ...], flags: int) -> Any:
    rows, starts, data = source.numbers(), source.numbers(), source.numbers()
    if flags & _COMPLEX:
        raise ValueError("a sparse matrix of complex numbers")
    if len(shape) != 2 or len(starts) != shape[1] + 1:
        raise ValueError(f"a sparse matrix of shape {shape} with {len(starts) - 1} columns")
    number = int(starts[-1])
    starts, rows, data = starts.astype(np.int64), rows[:number].astype(np.int64), data[:number]
    good = starts[0] == 0 and np.all(np.diff(starts) >= 0) and len(rows) == len(data) == number
    if not good or (number and not 0 <= rows.min() <= rows.max() < shape[0]):
        raise ValueError("a sparse matrix that disagrees with its own index")
    return scipy.sparse.csc_matrix((np.array(data), rows, starts), shape)


def _texts(source: _Bytes, shape: tuple[int, ...]) -> NDArray:
    """The rows of an array of characters, as texts."""
    kind, raw = source.element()
    if kind in _ENCODINGS:
        endian = "" if kind == 16 else "-le" if source.order == "<" else "-be"
        letters = bytes(raw).decode(_ENCODINGS[kind] + endian, "replace")
    else:
        letters = "".join(chr(min(int(x), 0x10FFFF)) for x in source.as_numbers(kind, raw))
    rows = shape[0] if shape else 1
    if rows <= 1:
        return np.array([letters], "U")
    if rows > len(letters):
        raise ValueError(f"{len(letters)} characters in {rows} rows")
    return np.array([letters[row::rows] for row in range(rows)], "U")
