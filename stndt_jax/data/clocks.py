"""Timestamps that are not in order: what of them can be used, and what is said of the rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.types import Float, Int, NDArray

# Timestamps that are earlier than the one before by more periods than this were not swapped.
SWAPPED_PERIODS = 3


class Clock(NamedTuple):
    """Timestamps in order.

    Attributes:
      times: the timestamps that are kept, s, each later than the one before.
      kept: their indices among all timestamps, in the order of their times.
      note: what was left out or sorted, and why; empty if nothing was.
    """

    times: Float[NDArray, " k"]
    kept: Int[NDArray, " k"]
    note: str


def in_order(times_S: Float[NDArray, " S"]) -> Clock:
    """Chooses timestamps that increase.

    NaN and repeated timestamps are left out, and single ones that are too late or too early for
    their neighbours. Those that are early by three sampling periods or less are sorted. Where the
    clock is set back, the times before and after contradict each other: the longest stretch
    between two such moments is kept.

    Args:
      times_S: timestamps, s, in the order of the samples.
    """
    notes = []
    kept = np.flatnonzero(np.isfinite(times_S))
    if left_out := len(times_S) - len(kept):
        notes.append(f"{counted(left_out, 'timestamp')} that {_are(left_out)} NaN or infinite")
    if not kept.size:
        return Clock(times_S[kept], kept, f"left out {notes[0]}" if notes else "")
    kept, swapped = _sorted(times_S, kept)
    kept, strays = _without_strays(times_S, kept)
    if strays:
        notes.append(f"{counted(strays, 'timestamp')} out of order between neighbours in order")
    repeated = np.append(False, np.diff(times_S[kept]) == 0)
    if left_out := int(repeated.sum()):
        notes.append(f"{counted(left_out, 'timestamp')} that {_repeat(left_out)} the one before")
        kept = kept[~repeated]
    back = np.flatnonzero(np.diff(times_S[kept]) < 0) + 1
    if back.size:
        first, last = times_S[kept[back[0] - 1]], times_S[kept[back[0]]]
        bounds = np.concatenate([[0], back, [len(kept)]])
        longest = int(np.argmax(np.diff(bounds)))
        left_out = len(kept) - int(np.diff(bounds)[longest])
        kept = kept[bounds[longest] : bounds[longest + 1]]
        more = f", the first of {back.size} times" if back.size > 1 else ""
        notes.append(
            f"{counted(left_out, 'sample')} because the clock is set back from {first:g} to "
            f"{last:g} s{more}; kept are those from {times_S[kept[0]]:g} to "
            f"{times_S[kept[-1]]:g} s"
        )
    said = [f"left out {' and '.join(notes)}"] if notes else []
    said += [f"sorted {counted(swapped, 'timestamp')} a little out of order"] if swapped else []
    return Clock(times_S[kept], kept, " and ".join(said))


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _repeat(number: int) -> str:
    return "repeats" if number == 1 else "repeat"


def _sorted(
    times_S: Float[NDArray, " S"], kept: Int[NDArray, " k"]
) -> tuple[Int[NDArray, " k"], int]:
    """Sorts timestamps that are out of order by a few sampling periods; counts them."""
    steps = np.diff(times_S[kept])
    if not np.any(steps < 0) or -steps.min() > SWAPPED_PERIODS * np.median(np.abs(steps)):
        return kept, 0
    order = np.argsort(times_S[kept], kind="stable")
    return kept[order], int(np.sum(order != np.arange(len(order))))


def _without_strays(
    times_S: Float[NDArray, " S"], kept: Int[NDArray, " k"]
) -> tuple[Int[NDArray, " j"], int]:
    """Leaves out single timestamps without which their neighbours are in order; counts them."""
    t = times_S[kept]
    if len(t) < 3 or not np.any(np.diff(t) < 0):
        return kept, 0
    before, middle, after = t[:-2], t[1:-1], t[2:]
    stray = np.zeros(len(t), bool)
    stray[1:-1] = (after > before) & ((middle < before) | (middle > after))
    stray[0] = t[0] > t[1] and t[1] < t[2]
    stray[-1] = t[-1] < t[-2] and t[-2] > t[-3]
    # Two neighbours that both look stray are a clock that was set back.
    alone = stray & ~np.append(False, stray[:-1]) & ~np.append(stray[1:], False)
    return kept[~alone], int(alone.sum())
