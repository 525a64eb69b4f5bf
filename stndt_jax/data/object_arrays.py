"""Object arrays in .npy files: arrays of unequal length, read without executing their pickle.

``numpy.save`` writes an object array as a pickle, which is a program that can call anything. Here
it can only name what builds numpy's arrays, and even that is not imported: each name stands for a
class of this module that holds a type, a shape and bytes. Anything else is refused by its name.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

# Opcodes that store or read an object by its number. A number above the length of the pickle was
# not written by numpy, and would make the reader allocate memory for it.
_NUMBERED = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
_FOREIGN = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "PERSID", "BINPERSID", "INST"}
_KINDS = "biufUSO"
_ITEM_LIMIT = 2**20  # bytes of one item, as of a long text


class NotArrays(UserError):  # noqa: N818
    """The pickle holds something else than arrays, numbers and texts."""


class _Dtype:
    """A type of numpy, by its code such as ``f8``, and its byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        if not isinstance(code, str) or code[:1] not in _KINDS or not code[1:].isdecimal():
            raise NotArrays(f"an array of type {str(code)[:20]}")
        if int(code[1:]) > _ITEM_LIMIT:
            raise NotArrays(f"items of {code[1:]} bytes")
        self.numpy = np.dtype("O" if code[0] == "O" else code)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        if order in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """An array: nothing until its state is set."""

    values: NDArray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Dtype) or not all(
            isinstance(size, int) and size >= 0 for size in shape
        ):
            raise NotArrays("an array without type or shape")
        if dtype.numpy.kind == "O":
            if not isinstance(raw, list) or len(raw) != math.prod(shape):
                raise NotArrays("an array that lacks items")
            x = np.empty(len(raw), object)
            x[:] = raw
        else:
            raw = raw.encode("latin1") if isinstance(raw, str) else raw
            if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * dtype.numpy.itemsize:
                raise NotArrays("an array that lacks bytes")
            x = np.frombuffer(raw, dtype.numpy)
        self.values = x.reshape(shape, order="F" if is_fortran else "C")


class _Ndarray:
    """Stands for the class of arrays."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    found = _Array()
    found.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return found


class _Scalar:
    """A number of numpy."""

    def __init__(self, dtype: Any, raw: Any) -> None:
        array = _Array()
        array.__setstate__((1, (), dtype, False, raw))
        self.value = array.values[()]


def _encode(text: Any, *_: Any) -> bytes:
    return str(text).encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): found
        for core in ("core", "_core")
        for module, name, found in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names in ``_ALLOWED`` and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global name.

        Raises:
          NotArrays: the name is not allowed.
        """
        if (module, name) not in _ALLOWED:
            shown = "".join(c if c.isprintable() else "?" for c in f"{module}.{name}"[:80])
            raise NotArrays(shown)
        return _ALLOWED[module, name]


def read(raw: bytes) -> NDArray:
    """The object array in a pickle, arrays within it read-only.

    Args:
      raw: the pickle, as ``numpy.save`` writes it.

    Raises:
      NotArrays: it holds anything but arrays, lists, numbers and texts; names it.
      UserError: the pickle is damaged.
    """
    try:
        for op, arg, _ in pickletools.genops(raw):
            numbered = op.name in _NUMBERED and int(arg or 0) > len(raw)
            if op.name in _FOREIGN or numbered:
                raise NotArrays(f"the opcode {op.name}")
        # Nothing is imported or called but what stands in _ALLOWED.
        found = _plain(_Reader(io.BytesIO(raw), encoding="latin1").load())
    except (UserError, MemoryError):
        raise
    # A damaged or hostile pickle can make the reader raise any exception.
    except Exception as error:
        raise UserError(f"its pickle is damaged ({type(error).__name__})") from error
    if not isinstance(found, np.ndarray):
        raise NotArrays(f"a {type(found).__name__}")
    return found


def _plain(found: Any, depth: int = 0) -> Any:
    """What was read, with arrays of numpy in place of what stood for them."""
    if depth > 20:
        raise NotArrays("lists within lists")
    if isinstance(found, _Array):
        x = found.values
        if x.dtype.kind != "O":
            return x
        items = np.empty(x.size, object)
        for number, item in enumerate(x.flat):
            items[number] = _plain(item, depth + 1)
        return items.reshape(x.shape)
    if isinstance(found, _Scalar):
        return found.value
    if isinstance(found, list | tuple):
        return [_plain(item, depth + 1) for item in found]
    if isinstance(found, dict):
        return {str(key): _plain(value, depth + 1) for key, value in found.items()}
    if found is None or isinstance(found, int | float | str | bytes):
        return found
    raise NotArrays(f"a {type(found).__name__.lstrip('_')}")
