"""Tables about trials and units: columns of numbers or texts that no model sees.

A trial's row in the table that it came from, its start, a unit's area: what a user joins rates to.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stndt_jax.data.validation import MAX_COUNT
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Int, NDArray, Shaped

# The column with the row that a trial has in the user's own table or array, counted from 0.
SOURCE = "source_trial"
# The column with what a unit is called in a file, where its identifier is a new number.
NAME = "unit_name"
# Columns that are made of what a recording says elsewhere.
MADE = {"trials": ("start_s", "condition"), "units": ("unit", "held_out")}

Columns = Mapping[str, Shaped[NDArray, " n"]]


def apart(what: str, given: Any, **made: Any) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Separates the columns of a table that say what is also an argument of its own.

    Args:
      what: name of the table, for messages.
      given: columns by name: a mapping, or a table of pandas; None for none.
      made: the arguments by name of the column; None where an argument was not given.

    Returns:
      The other columns; and the arguments, from the table where it has them.

    Raises:
      UserError: the table is no mapping, or has a column whose argument was given too.
    """
    try:
        columns = {} if given is None else {name: given[name] for name in given}
    except (TypeError, KeyError, IndexError):
        raise UserError(
            f"{what} is {reprlib.repr(given)}; give columns by name, with one entry for each row"
        ) from None
    for name in [name for name in made if name in columns]:
        if made[name] is not None:
            raise UserError(
                f"{what} {name!r}: this name is taken by what the recording itself says, which was "
                f"given too; rename it"
            )
        made[name] = columns.pop(name)
    return columns, made


def checked(what: str, given: Any, rows: int, of: str) -> dict[str, NDArray]:
    """Columns as arrays of numbers, booleans or texts.

    Args:
      what: name of the table, for messages.
      given: columns by name, as for :func:`apart`.
      rows: entries that each must have.
      of: what an entry is for, ``trials`` or ``units``.

    Raises:
      UserError: it is no mapping, or a column has another length, holds something else, or has a
        name that cannot be written.
    """
    columns, _ = apart(what, given)
    return {name: _column(what, name, column, rows, of) for name, column in columns.items()}


def _column(what: str, name: Any, given: Any, rows: int, of: str) -> NDArray:
    where = f"{what} {name!r}"
    if not isinstance(name, str) or not name.isprintable() or "/" in name or not name.strip(" ."):
        raise UserError(f"{where} is no name of a column; give a text without /")
    if name in MADE[of]:
        raise UserError(f"{where}: this name is taken by what the recording itself says; rename it")
    column = texts_or_numbers(given)
    if column is None or column.shape != (rows,):
        form = "values of several kinds" if column is None else f"shape {column.shape}"
        raise UserError(f"{where} has {form}; give one number or text for each of the {rows} {of}")
    return column


def texts_or_numbers(given: Any) -> NDArray | None:
    """An array of numbers, booleans or texts (missing texts empty); None of anything else."""
    try:
        x = np.asarray(given)
    except (TypeError, ValueError):
        return None
    if x.dtype.kind == "S":
        return np.char.decode(x, "utf-8", "replace")
    if x.dtype.kind == "O":
        missing = np.array([value is None or value != value for value in x.flat], bool)
        texts = [value for value, gone in zip(x.flat, missing, strict=True) if not gone]
        if all(isinstance(value, str) for value in texts):
            words = ["" if gone else value for value, gone in zip(x.flat, missing, strict=True)]
            return np.array(words, "U").reshape(x.shape)
        if all(isinstance(value, int | float | np.number | np.bool_) for value in texts):
            return x.astype(np.float64)
        return None
    return x if x.dtype.kind in "biufU" else None


def conditions(given: Any, rows: int) -> tuple[Int[NDArray, " R"] | None, tuple[str, ...]]:
    """The condition of every trial, -1 for none, and the names of the conditions.

    Whole numbers from -1 are conditions as they are, and have no names. Texts and other numbers are
    numbered in sorted order and name their conditions; an empty text and NaN are none.

    Args:
      given: one label a trial, or None.
      rows: number of trials.

    Raises:
      UserError: there is another number of labels, or they are no labels.
    """
    if given is None:
        return None, ()
    labels = texts_or_numbers(given)
    if labels is None:
        raise UserError(
            f"conditions is {reprlib.repr(given)}; give one number or text for each of the {rows} "
            f"trials"
        )
    if labels.shape != (rows,):
        raise UserError(f"conditions has shape {labels.shape}, but the spikes require ({rows},)")
    none = without_label(labels)
    if labels.dtype.kind != "U":
        labels = np.where(none, -1, labels)
        if np.all((labels >= -1) & (labels < MAX_COUNT) & (labels == np.floor(labels))):
            return labels.astype(np.int32), ()
    values, index = np.unique(labels[~none], return_inverse=True)
    numbers = np.full(rows, -1, np.int32)
    numbers[~none] = index
    return numbers, tuple(str(value) for value in values)


def without_label(labels: NDArray) -> Bool[NDArray, " n"]:
    """Which entries of a column are no label: NaN, an empty text, or the text nan."""
    if labels.dtype.kind == "U":
        return np.isin(np.char.lower(np.char.strip(labels)), ("", "nan"))
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, bool)


def names(what: str, given: str | Sequence[str], number: int) -> tuple[str, ...]:
    """Names of the dimensions of something, or none.

    Args:
      what: for messages.
      given: texts, or one of a single dimension.
      number: of dimensions.

    Raises:
      UserError: there is another number of names.
    """
    found = (given,) if isinstance(given, str) else tuple(given)
    found = () if found == ("",) else found
    if not all(isinstance(name, str) and name.strip() for name in found):
        raise UserError(f"{what} is {reprlib.repr(given)}; give texts")
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise UserError(f"{what} has {twice!r} twice; give each dimension a name of its own")
    if found and len(found) != number:
        raise UserError(f"{what} has {len(found)} names of {number} dimensions; give one for each")
    return found
