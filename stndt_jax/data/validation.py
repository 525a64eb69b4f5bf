"""Checked reading of one group of an HDF5 file, and writing one whole or not at all.

Every complaint is one sentence that names the file, the key and what to do. Nothing here
knows what the keys mean for a model; `spikes.py` does.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Int, NDArray, UInt

MAX_COUNT = np.iinfo(np.uint16).max


class Sizes:
    """The sizes that arrays share, and which array said so first.

    Arrays of two files must agree in trials, bins and neurons; a disagreement is reported
    with both arrays by name.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str]] = {}

    def settle(self, label: str, size: int, source: str) -> None:
        """Fixes a size that no single array shows, such as held-in plus held-out neurons."""
        self._seen[label] = (size, source)

    def __getitem__(self, label: str) -> int:
        """The size seen under this label."""
        return self._seen[label][0]

    def get(self, label: str) -> int | None:
        """The size seen under this label, None if none was."""
        return self._seen[label][0] if label in self._seen else None

    def agree(self, where: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> None:
        """Holds an array's shape against the sizes seen so far, and remembers new ones.

        Args:
            where: the file and key of the array, for the message.
            shape: its shape.
            labels: what each axis counts, e.g. ("train trials", "observed bins").

        Raises:
            UserError: a wrong number of axes, a size that differs, or an empty axis other
                than forward bins, of which there may be none.
        """
        if len(shape) != len(labels):
            raise UserError(
                f"{where} has shape {shape}, but {len(labels)} axes are needed: {', '.join(labels)}"
            )
        for size, label in zip(shape, labels, strict=True):
            known, source = self._seen.setdefault(label, (size, where))
            if size != known:
                raise UserError(
                    f"{where} has shape {shape}, that is {size} {label}, but {source} has {known}; "
                    "make both from the same recording, trials and bins"
                )
            if size == 0 and label != "forward bins":
                raise UserError(
                    f"{where} has shape {shape}, that is no {label}; write a file with at least one"
                )


class Group:
    """The data sets of one group of an open HDF5 file.

    Attributes:
        path: the file.
        name: the group's name, None for keys that stand at the top level.
        keys: names of the data sets, sorted.
        attributes: the group's HDF5 attributes.
    """

    def __init__(self, path: Path, group: h5py.Group, name: str | None) -> None:
        self.path = path
        self.name = name
        self.keys = _members(group, h5py.Dataset)
        self.attributes = dict(group.attrs)
        self._group = group

    def where(self, key: str) -> str:
        """The file, group and key, as every message starts."""
        return f"{self.path}: {key}" if self.name is None else f"{self.path}: {self.name}/{key}"

    def require(self, keys: Iterable[str], why: str) -> None:
        """Raises UserError, with the reason, unless all keys are there."""
        missing = [key for key in keys if key not in self.keys]
        if missing:
            present = ", ".join(self.keys) or "no data sets"
            raise UserError(
                f"{self.where(' and '.join(missing))} missing: {why}; present: {present}"
            )

    def numbers(self, key: str) -> NDArray:
        """Reads an array of numbers.

        Raises:
            UserError: it holds something else, or the file is damaged.
        """
        dtype, shape = self._form(key)
        if dtype.kind not in "buif" or shape is None:
            kind = "nothing" if shape is None else _type_name(dtype)
            raise UserError(f"{self.where(key)} holds {kind}; write it as an array of numbers")
        return np.asarray(self._load(key))

    def counts(self, key: str, *, unknown: bool = False) -> tuple[UInt[NDArray, "..."], NDArray]:
        """Reads spike counts.

        Args:
            key: name of the data set.
            unknown: True where NaN may stand for a count that is not known.

        Returns:
            The counts (0 where unknown) as uint8, or uint16 if one exceeds 255, and a
            boolean array of the same shape, False where a count was NaN.

        Raises:
            UserError: a count that is NaN, infinite, negative, fractional or above 65535.
        """
        return checked_counts(self.where(key), self.numbers(key), unknown=unknown)

    def floats(self, key: str, *, unknown: bool = False, negative: bool = True) -> NDArray:
        """Reads finite numbers, as they are stored; `unknown` admits NaN."""
        x = self.numbers(key)
        if x.dtype.kind == "f":
            bad = np.isinf(x) if unknown else ~np.isfinite(x)
            rule = "a finite number or NaN" if unknown else "a finite number"
            _refuse(self.where(key), x, bad, f"{rule}; check how the file was made", "every value")
        if not negative:
            _refuse(self.where(key), x, x < 0, "0 or more: expected counts per bin", "every rate")
        return x

    def labels(self, key: str, below: int | None) -> Int[NDArray, "..."]:
        """Reads whole numbers from -1 (for none) to below the limit, if there is one."""
        x = self.numbers(key)
        below = MAX_COUNT if below is None else below
        above = x >= below
        bad = (x != np.floor(x)) | ~(x >= -1) | ~np.isfinite(x) | above
        limit = f"a whole number from -1 (none), 0 to {below - 1}"
        _refuse(self.where(key), x, bad, limit, "a condition")
        return x.astype(np.int32)

    def index_lists(self, key: str) -> list[NDArray]:
        """Reads a ragged list of indices: one integer array a row, as `*_cond_idx` are kept."""
        dtype, shape = self._form(key)
        inner = h5py.check_vlen_dtype(dtype) or dtype
        if not isinstance(inner, np.dtype) or inner.kind not in "uif" or not shape:
            raise UserError(
                f"{self.where(key)} holds {_type_name(dtype)} in shape {shape}; write one "
                "list of trial indices per condition"
            )
        rows = []
        for number, row in enumerate(self._load(key)):
            values = np.atleast_1d(row)
            wrong = ~np.isfinite(values) | (values != np.floor(values)) | (values < 0)
            wrong |= values >= 2**31
            if wrong.any():
                raise UserError(
                    f"{self.where(key)} holds {values[wrong][0]} in row {number}; trial indices "
                    "are whole numbers from 0 to the number of trials"
                )
            rows.append(values.astype(np.int64))
        return rows

    def partition(self, key: str, trials: int) -> tuple[Int[NDArray, " R"], int]:
        """Reads a ragged list of trials as the row of every trial.

        Returns:
            The row each trial stands in, -1 for none, and how many rows there are.

        Raises:
            UserError: a trial that is not there, or stands in two rows.
        """
        rows = self.index_lists(key)
        row_R = np.full(trials, -1, np.int32)
        for number, row in enumerate(rows):
            if row.size and row.max() >= trials:
                raise UserError(
                    f"{self.where(key)} holds trial {row.max()} in row {number}, but there are "
                    f"{trials} trials; count them from 0"
                )
            twice = row[row_R[row] >= 0]
            if twice.size:
                raise UserError(
                    f"{self.where(key)} holds trial {twice[0]} in rows {row_R[twice[0]]} and "
                    f"{number}; list every trial once"
                )
            row_R[row] = number
        return row_R, len(rows)

    def text(self, attribute: str) -> str | None:
        """An attribute as text, None without one."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def positive(self, attribute: str) -> float | None:
        """An attribute that must be a positive number, None without one."""
        if attribute not in self.attributes:
            return None
        value = np.asarray(self.attributes[attribute])
        if value.dtype.kind not in "iuf" or value.size != 1 or not 0 < value.item() < np.inf:
            raise UserError(f"{self.where(attribute)} is {value!s}; write one positive number")
        return float(value.item())

    def _load(self, key: str) -> NDArray:
        dtype, shape = self._form(key)
        size = math.prod(shape or ()) * dtype.itemsize
        if size > _memory():
            raise UserError(
                f"{self.where(key)} has shape {shape}, that is {size / 2**30:.0f} GiB, which this "
                "machine's memory does not hold; cut it, or check how it was made"
            )
        with damage_told(self.where(key)):
            return np.asarray(self._group[key][()])

    def _form(self, key: str) -> tuple[np.dtype, tuple[int, ...] | None]:
        with damage_told(self.where(key)):
            return self._group[key].dtype, self._group[key].shape


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file to read.

    Raises:
        UserError: no such file, a folder, not HDF5, or truncated.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the HDF5 file itself")
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        # A name with a zero byte in it is a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}; check the path") from None
    if not h5py.is_hdf5(path):
        raise UserError(
            f"{path} is not an HDF5 file ({path.stat().st_size} bytes); give a file that stndt or "
            "nlb_tools wrote"
        )
    with damage_told(str(path)):
        file = h5py.File(path, "r")
    with file:
        yield file


@contextmanager
def open_group(path: str | Path, names: Iterable[str], *, strict: bool) -> Iterator[Group]:
    """Opens the group that is asked for, or the one group there is.

    A file whose data sets stand at the top level is its own group. Otherwise the first of
    `names` that the file has is taken, and without one, unless `strict`, its only group.

    Args:
        path: an HDF5 file.
        names: names the group may have, the preferred one first.
        strict: refuse a group of another name.

    Raises:
        UserError: no such file, a folder, not HDF5, truncated, or no such group.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        with damage_told(str(path)):
            name = _choose(path, file, list(names), strict)
            group = Group(path, file if name is None else file[name], name)
        yield group


def write_group(
    path: str | Path,
    group: str | None,
    arrays: Mapping[str, NDArray],
    attributes: Mapping[str, str | float],
) -> None:
    """Writes a file of one group, whole or not at all, in place of one of the same name.

    Args:
        path: the file.
        group: the group's name, None for the top level.
        arrays: data sets by key; an object array holds integer arrays, a ragged list.
        attributes: HDF5 attributes of the group.

    Raises:
        UserError: it cannot be written there.
    """
    path = Path(path)
    # Built in memory: HDF5 reports a full disk as a RuntimeError at some later moment.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        target = file if group is None else file.create_group(group)
        target.attrs.update(attributes)
        for key, array in arrays.items():
            if array.dtype == object:
                rows = target.create_dataset(key, array.shape, h5py.vlen_dtype(np.int64))
                for number, row in enumerate(array):
                    rows[number] = row
            else:
                target.create_dataset(key, data=array, compression="gzip")
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the name of a file to write")
        with open(temporary, "wb") as out:
            out.write(image.getbuffer())
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; check the folder and its space"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def checked_counts(
    where: str, x: NDArray, *, unknown: bool
) -> tuple[UInt[NDArray, "..."], Bool[NDArray, "..."]]:
    """Numbers as spike counts, and where they are known.

    Args:
        where: what the numbers are, as messages start.
        x: numbers of any type.
        unknown: True where NaN may stand for a count that is not known.

    Returns:
        The counts (0 where unknown) as uint8, or uint16 if one exceeds 255, and a boolean
        array of the same shape, False where a count was NaN.

    Raises:
        UserError: a count that is NaN, infinite, negative, fractional or above 65535.
    """
    known = ~np.isnan(x) if x.dtype.kind == "f" else np.ones(x.shape, bool)
    if not unknown:
        _refuse(where, x, ~known, "known; only targets may hold NaN")
    if not known.all():
        x = np.where(known, x, 0)
    if x.dtype.kind == "f":
        _refuse(where, x, np.isinf(x), "finite; check how the file was made")
    if x.dtype.kind in "fi":
        _refuse(where, x, x < 0, "0 or more; check how the file was made")
    if x.dtype.kind == "f":
        _refuse(where, x, x != np.floor(x), "whole numbers: counts per bin, never rates")
    _refuse(
        where, x, x > np.float32(MAX_COUNT), f"at most {MAX_COUNT}; check how the bins were made"
    )
    return as_counts(x), known


def as_counts(x: NDArray) -> UInt[NDArray, "..."]:
    """Spike counts in the smallest type that holds them: uint8, or uint16 above 255."""
    large = x.size > 0 and x.max() > np.iinfo(np.uint8).max
    return x.astype(np.uint16 if large else np.uint8)


def _refuse(where: str, x: NDArray, bad: NDArray, rule: str, what: str = "spike counts") -> None:
    first = int(np.argmax(bad)) if bad.size else 0
    if bad.size and bad.flat[first]:
        index = tuple(int(i) for i in np.unravel_index(first, bad.shape))
        raise UserError(f"{where} holds {x[index]} at {index}; {what} must be {rule}")


@contextmanager
def damage_told(what: str) -> Iterator[None]:
    """Holds calls of h5py only, which meets damaged bytes with any of these exceptions."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise UserError(
            f"{what} cannot be read, the file is truncated, damaged or being written ({error}); "
            "copy or write it again"
        ) from None


def load_numpy(path: str | Path, mmap: bool = False) -> NDArray | dict[str, NDArray]:
    """The array in a `.npy` file, or the arrays by name in an `.npz` file, never unpickled.

    Args:
        path: the file.
        mmap: leave an array on the disk until it is needed.

    Raises:
        UserError: no such file, or it is none of the two.
    """
    try:
        found = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {key: found[key] for key in found.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    # Damaged bytes take numpy into the tokenizer, the parser, zlib and zipfile, whose exceptions
    # have no base but this one.
    except Exception as error:  # noqa: BLE001
        raise UserError(
            f"{path} cannot be read as .npy or .npz ({error}); write it with numpy.save or "
            "numpy.savez"
        ) from None


def _choose(path: Path, file: h5py.File, names: list[str], strict: bool) -> str | None:
    if _members(file, h5py.Dataset):
        return None
    groups = _members(file, h5py.Group)
    for name in names:
        if name in groups:
            return name
    if len(groups) == 1 and not (strict and names):
        return groups[0]
    wanted = f"no group {' or '.join(names)}" if names else "no single group to read"
    present = ", ".join(groups) or "nothing"
    raise UserError(f"{path} has {wanted}; present: {present}; name one of these")


def _members(group: h5py.Group, kind: type) -> list[str]:
    # Without a default, a link that leads nowhere would raise.
    return sorted(key for key in group if isinstance(group.get(key), kind))


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _type_name(dtype: np.dtype) -> str:
    return "text" if h5py.check_string_dtype(dtype) else f"type {dtype}"
