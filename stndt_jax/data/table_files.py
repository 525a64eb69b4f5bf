"""Tables of trials and units, labels, and choices of them, from files or the command line.

A table is a .csv or .tsv file with a header, a .parquet file, or an .npz file of named arrays.
Labels are one column of a table, ``FILE:COLUMN``, an .npy file, or a text file with one label a
line.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stndt_jax import files
from stndt_jax.data import limits
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.data.tables import texts_or_numbers
from stndt_jax.errors import UserError, install
from stndt_jax.types import Bool, NDArray, Shaped

_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
# Endings of files that an array or a column can be named of, behind a colon.
_NAMED = (*_DELIMITERS, ".parquet", ".npz", ".npy", ".mat", ".h5", ".hdf5", ".txt")
_IDS = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*")
_LIKE_IDS = re.compile(r"[-+0-9., ]+")
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# A leading zero makes a text, for such an identifier would not be the same as a number.
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
# A number with a decimal comma, or a whole one.
_COMMA = re.compile(r"[-+]?[0-9]+(,[0-9]+)?([eE][-+]?[0-9]+)?|nan", re.I)
_DECIMAL = re.compile(r"(?<=[0-9]),(?=[0-9])")
_BOOLEANS = {"true": True, "false": False}


def split(named: str) -> tuple[Path, str]:
    """A file, and the name behind a colon of what to take of it; empty without one."""
    path, colon, name = named.rpartition(":")
    is_file = os.path.isfile(path) or Path(path).suffix.lower() in _NAMED
    if colon and is_file and not os.path.exists(named):
        return Path(path), name
    return Path(named), ""


def read(path: str | Path) -> dict[str, NDArray]:
    """The columns of a table by name: whole numbers, numbers, booleans or texts.

    An empty cell is NaN among numbers. Where semicolons or tabs separate cells, numbers may have
    decimal commas. A first column without a name that counts the rows, as
    pandas writes it, is left out. Columns without a header are named by their number, from 0.

    Raises:
      UserError: the file is missing or damaged, or is no table.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        found = load_numpy(path)
        assert isinstance(found, dict)
        return found
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    if path.suffix.lower() not in _DELIMITERS:
        raise UserError(f"{path} is no table; give .csv or .tsv with a header, .parquet or .npz")
    head, *rows = _cells(path)
    if not _is_header(head, rows):
        head, rows = [str(number) for number in range(len(head))], [head, *rows]
    if len(set(head)) < len(head):
        twice = next(name for name in head if head.count(name) > 1)
        raise UserError(f"{path} has two columns {twice!r}; rename one")
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise UserError(
                f"{path} has {len(row)} cells in row {number}, but {len(head)} columns "
                f"({', '.join(head)}); write one cell for each column"
            )
    columns = {name: typed([row[n] for row in rows]) for n, name in enumerate(head)}
    if "" in columns and np.array_equal(columns[""], np.arange(len(rows))):
        del columns[""]
    return columns


def labels(named: str, rows: int, column: str, option: str = "") -> Shaped[NDArray, " n"]:
    """Labels from a file.

    Args:
      named: the file, or ``FILE:COLUMN`` for a column of a table or an array of an .npz file.
      rows: how many labels are needed, by which a header of a single column is recognised.
      column: the column to take of a table if none is named.
      option: the flag that names the file, for messages.

    Raises:
      UserError: the file is missing or damaged, the column is not clear, or it is no list.
    """
    flag = f"--{option}={named}: " if option else ""
    try:
        found = _labels(named, rows, column)
    except UserError as error:
        raise UserError(f"{flag}{error}") from None
    if found.ndim == 2 and 1 in found.shape:
        found = found.ravel()  # a row or a column, as MATLAB's
    if found.ndim != 1:
        raise UserError(
            f"{flag}{named} has shape {found.shape}; give a list, with one entry for each of the "
            f"{rows}"
        )
    return found


def _labels(named: str, rows: int, column: str) -> NDArray:
    """As :func:`labels`, of any shape."""
    path, name = split(named)
    if path.suffix == ".npy":
        found = load_numpy(path)
        assert isinstance(found, np.ndarray)
        plain = texts_or_numbers(found)
        return found if plain is None else plain
    if path.suffix == ".txt":
        return typed([line.strip() for line in _text(path).splitlines()])
    if path.suffix.lower() in _DELIMITERS and not name:
        cells = _cells(path)
        if all(len(row) == 1 for row in cells):
            return typed([row[0] for row in cells[len(cells) == rows + 1 :]])
    columns = read(path)
    name = name or (next(iter(columns)) if len(columns) == 1 else column)
    if name not in columns:
        raise UserError(
            f"{path} has no column {name}; name one of {', '.join(columns)}, for example "
            f"{path}:{next(iter(columns), 'NAME')}"
        )
    return columns[name]


class Choices(NamedTuple):
    """What some trials or units can be chosen by.

    Attributes:
      option: name of the option, for messages.
      of: what is chosen, ``trials`` or ``units``.
      ids: their identifiers.
      columns: of their table.
      hint: how to give a column that is not there.
    """

    option: str
    of: str
    ids: Shaped[NDArray, " n"]
    columns: Mapping[str, NDArray]
    hint: str

    def chosen(self, words: str) -> Bool[NDArray, " n"]:
        """Which ones were chosen.

        Args:
          words: identifiers and ranges of them, separated by commas; ``COLUMN=VALUE,...``; or a
            file with identifiers, or with true or false for each.

        Raises:
          UserError: an identifier, column or value is unknown, or the file is no choice.
        """
        column, equals, value = words.partition("=")
        if _IDS.fullmatch(words):
            return self._by_ids(self._listed(words))
        if equals and not os.path.exists(words):
            return self._by_column(column, value)
        if not os.path.exists(split(words)[0]) and _LIKE_IDS.fullmatch(words):
            raise UserError(
                f"--{self.option}={words} is no list of {self.of}; give whole numbers and ranges "
                f"from 0, such as 5,6,10-12"
            )
        listed = labels(words, len(self.ids), self.option, self.option)
        if listed.dtype == bool or (len(listed) == len(self.ids) and np.isin(listed, (0, 1)).all()):
            if listed.shape != self.ids.shape:
                raise UserError(
                    f"--{self.option}={words} holds {listed.shape} values, but there are "
                    f"{len(self.ids)} {self.of}; give true or false for each"
                )
            return listed.astype(bool)
        if listed.dtype.kind not in "iu":
            kind = "texts" if listed.dtype.kind in "UO" else str(listed.dtype)
            raise UserError(
                f"--{self.option}={words} holds {kind}; give whole numbers, or true or "
                f"false for each of the {len(self.ids)} {self.of}"
            )
        return self._by_ids(listed)

    def _listed(self, words: str) -> NDArray:
        """The identifiers in words such as ``5,7-9``; of a range, those that there are."""
        found: list[int] = []
        for word in words.split(","):
            first, dash, last = word.partition("-")
            low, high = int(first), int(last or first)
            within = [int(x) for x in self.ids if low <= x <= high]
            if low > high or (dash and not within):
                raise UserError(
                    f"--{self.option}={words}: none of the {self.of} is from {low} to {high}"
                )
            found += within if dash else [low]
        return np.array(found)

    def _by_ids(self, given: NDArray) -> Bool[NDArray, " n"]:
        values, counts = np.unique(given, return_counts=True)
        if np.any(counts > 1):
            raise UserError(
                f"--{self.option} lists {values[counts > 1][0]} twice; list each of the {self.of} "
                f"once"
            )
        unknown = np.setdiff1d(given, self.ids)
        if unknown.size:
            few = ", ".join(map(str, self.ids[:8])) + (" ..." if len(self.ids) > 8 else "")
            raise UserError(
                f"--{self.option} lists {unknown[0]}, which is none of the {len(self.ids)} "
                f"{self.of}: {few}"
            )
        return np.isin(self.ids, given)

    def _by_column(self, column: str, value: str) -> Bool[NDArray, " n"]:
        if column not in self.columns:
            known = ", ".join(self.columns) or "none"
            raise UserError(
                f"--{self.option}={column}={value}: there is no column {column} (columns: {known});"
                f" {self.hint}"
            )
        found = self.columns[column].astype(str)
        wanted = [word.strip() for word in value.split(",")]
        unknown = [word for word in wanted if word not in found]
        if unknown:
            names, counts = np.unique(found, return_counts=True)
            pairs = list(zip(names, counts, strict=True))[:12]
            present = ", ".join(f"{name or 'none'} ({count})" for name, count in pairs)
            raise UserError(
                f"--{self.option}={column}={value}: none of the {self.of} has the {column} "
                f"{unknown[0]}; there are {present}"
            )
        return np.isin(found, wanted)


def typed(cells: list[str]) -> NDArray:
    """Cells of a text file as whole numbers, numbers, booleans or texts, whichever all of them are.

    An empty cell is NaN among numbers, and an empty text among texts.
    """
    words = [cell.strip() for cell in cells]
    present = [word for word in words if word]
    if present and all(_WHOLE.fullmatch(word) for word in words):
        return np.array([int(word) for word in words])
    if present and all(_is_number(word) for word in present):
        return np.array([float(word or "nan") for word in words])
    if words and all(word.lower() in _BOOLEANS for word in words):
        return np.array([_BOOLEANS[word.lower()] for word in words])
    return np.array(words, "U") if words else np.zeros(0, "U1")


def _is_number(word: str) -> bool:
    digits = word.lstrip("+-")
    if "_" in word or (digits[:1] == "0" and digits[1:2].isdigit()):
        return False
    try:
        float(word)
    except ValueError:
        return False
    return True


def _cells(path: Path) -> list[list[str]]:
    """The rows of a table in a text file, its header first; empty ones of several columns left out.

    Raises:
      UserError: the file is missing, damaged or empty.
    """
    text = _text(path)
    first = text.partition("\n")[0]
    if ";" in first or "\t" in first:
        first = _DECIMAL.sub("", first)
    delimiter = max(_DELIMITERS[path.suffix.lower()], key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as a table ({error}); write it again") from None
    while rows and not rows[-1]:
        rows.pop()
    # In a single column an empty line is an empty cell.
    single = all(len(row) <= 1 for row in rows)
    rows = [[cell.strip() for cell in row or [""]] for row in rows if row or single]
    if not rows:
        raise UserError(f"{path} is empty; write a header and one row for each entry")
    return _with_points(rows) if delimiter != "," else rows


def _with_points(rows: list[list[str]]) -> list[list[str]]:
    """Rows with decimal points in place of commas, in columns that hold numbers with these only."""
    found = [list(row) for row in rows]
    for n in range(len(rows[0])):
        cells = [row[n] for row in rows[1:] if n < len(row) and row[n]]
        if any("," in cell for cell in cells) and all(map(_COMMA.fullmatch, cells)):
            for row in found:
                if n < len(row) and _COMMA.fullmatch(row[n]):
                    row[n] = row[n].replace(",", ".")
    return found


def _text(path: Path) -> str:
    files.check_input(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{path}: {reason}; check the path") from None
    try:
        return content.decode(_encoding(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _encoding(content: bytes) -> str:
    """The encoding of a text: by its byte order mark, else UTF-16 where every other byte is 0."""
    for mark, name in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return name
    head = content[:2000]
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head and len(head) % 2 == 0 and head[first::2].count(0) > 0.9 * len(head) / 2:
            return name
    return "utf-8"


def _is_header(head: list[str], rows: list[list[str]]) -> bool:
    """Whether the first row names columns.

    Numbers do if they rise, as identifiers of units, and there are more rows.
    """
    if not all(head) or not all(_is_number(cell) or _WHOLE.fullmatch(cell) for cell in head):
        return True
    numbers = [float(cell) for cell in head]
    return bool(rows) and len(head) > 1 and bool(np.all(np.diff(numbers) > 0))


def _parquet(path: Path) -> dict[str, NDArray]:
    """The columns of a .parquet file; lists become object arrays.

    Raises:
      UserError: pyarrow is missing, or the file is missing or damaged.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(
            f"{path} needs pyarrow; write it as .csv, or {install('parquet')}"
        ) from None
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        meta = pyarrow.parquet.read_metadata(path)
        groups = [meta.row_group(g).total_byte_size for g in range(meta.num_row_groups)]
        limits.check(str(path), max(sum(groups), 8 * meta.num_rows * meta.num_columns))
        table = pyarrow.parquet.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as .parquet ({error}); write it again") from None
    found = {}
    for name, x in columns.items():
        plain = texts_or_numbers(x)
        found[name] = x if plain is None else plain
    index = found.get("__index_level_0__")
    if index is not None and np.array_equal(index, np.arange(len(index))):
        del found["__index_level_0__"]
    return found
