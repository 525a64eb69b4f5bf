"""Times that are not in seconds: how they are given, and how they are noticed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stndt_jax.errors import UserError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0}
_RATES = (30000.0, 48000.0, 44100.0, 40000.0, 32000.0, 25000.0, 24414.0625, 20000.0, 10000.0)
# Median rates of units, spikes/s, beyond which times are not in s.
SLOWEST, FASTEST = 0.2, 500.0
# Spikes over more times the span of all trials than this are looked at.
LONGER = 100.0
FORMS = "s, ms, us, samples:RATE or the length of a unit of time in s"


def seconds(flag: str, given: str) -> float | None:
    """The length of a unit of time, s; None if none is given.

    Args:
      flag: name of the flag, for messages.
      given: ``s``, ``ms``, ``us``, ``samples:30000``, or a number of seconds.

    Raises:
      UserError: it is something else.
    """
    if not given:
        return None
    word, _, rate = given.partition(":")
    try:
        if word == "samples":
            found = 1 / float(rate)
        else:
            found = _SECONDS[given] if given in _SECONDS else float(given)
    except (ValueError, ZeroDivisionError):
        found = np.nan
    if not 0 < found < np.inf:
        raise UserError(f"--{flag} is {given!r}; give {FORMS}")
    return found


def suspected(
    rates_hz: Sequence[float],
    spikes: tuple[float, float],
    windows: tuple[float, float],
    *,
    whole: bool = False,
    sampling_rate: float | None = None,
) -> str:
    """The unit that spike times probably have if it is not the second; empty if it may well be.

    Spike times in s last about as long as the trials and have plausible rates. Times in ms last a
    thousand times as long, with rates a thousand times as low.

    Args:
      rates_hz: rates of the units, as if times were in s.
      spikes: first and last spike.
      windows: begin of the first and end of the last trial, s.
      whole: whether all spike times are whole numbers.
      sampling_rate: of the recording, samples/s, if the file states it.

    Returns:
      As ``seconds`` takes it.
    """
    known = [rate for rate in rates_hz if rate > 0]
    first, last = spikes
    span = windows[1] - windows[0]
    if not known or not last - first > LONGER * span or np.median(known) >= SLOWEST:
        return ""
    stated = [f"samples:{sampling_rate:g}"] if sampling_rate else []
    usual = ["us", *(f"samples:{rate:g}" for rate in _RATES)] if whole else ["us"]
    for unit in [*stated, *usual, "ms"]:
        length = seconds("spike-time-unit", unit)
        assert length is not None
        covered = min(last * length, windows[1]) - max(first * length, windows[0])
        if covered > 0.9 * span and SLOWEST <= np.median(known) / length <= FASTEST:
            return unit
    return ""


def fitting(times: tuple[float, float], others: tuple[float, float]) -> str:
    """The unit in which times would overlap with others, in s; empty if in none of a few.

    Args:
      times: the first and the last one.
      others: the first and the last one.
    """
    for unit in ("ms", "us", "samples:30000"):
        length = seconds("unit", unit)
        assert length is not None
        low, high = times[0] * length, times[1] * length
        if low < others[1] and high > others[0] and high - low > 0.01 * (others[1] - others[0]):
            return unit
    return ""
