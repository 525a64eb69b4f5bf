"""Checked reading and writing of HDF5 groups.

Every error message is one sentence that names the file, the key and what to do. What the keys
mean is defined elsewhere, in ``hdf5.py`` and ``arrays.py``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from stndt_jax import files
from stndt_jax.data import limits
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Int, NDArray, UInt

MAX_COUNT = np.iinfo(np.uint16).max


class Sizes:
    """Sizes of axes that several arrays share, and the array that each size came from.

    Arrays of two files must agree in trials, bins and neurons; an error message names both
    arrays.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, str]] = {}

    def set(self, label: str, size: int, source: str) -> None:
        """Sets a size that no single array has, such as held-in plus held-out neurons."""
        self._sizes[label] = (size, source)

    def __getitem__(self, label: str) -> int:
        """The size of the axis with this label."""
        return self._sizes[label][0]

    def get(self, label: str) -> int | None:
        """The size of the axis with this label; None if there is none yet."""
        return self._sizes[label][0] if label in self._sizes else None

    def check(self, where: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> None:
        """Compares an array's shape with the sizes so far, and adds sizes that are new.

        Args:
          where: file and key of the array, for messages.
          shape: its shape.
          labels: what each axis counts, e.g. ("train trials", "observed bins").

        Raises:
          UserError: a wrong number of axes, a different size, or an empty axis; only forward
            bins may be none.
        """
        if len(shape) != len(labels):
            raise UserError(
                f"{where} has shape {shape}, but {len(labels)} axes are needed: {', '.join(labels)}"
            )
        for size, label in zip(shape, labels, strict=True):
            expected, source = self._sizes.setdefault(label, (size, where))
            if size != expected:
                raise UserError(
                    f"{where} has shape {shape}, that is {size} {label}, but {source} has "
                    f"{expected}; make both from the same recording, trials and bins"
                )
            if size == 0 and label != "forward bins":
                raise UserError(
                    f"{where} has shape {shape}, that is no {label}; write a file with at least one"
                )


class Group:
    """The data sets of one group of an open HDF5 file.

    Attributes:
      path: the file.
      name: the group's name; None for the top level of the file.
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
        """The file, group and key, with which every error message starts."""
        return f"{self.path}: {key}" if self.name is None else f"{self.path}: {self.name}/{key}"

    def require(self, keys: Iterable[str], reason: str) -> None:
        """Checks that all keys are present.

        Args:
          keys: names of data sets.
          reason: why they are needed, for the message.

        Raises:
          UserError: some are missing; the message lists those that are present.
        """
        missing = [key for key in keys if key not in self.keys]
        if missing:
            present = ", ".join(self.keys) or "no data sets"
            raise UserError(
                f"{self.where(' and '.join(missing))} missing: {reason}; present: {present}"
            )

    def numbers(self, key: str) -> NDArray:
        """Reads an array of numbers.

        Raises:
          UserError: the data set holds something else, or the file is damaged.
        """
        dtype, shape = self._form(key)
        if dtype.kind not in "buif" or shape is None:
            kind = "nothing" if shape is None else _type_name(dtype)
            raise UserError(f"{self.where(key)} holds {kind}; write it as an array of numbers")
        return np.asarray(self._load(key))

    def counts(self, key: str, *, allow_nan: bool = False) -> tuple[UInt[NDArray, "..."], NDArray]:
        """Reads spike counts; arguments, results and errors as in ``checked_counts``."""
        return checked_counts(self.where(key), self.numbers(key), allow_nan=allow_nan)

    def floats(self, key: str, *, allow_nan: bool = False, negative: bool = True) -> NDArray:
        """Reads finite numbers in their stored type.

        Args:
          key: name of the data set.
          allow_nan: accept NaN.
          negative: accept negative numbers.

        Raises:
          UserError: a number that is not accepted.
        """
        x = self.numbers(key)
        if x.dtype.kind == "f":
            bad = np.isinf(x) if allow_nan else ~np.isfinite(x)
            rule = "a finite number or NaN" if allow_nan else "a finite number"
            rule += "; check how the file was made"
            check_none(bad, x, self.where(key), rule, "every value")
        if not negative:
            rule = "0 or more: expected counts per bin"
            check_none(x < 0, x, self.where(key), rule, "every rate")
        return x

    def labels(self, key: str, below: int | None) -> Int[NDArray, "..."]:
        """Reads labels: whole numbers, -1 for none.

        Args:
          key: name of the data set.
          below: the number of labels; None for any label below 65535.

        Raises:
          UserError: another number.
        """
        x = self.numbers(key)
        below = MAX_COUNT if below is None else below
        bad = (x != np.floor(x)) | ~(x >= -1) | ~np.isfinite(x) | (x >= below)
        rule = f"a whole number from -1 (none), 0 to {below - 1}"
        check_none(bad, x, self.where(key), rule, "a condition")
        return x.astype(np.int32)

    def index_lists(self, key: str) -> list[NDArray]:
        """Reads lists of indices of unequal length, the form of ``*_cond_idx``.

        Returns:
          One integer array per list.

        Raises:
          UserError: the data set is not of this form, or an index is not a whole number from 0.
        """
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
                    "are whole numbers, counted from 0"
                )
            rows.append(values.astype(np.int64))
        return rows

    def partition(self, key: str, trials: int) -> tuple[Int[NDArray, " R"], int]:
        """Reads lists of trial indices as the label of every trial.

        Args:
          key: name of the data set.
          trials: number of trials.

        Returns:
          For every trial the number of the list that contains it, -1 for none; and the number of
          lists.

        Raises:
          UserError: a trial that does not exist, or is in two lists.
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

    def column(self, key: str) -> NDArray:
        """Reads an array of numbers or texts.

        Raises:
          UserError: the data set holds something else, or the file is damaged.
        """
        dtype, _ = self._form(key)
        if h5py.check_string_dtype(dtype) is None:
            return self.numbers(key)
        texts = self._load(key)
        return np.array(
            [x.decode(errors="replace") if isinstance(x, bytes) else str(x) for x in texts.flat],
            "U",
        ).reshape(texts.shape)

    def text(self, attribute: str) -> str | None:
        """An attribute as text; None if there is none."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def positive(self, attribute: str) -> float | None:
        """An attribute that must be a positive number; None if there is none."""
        if attribute not in self.attributes:
            return None
        value = np.asarray(self.attributes[attribute])
        if value.dtype.kind not in "iuf" or value.size != 1 or not 0 < value.item() < np.inf:
            raise UserError(f"{self.where(attribute)} is {value!s}; write one positive number")
        return float(value.item())

    def _load(self, key: str) -> NDArray:
        dtype, shape = self._form(key)
        with explaining_damage(self.where(key)):
            stored = self._group[key].id.get_storage_size()
        limits.check_array(self.where(key), shape or (), dtype.itemsize, stored)
        with explaining_damage(self.where(key)):
            return np.asarray(self._group[key][()])

    def _form(self, key: str) -> tuple[np.dtype, tuple[int, ...] | None]:
        with explaining_damage(self.where(key)):
            return self._group[key].dtype, self._group[key].shape


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading.

    Raises:
      UserError: the file is missing, a folder, not HDF5, or truncated.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the HDF5 file itself")
        files.check_input(path)
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        # A name that contains a zero byte raises ValueError.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}; check the path") from None
    if not h5py.is_hdf5(path):
        raise UserError(
            f"{path} is not an HDF5 file ({path.stat().st_size} bytes); give a file that stndt or "
            "nlb_tools wrote"
        )
    with explaining_damage(str(path)):
        file = h5py.File(path, "r")
    with file:
        yield file


@contextmanager
def open_group(path: str | Path, names: Iterable[str], *, strict: bool) -> Iterator[Group]:
    """Opens one group of an HDF5 file for reading.

    A file with data sets at its top level counts as one group. Otherwise the first of ``names``
    that exists is opened or, if none exists and ``strict`` is False, the file's only group.

    Args:
      path: an HDF5 file.
      names: names that the group may have, the preferred one first.
      strict: refuse a group of another name.

    Raises:
      UserError: the file cannot be opened (see ``open_hdf5``), or there is no such group.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        with explaining_damage(str(path)):
            name = _choose(path, file, list(names), strict)
            group = Group(path, file if name is None else file[name], name)
        yield group


def write_group(
    path: str | Path,
    group: str | None,
    arrays: Mapping[str, NDArray],
    attributes: Mapping[str, str | float],
    *,
    keep_other: bool = False,
) -> None:
    """Writes an HDF5 file with one group; an existing file is replaced as a whole.

    Args:
      path: the file.
      group: the group's name; None for the top level.
      arrays: data sets by key, numbers or texts; an object array holds integer arrays of unequal
        length.
      attributes: HDF5 attributes of the group.
      keep_other: refuse to replace a file with other arrays.

    Raises:
      UserError: the file cannot be written, or must be kept.
    """
    path = Path(path)
    # Built in memory: HDF5 reports a full disk as a RuntimeError at some later moment.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        target = file if group is None else file.create_group(group)
        target.attrs.update(attributes)
        for key, array in arrays.items():
            if array.dtype.kind == "U":
                target.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
            elif array.dtype == object:
                rows = target.create_dataset(key, array.shape, h5py.vlen_dtype(np.int64))
                for number, row in enumerate(array):
                    rows[number] = row
            else:
                target.create_dataset(key, data=array, compression="gzip")
    old = files.destination(path)
    exists = keep_other and old.is_file() and old.stat().st_size > 0
    if exists and not _holds(old, group, arrays):
        raise UserError(
            f"{old} exists and holds something else than the recording to be written; choose "
            f"another --out or --name, or move it away"
        )
    files.write_bytes(path, image.getbuffer(), "check the directory and its free space")


def _holds(path: Path, group: str | None, arrays: Mapping[str, NDArray]) -> bool:
    """Whether a file has some of these arrays, and those that it has are equal.

    Files of earlier versions lack some keys.
    """
    try:
        with h5py.File(path, "r") as file:
            found = file if group is None else file.get(group, {})
            common = [key for key in arrays if key in found]
            return bool(common) and all(_equal(found[key][()], arrays[key]) for key in common)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError):
        return False


def _equal(x: NDArray, y: NDArray) -> bool:
    if y.dtype.kind == "U":
        return x.shape == y.shape and [text.decode() for text in x.flat] == list(y.flat)
    if x.dtype == object or y.dtype == object:
        return len(x) == len(y) and all(map(np.array_equal, x, y))
    return np.array_equal(x, y, equal_nan=x.dtype.kind == "f" and y.dtype.kind == "f")


def ragged(rows: Sequence[NDArray]) -> NDArray:
    """An object array of arrays, even where numpy would make a matrix of rows of equal length."""
    array = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        array[number] = row
    return array


def checked_counts(
    where: str, x: NDArray, *, allow_nan: bool = False
) -> tuple[UInt[NDArray, "..."], Bool[NDArray, "..."]]:
    """Checks that numbers are spike counts.

    Args:
      where: what the numbers are, with which messages start.
      x: numbers of any type.
      allow_nan: accept NaN, for a count that was not recorded or is withheld.

    Returns:
      The counts (0 for NaN) as uint8, or uint16 if one exceeds 255, and where they are counts:
      a boolean array of the same shape, False for NaN.

    Raises:
      UserError: a count that is NaN, infinite, negative, fractional or above 65535.
    """
    has_count = ~np.isnan(x) if x.dtype.kind == "f" else np.ones(x.shape, bool)
    if not allow_nan:
        check_none(~has_count, x, where, "numbers; only targets may hold NaN")
    if not has_count.all():
        x = np.where(has_count, x, 0)
    if x.dtype.kind == "f":
        check_none(np.isinf(x), x, where, "finite; check how the file was made")
    if x.dtype.kind in "fi":
        check_none(x < 0, x, where, "0 or more; check how the file was made")
    if x.dtype.kind == "f":
        check_none(x != np.floor(x), x, where, "whole numbers: counts per bin, not rates")
    too_large = x > np.float32(MAX_COUNT)
    check_none(too_large, x, where, f"at most {MAX_COUNT}; check how the bins were made")
    return as_counts(x), has_count


def as_counts(x: NDArray) -> UInt[NDArray, "..."]:
    """Spike counts in the smallest type that holds them: uint8, or uint16 above 255."""
    large = x.size > 0 and x.max() > np.iinfo(np.uint8).max
    return x.astype(np.uint16 if large else np.uint8)


def check_none(bad: NDArray, x: NDArray, where: str, rule: str, what: str = "spike counts") -> None:
    """Raises UserError, naming the first bad entry, if any entry is bad."""
    first = int(np.argmax(bad)) if bad.size else 0
    if bad.size and bad.flat[first]:
        index = tuple(int(i) for i in np.unravel_index(first, bad.shape))
        raise UserError(f"{where} holds {x[index]} at {index}; {what} must be {rule}")


@contextmanager
def explaining_damage(what: str) -> Iterator[None]:
    """Turns what h5py raises on damaged bytes into a UserError; wrap calls of h5py only.

    Args:
      what: the file, or file and key, with which the message starts.
    """
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        if "unable to lock file" in str(error):
            raise UserError(
                f"{what} cannot be read, for HDF5 cannot lock it ({error}): close the program that "
                "writes it, or, on a file system without locks, set HDF5_USE_FILE_LOCKING=FALSE"
            ) from None
        raise UserError(
            f"{what} cannot be read: the file is truncated, damaged or being written ({error}); "
            "copy or write it again"
        ) from None


def _choose(path: Path, file: h5py.File, names: list[str], strict: bool) -> str | None:
    """The name of the group to open, None for the top level; see ``open_group``."""
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
    # file[key] would raise for a broken link; get returns None.
    return sorted(key for key in group if isinstance(group.get(key), kind))


def _type_name(dtype: np.dtype) -> str:
    return "text" if h5py.check_string_dtype(dtype) else f"type {dtype}"
