"""Arrays as a user gives them: checked, and trials of unequal length padded to one array."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from stndt_jax.data.validation import MAX_COUNT, check_none
from stndt_jax.errors import UserError, is_number
from stndt_jax.types import Bool, Float, NDArray

# What the last axis of an array counts, for messages.
_LAST = {"spikes": "neurons", "rates": "neurons", "behavior": "dimensions"}


def behavior(
    given: NDArray | Sequence[NDArray] | None,
    spikes: NDArray | Sequence[NDArray],
    shape: tuple[int, int],
    pad_first: bool,
) -> NDArray | None:
    """Behaviour in every bin, (trials, bins, dimensions), or of whole trials.

    Args:
      given: one array, or one array (bins, dimensions) or (bins,) per trial; None for none.
      spikes: as the user gave them, with whose trials the behaviour must agree.
      shape: trials and bins of the spikes in one array.
      pad_first: whether padding comes before a short trial.

    Raises:
      UserError: it does not fit the spikes, or a value is infinite.

    Warns:
      UserWarning: values of trials could be values of bins.
    """
    if given is None:
        return None
    if isinstance(given, np.ndarray) and given.ndim == 2:
        values = checked_shape("behavior", given, shape[:1])
        if given.shape == shape and shape[1] > 1:
            warnings.warn(
                f"behavior has shape {given.shape}, which counts as {shape[1]} values of every "
                f"trial; if it is one value of every bin, give {(*shape, 1)}",
                UserWarning,
                stacklevel=4,
            )
    else:
        if not isinstance(given, np.ndarray) or given.dtype == object:
            given = [row[:, None] if np.ndim(row) == 1 else row for row in given]
        stacked_RTD = stacked("behavior", given, pad_first)
        _check_lengths("behavior", given, spikes)
        values = checked_shape("behavior", stacked_RTD, shape)
    check_none(np.isinf(values), values, "behavior", "a finite number or NaN", "every value")
    return values


def rates(
    given: NDArray | Sequence[NDArray],
    spikes: NDArray | Sequence[NDArray],
    recorded_RTN: Bool[NDArray, "R T N"],
    pad_first: bool,
) -> NDArray:
    """True rates in one array; the arguments are those of :func:`behavior`.

    Raises:
      UserError: they do not fit the spikes, or a rate is negative or not finite.
    """
    whole = isinstance(given, np.ndarray) and given.ndim == 2
    stacked_RTN = given if whole else stacked("rates", given, pad_first)
    if not whole:
        _check_lengths("rates", given, spikes)
    x = checked_shape("rates", stacked_RTN, recorded_RTN.shape)
    bad = (x < 0) | np.isinf(x) | (np.isnan(x) & recorded_RTN)
    check_none(bad, x, "rates", "finite and 0 or more: expected counts per bin", "every rate")
    return x


def starts(
    given: Any,
    spikes: NDArray | Sequence[NDArray],
    shape: tuple[int, int],
    bin_ms: float,
    pad_first: bool,
) -> Float[NDArray, " R"] | None:
    """Times of the first bins, s, moved to the first bin of the padding where that comes first."""
    R, T = shape
    if given is None:
        return None
    times_R = checked_shape("starts", given, (R,), exact=True).astype(np.float64)
    check_none(~np.isfinite(times_R), times_R, "starts", "finite, in s", "every start")
    if pad_first:
        times_R = times_R - [(T - len(row)) * bin_ms / 1000.0 for row in spikes]
    return times_R


def check_bin_ms(bin_ms: Any) -> None:
    """Refuses what is no bin width.

    Raises:
      UserError: it is not one number above 0.
    """
    if not is_number(bin_ms) or bin_ms <= 0:
        raise UserError(f"bin_ms is {bin_ms!r}; give the bin width in ms, a number above 0")


def units(given: Any, neurons: int) -> NDArray:
    """Identifiers of the neurons, by default their indices.

    Raises:
      UserError: one is no whole number from -1, or is given twice.
    """
    x = np.arange(neurons) if given is None else array("units", given)
    if x.dtype.kind in "UO":
        raise UserError(
            "units holds texts, but identifiers are whole numbers; keep texts in a column of the "
            "unit table, under another name than unit"
        )
    units_N = whole_numbers("units", x, (neurons,))
    if len(np.unique(units_N)) < neurons:
        raise UserError("units lists an identifier twice; give every neuron its own")
    return units_N


def whole_numbers(what: str, given: Any, shape: tuple[int, ...]) -> NDArray:
    """Whole numbers from -1, as the files hold them.

    Raises:
      UserError: another number, or another shape.
    """
    x = checked_shape(what, given, shape, exact=True)
    bad = ~((x >= -1) & (x < MAX_COUNT) & (x == np.floor(x)))
    check_none(bad, x, what, f"a whole number from -1 to {MAX_COUNT - 1}", "every entry")
    return x.astype(np.int64)


def array(what: str, given: Any) -> NDArray:
    """``given`` as an array.

    Raises:
      UserError: it is none.
    """
    try:
        return np.asarray(given)
    except (TypeError, ValueError):
        raise UserError(f"{what} is no array, but {reprlib.repr(given)}; give one array") from None


def checked_shape(what: str, given: Any, shape: tuple[int, ...], *, exact: bool = False) -> Any:
    """``given`` as an array of numbers of this shape; further axes only if not ``exact``."""
    x = array(what, given)
    _check_numeric(what, x)
    if (x.shape if exact else x.shape[: len(shape)]) != shape:
        raise UserError(f"{what} has shape {x.shape}, but the spikes require {shape}")
    return x


def stacked(what: str, given: NDArray | Sequence[NDArray], pad_first: bool) -> NDArray:
    """Trials in one array (trials, bins, values), short ones padded with NaN.

    Args:
      what: name of the array, for messages.
      given: one array, or one array (bins, values) per trial.
      pad_first: whether the padding comes before a short trial instead of after it.

    Raises:
      UserError: the arrays do not have these axes, are empty, or do not hold numbers.
    """
    last = _LAST[what]
    if isinstance(given, np.ndarray) and given.dtype != object:
        if given.ndim == 3 and 0 in given.shape:
            empty = ("trials", "bins", last)[given.shape.index(0)]
            raise UserError(
                f"{what} has shape {given.shape}, that is no {empty}; give at least one"
            )
        if given.ndim != 3:
            raise UserError(
                f"{what} has shape {given.shape}; give (trials, bins, {last}), or a list of one "
                f"array (bins, {last}) per trial"
            )
        _check_numeric(what, given)
        return given
    rows = _trials(what, given)
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return np.stack(rows)
    padded = np.full((len(rows), longest, rows[0].shape[1]), np.nan, np.float32)
    for number, row in enumerate(rows):
        first = longest - len(row) if pad_first else 0
        padded[number, first : first + len(row)] = row
    return padded


def _trials(what: str, given: Any) -> list[NDArray]:
    """One array (bins, values) per trial.

    Raises:
      UserError: a trial is something else, is empty, or differs from the first in its last axis.
    """
    last = _LAST[what]
    try:
        rows = [np.asarray(row) for row in given]
    except (TypeError, ValueError):
        raise UserError(
            f"{what} is {reprlib.repr(given)}; give an array (trials, bins, {last}), or a list of "
            f"one array (bins, {last}) per trial"
        ) from None
    if not rows:
        raise UserError(f"{what} contains no trial; give one array (bins, {last}) per trial")
    for number, row in enumerate(rows):
        where = f"{what} of trial {number}"
        _check_numeric(where, row)
        if row.ndim != 2 or 0 in row.shape:
            raise UserError(
                f"{where} has shape {row.shape}; give (bins, {last}), with at least one bin"
            )
        if row.shape[1] != rows[0].shape[1]:
            raise UserError(
                f"{where} has shape {row.shape}, that is {row.shape[1]} {last}, but trial 0 has "
                f"{rows[0].shape[1]}; give the same {last} in every trial"
            )
    return rows


def _check_lengths(what: str, given: Any, spikes: Any) -> None:
    """Compares the bins of every trial with those of its spikes, before padding.

    Raises:
      UserError: a trial has another number of bins.
    """
    if isinstance(given, np.ndarray) and isinstance(spikes, np.ndarray):
        return  # of two arrays the shapes are compared
    for number, (row, counts) in enumerate(zip(given, spikes, strict=False)):
        if len(row) != len(counts) and np.ndim(counts) == 2:
            raise UserError(
                f"{what} of trial {number} has {len(row)} bins, but its spikes have "
                f"{len(counts)}; give a value for each bin of the spikes, NaN where there is none"
            )


def _check_numeric(what: str, x: NDArray) -> None:
    if x.dtype.kind not in "buif":
        raise UserError(f"{what} has type {x.dtype}; give numbers")
