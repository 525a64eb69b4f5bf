"""Reading of PyTorch checkpoint files without executing anything in them.

A file of ``torch.save`` is a zip archive of ``data.pkl``, a pickle in which every tensor refers to
a storage, and of the bytes of the storages. A pickle is a program: it can name any function of any
installed package and call it. Here it can only use the names in ``_ALLOWED``, and even these are
not imported: each stands for a class or function of this module that builds nothing but arrays and
dictionaries. PyTorch and yacs are neither needed nor used.

Sizes are limited before anything is built: entries must be stored uncompressed, as ``torch.save``
stores them, and tensors are views of their storages, so that reading takes no more memory than the
size of the file.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.errors import UserError
from stndt_jax.files import check_input
from stndt_jax.types import NDArray

# The pickle of a checkpoint with thousands of parameters is smaller than a megabyte.
_LONGEST_PICKLE = 64 * 2**20
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # numpy has no bfloat16; it is the upper half of a float32
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Opcodes that store or read an object by its number. A number above the length of the pickle was
# not written by pickle.dumps, and would make the reader allocate memory for it.
_NUMBERED = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
# Opcodes that refer to registered extensions or out-of-band buffers; torch.save writes none.
_FOREIGN = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


class Node(dict):
    """A configuration node, which is only a dictionary here."""

    def __setstate__(self, state: Any) -> None:
        """Ignores the attributes of the published class (frozen, renamed keys)."""


class _Storage(NamedTuple):
    """A storage: numbers of one type.

    Attributes:
      kind: PyTorch's name of the type.
      values: the numbers, one-dimensional.
    """

    kind: str
    values: NDArray


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> NDArray:
    """Builds a tensor, a read-only view of its storage.

    Args:
      storage: the storage.
      offset: index of the tensor's first number in the storage.
      size: shape.
      stride: steps between neighbours along each axis, in numbers.

    Raises:
      UserError: the tensor does not lie within its storage.
    """
    if not isinstance(storage, _Storage):
        raise UserError("the checkpoint holds a tensor without storage; save it again with torch")
    shape, steps = (tuple(_checked_size(x) for x in given) for given in (size, stride))
    first = _checked_size(offset)
    last = first + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    empty = 0 in shape
    if not empty and (last >= storage.values.size or np.prod(shape, dtype=float) > last + 1):
        raise UserError(
            f"the checkpoint holds a tensor of shape {shape} that reaches beyond its storage of "
            f"{storage.values.size} numbers; the file is damaged"
        )
    if empty:
        return np.zeros(shape, storage.values.dtype)
    item = storage.values.itemsize
    tensor = np.lib.stride_tricks.as_strided(
        storage.values[first:], shape, [step * item for step in steps], writeable=False
    )
    if storage.kind == "BFloat16Storage":
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor


def _checked_size(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**48:
        raise UserError(f"the checkpoint holds a tensor of size {value!r}; the file is damaged")
    return value


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


class _Dtype:
    """The type of a numpy scalar: a letter and a width in bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise UserError(f"the checkpoint holds a numpy scalar of unknown type {code!r}")
        self.numpy = np.dtype(code).newbyteorder("<")

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        self.numpy = self.numpy.newbyteorder(">" if order == ">" else "<")


def _scalar(dtype: Any, raw: Any) -> Any:
    """A numpy scalar as a Python number."""
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise UserError("the checkpoint holds a numpy scalar without its bytes; it is damaged")
    return np.frombuffer(raw, dtype.numpy, count=1)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, which older pickles store as text."""
    return str(text).encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("yacs.config", "CfgNode"): Node,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("_codecs", "encode"): _encode,
    **{("torch", name): name for name in _STORAGES},
    **{("torch.storage", name): name for name in ("UntypedStorage", "TypedStorage")},
    **{(top, name): kind for top in ("builtins", "__builtin__")
       for name, kind in (("set", set), ("frozenset", frozenset))},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("numpy", "dtype"): _Dtype,
}  # fmt: skip


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names in ``_ALLOWED`` and refuses all others."""

    def __init__(self, raw: bytes, storage: Callable[[str, str], _Storage]) -> None:
        super().__init__(io.BytesIO(raw), encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """The object for a global name.

        Raises:
          UserError: the name is not allowed.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UserError(_refusal([f"{module}.{name}"])) from None

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage to which a tensor refers.

        Raises:
          UserError: the reference is not to a storage, or the storage has an unknown type.
        """
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise UserError("the checkpoint refers to an object that is not a storage of numbers")
        _, kind, key, _, _ = pid
        if kind not in _STORAGES:
            raise UserError(f"the checkpoint holds numbers of unknown type {kind}")
        return self._storage(str(kind), str(key))


def _refusal(names: list[str]) -> str:
    shown = ", ".join(names)
    # The names come from the file: no control character in them may reach the terminal.
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return (
        f"refused to read {shown} from the checkpoint: only tensors, containers and the "
        "configuration are read, so that nothing in the file is executed; save it again without "
        "that"
    )


def _check(raw: bytes) -> None:
    """Checks a pickle without executing it.

    Raises:
      UserError: the pickle uses names that are not allowed (all are listed), is damaged, or has
        opcodes that torch.save does not write.
    """
    if len(raw) > _LONGEST_PICKLE:
        raise UserError(
            f"data.pkl has {len(raw)} bytes, more than that of any checkpoint; it is not read"
        )
    named = []
    try:
        for op, arg, _ in pickletools.genops(raw):
            if op.name in _FOREIGN or (op.name in _NUMBERED and int(arg or 0) > len(raw)):
                raise UserError(
                    f"the pickle contains {op.name} {arg}, which torch.save does not write; it is "
                    "not read"
                )
            if op.name in ("GLOBAL", "INST"):
                named.append(tuple(str(arg).split(" ", 1)))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"the pickle is damaged ({error}); copy the file again") from error
    if refused := sorted({".".join(name) for name in named if name not in _ALLOWED}):
        raise UserError(_refusal(refused))


def read(path: Path) -> dict[str, Any]:
    """Reads a file that ``torch.save`` wrote.

    Returns:
      The dictionary in the file: tensors as numpy arrays (read-only views of the file's bytes),
      configuration nodes as ``Node``.

    Raises:
      UserError: the file is missing, damaged, of another format, or holds anything but tensors,
        containers, plain values and a configuration; the message names what it holds.
    """
    check_input(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _load(archive, path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a checkpoint that torch.save wrote") from None
    except zipfile.BadZipFile:
        raise UserError(
            f"{path} is not a zip archive, which torch.save writes since version 1.6; load and "
            "save it again with a newer PyTorch, or copy it again if it is damaged"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error


def _load(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise UserError("the archive holds no data.pkl; torch.save did not write it")
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
        raise UserError("the archive is compressed, unlike those of torch.save; it is not read")
    if sum(info.file_size for info in entries.values()) > path.stat().st_size:
        raise UserError("the archive's entries claim more bytes than the file has; it is not read")
    top = pickles[0].removesuffix("data.pkl")
    order = archive.read(f"{top}byteorder") if f"{top}byteorder" in entries else b"little"
    sign = ">" if order == b"big" else "<"
    found: dict[tuple[str, str], _Storage] = {}

    def storage(kind: str, key: str) -> _Storage:
        if (kind, key) not in found:
            if f"{top}data/{key}" not in entries:
                raise UserError(f"the archive lacks data/{key}; the file is damaged")
            raw = archive.read(f"{top}data/{key}")
            dtype = np.dtype(_STORAGES[kind]).newbyteorder(sign)  # type: ignore[arg-type]
            values = np.frombuffer(raw, dtype, count=len(raw) // dtype.itemsize)
            found[kind, key] = _Storage(kind, values)
        return found[kind, key]

    raw = archive.read(pickles[0])
    _check(raw)
    try:
        loaded = _Reader(raw, storage).load()
    except (UserError, MemoryError):
        raise
    # A damaged or hostile pickle can make the reader raise any exception.
    except Exception as error:
        raise UserError(f"the pickle is damaged ({type(error).__name__})") from error
    if not isinstance(loaded, dict):
        raise UserError(f"it holds a {type(loaded).__name__}, not a dictionary of a checkpoint")
    return loaded
