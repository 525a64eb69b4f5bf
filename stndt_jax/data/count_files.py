"""Spike counts from files of arrays: which array they are, and what the file says beside them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.console.lines import counted
from stndt_jax.data import array_files, table_files
from stndt_jax.data.array_files import ArrayFile, Entry
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

# Axes of an array of counts, by name.
AXES = ("trials", "bins", "neurons")
# Names of arrays, in lower case, by what they hold.
SPIKES = ("spikes", "counts", "spike_counts", "binned_spikes", "spikecounts", "spike_count")
BEHAVIOR = ("behavior", "behaviour")
LENGTHS = ("trial_len", "trial_lens", "trial_length", "trial_lengths")
BIN_WIDTHS = (
    *("bin_size", "binsize", "bin_width", "binwidth", "bin", "dt", "bin_ms", "bin_size_ms"),
    *("bin_width_ms", "bin_s", "bin_size_s", "bin_width_s", "binsize_ms", "binsize_s"),
)
# Columns of a table of counts that are no units.
_TRIAL = ("trial", "trial_id", "trial_index", "trial_idx")
_TIME_S, _TIME_MS = ("time", "time_s", "t", "timestamp", "timestamps"), ("time_ms", "t_ms")
_BIN = ("bin", "bin_index", "time_bin", "bin_id")
_UNIT = ("unit", "unit_id", "neuron", "neuron_id", "cluster", "cluster_id", "id", "cell", "units")
_TIME_OF_TRIAL = re.compile(r"(start|stop|end|onset|offset|.*_time)(_m?s)?")

Found = NDArray | list[NDArray]


class Counts(NamedTuple):
    """Spike counts of a file.

    Attributes:
      where: the file and the array, with which messages start.
      spikes: (trials, bins, neurons), (bins, neurons) of a continuous recording, or one array
        (bins, neurons) per trial.
      bin_ms: bin width that the file states, ms; None without.
      behavior: in the form of the spikes; None without.
      units: identifiers of the neurons; None without.
      notes: what was taken of the file, for people.
    """

    where: str
    spikes: Found
    bin_ms: float | None = None
    behavior: Found | None = None
    units: NDArray | None = None
    notes: tuple[str, ...] = ()


def read(named: str | Path, axes: Sequence[str] = ()) -> Counts:
    """Spike counts from a file, or from one array of it: ``FILE:NAME``.

    Of several arrays, the counts are the only array with three axes, the only one with a known name
    such as ``spikes``, or all where each is a trial. A file whose counts are found by their names
    may also state the bin width (``bin_size``), behaviour (``behavior``) and the lengths of trials
    that lie end to end (``trial_len``).

    Args:
      named: the file, or the file and an array.
      axes: the axes of the array, by names of ``AXES``; by default in their order.

    Raises:
      UserError: the file is missing or damaged, or it is not clear which array holds counts.
    """
    path, name = table_files.split(str(named))
    file = array_files.open_file(path)
    if file.path.suffix.lower() in array_files.TABLES and not name:
        return _of_table(file)
    if name or list(file.entries) == [""]:
        spikes = _ordered(_numbers(file, name), axes, file.where(name))
        return Counts(file.where(name), _checked(spikes, file.where(name)))
    chosen = _choose(file)
    if chosen is None:
        rows = [_ordered(_numbers(file, key), axes, file.where(key)) for key in file.entries]
        return Counts(str(path), [row for row in rows if isinstance(row, np.ndarray)])
    where = file.where(chosen)
    spikes = _checked(_ordered(_numbers(file, chosen), axes, where), where)
    return _with_names(file, chosen, spikes, axes)


class Plan(NamedTuple):
    """What :func:`read` would take of a file.

    Attributes:
      is_continuous: whether the counts are not divided into trials.
      bin_ms: bin width that the file states, ms; None without.
      notes: what would be taken, for people.
    """

    is_continuous: bool
    bin_ms: float | None
    notes: tuple[str, ...]


def plan(file: ArrayFile) -> Plan:
    """What :func:`read` would take of a file, from the shapes of its arrays.

    Raises:
      UserError: it is not clear which array holds counts, or none can.
    """
    if file.path.suffix.lower() in array_files.TABLES:
        counts = _of_table(file)
        return Plan(isinstance(counts.spikes, np.ndarray), counts.bin_ms, counts.notes)
    chosen = _choose(file)
    if chosen is None:
        return Plan(False, None, (f"{len(file.entries)} arrays as trials",))
    entry = file.entries[chosen]
    if entry.kind != "numbers" or len(entry.shape) not in (2, 3):
        _checked(_numbers(file, chosen), file.where(chosen))
    widths = [_width(file, name) for name in file.entries if _last(name) in BIN_WIDTHS]
    lengths = any(_last(name) in LENGTHS for name in file.entries)
    notes = [f"{chosen} {entry.text} as spike counts".strip()]
    return Plan(
        entry.kind == "numbers" and len(entry.shape) == 2 and not lengths,
        next((width for width in widths if width), None),
        tuple(notes),
    )


def load_behavior(named: str | Path) -> Found:
    """The array of behaviour of a file, or one array per trial.

    Of several arrays it is the one behind the colon, the one named ``behavior``, or all where each
    is a trial.

    Raises:
      UserError: as :func:`read`.
    """
    path, name = table_files.split(str(named))
    file = array_files.open_file(path)
    if name or list(file.entries) == [""]:
        return _numbers(file, name)
    chosen = _choose(file, BEHAVIOR)
    if chosen is not None:
        return _numbers(file, chosen)
    return [_numbers(file, key) for key in file.entries]


def parsed_axes(words: str) -> tuple[str, ...]:
    """The axes that a user names: ``neurons,bins,trials``.

    Raises:
      UserError: they are no axes, or one is missing.
    """
    if not words:
        return ()
    axes = tuple(word.strip() for word in words.split(","))
    wanted = set(AXES[3 - len(axes) :]) if len(axes) in (2, 3) else set()
    if set(axes) != wanted:
        raise UserError(
            f"--axes={words} names no axes of counts; give {','.join(AXES)} or "
            f"{','.join(AXES[1:])} in the order of the array"
        )
    return axes


def _checked(spikes: Found, where: str) -> Found:
    """Refuses what cannot be counts by its form.

    Raises:
      UserError: it is a list of times, or has another number of axes.
    """
    if isinstance(spikes, list) or spikes.ndim in (2, 3):
        if isinstance(spikes, np.ndarray) and 1 in spikes.shape and spikes.ndim == 2:
            raise UserError(
                f"{where} has shape {spikes.shape}, a single row or column, which is no recording; "
                f"give counts (bins, neurons); spike times go into: stndt prepare spikes"
            )
        if isinstance(spikes, list) and all(row.ndim == 1 or 1 in row.shape for row in spikes):
            raise UserError(
                f"{where} holds {len(spikes)} lists of numbers, not counts (bins, neurons); if "
                f"they are spike times of units, run: stndt prepare spikes "
                f"--spikes={shlex.quote(where)}"
            )
        return spikes
    hint = "; spike times go into: stndt prepare spikes" if spikes.ndim == 1 else ""
    raise UserError(
        f"{where} has shape {spikes.shape}; give counts (trials, bins, neurons), or (bins, "
        f"neurons) of a continuous recording{hint}"
    )


def _numbers(file: ArrayFile, name: str) -> Any:
    """An array of numbers of a file, or its lists."""
    found = file.read(name)
    lists = array_files.as_lists(found)
    if lists is not None:
        return lists
    x = np.asarray(found)
    if x.dtype.kind not in "buif":
        kinds = {"U": "texts", "S": "texts", "O": "lists or structures"}
        kind = kinds.get(x.dtype.kind, f"type {x.dtype}")
        raise UserError(f"{file.where(name)} holds {kind}; give numbers: spike counts per bin")
    return x


def _ordered(found: Any, axes: Sequence[str], where: str) -> Any:
    """Arrays with the axes in their order."""
    if not axes:
        return found
    if isinstance(found, list):
        return [_ordered(x, [a for a in axes if a != "trials"], where) for x in found]
    if found.ndim != len(axes):
        raise UserError(f"{where} has shape {found.shape}, but --axes names {', '.join(axes)}")
    return np.transpose(found, [axes.index(axis) for axis in AXES if axis in axes])


def _choose(file: ArrayFile, names: Sequence[str] = SPIKES) -> str | None:
    """The name of the array that is meant; None where every array is a trial.

    Args:
      file: the file.
      names: names that such an array has; those of counts also find the only one with three axes.

    Raises:
      UserError: it is not clear.
    """
    entries = {name: entry for name, entry in file.entries.items() if entry.kind != "texts"}
    shaped = {
        name: entry
        for name, entry in entries.items()
        if entry.kind == "lists" or (entry.kind == "numbers" and len(entry.shape) in (2, 3))
    }
    known = [name for name in shaped if _last(name) in names]
    three = [name for name, entry in shaped.items() if len(entry.shape) == 3]
    if len(entries) == 1:
        return next(iter(entries))
    if len(known) == 1:
        return known[0]
    if _are_trials(entries):
        return None
    if len(three) == 1 and names is SPIKES:
        return three[0]
    if not entries:
        raise UserError(f"{file.path} holds no array of numbers; give a file of spike counts")
    first = next(iter(known or three or shaped or entries))
    raise UserError(
        f"{file.path} holds arrays that are no trials: {file.listed()}; name the one to read, for "
        f"example {file.path}:{first}"
    )


def _last(name: str) -> str:
    """The last part of a name, in lower case: of a group of HDF5, or a field of a structure."""
    return re.split(r"[./]", name)[-1].lower()


def _are_trials(entries: Mapping[str, Entry]) -> bool:
    """Whether arrays are trials: numbered, or with as many values in each bin."""
    stems = {re.sub(r"[0-9]+$", "", name) for name in entries}
    numbered = len(stems) == 1 and all(name[-1:].isdecimal() for name in entries)
    ends = {entry.shape[1:] for entry in entries.values()}
    plain = all(entry.kind == "numbers" for entry in entries.values())
    two = all(len(entry.shape) in (1, 2) for entry in entries.values())
    return plain and (numbered or (len(ends) == 1 and two))


def _with_names(file: ArrayFile, chosen: str, spikes: Found, axes: Sequence[str]) -> Counts:
    """Counts with what arrays of known names say of them."""
    notes = [f"{chosen} {file.entries[chosen].text} as spike counts"]
    used = {chosen}
    bin_ms = behavior = None
    for name in file.entries:
        last = _last(name)
        if last in BIN_WIDTHS and bin_ms is None and (width := _width(file, name)) is not None:
            bin_ms = width
            notes.append(f"{name} as the bin width, {width:g} ms")
            used.add(name)
        elif last in LENGTHS and isinstance(spikes, np.ndarray) and spikes.ndim == 2:
            spikes = split_trials(spikes, _numbers(file, name), file.where(name))
            notes.append(f"{name} as the bins of each of {len(spikes)} trials")
            used.add(name)
    for name in file.entries:
        if _last(name) in BEHAVIOR and behavior is None:
            behavior = _numbers(file, name)
            notes.append(f"{name} {file.entries[name].text} as behaviour")
            used.add(name)
    if rest := [name for name in file.entries if name not in used]:
        shown = ", ".join(rest[:6]) + (" ..." if len(rest) > 6 else "")
        notes.append(f"not used: {shown}")
    return Counts(file.where(chosen), spikes, bin_ms, behavior, notes=tuple(notes))


def _width(file: ArrayFile, name: str) -> float | None:
    """A bin width, ms, from an array of one number, which is in s if it is below 1."""
    entry = file.entries[name]
    if entry.kind != "numbers" or any(size != 1 for size in entry.shape):
        return None
    value = float(np.ravel(np.asarray(file.read(name), np.float64))[0])
    last = _last(name)
    if not np.isfinite(value) or value <= 0:
        return None
    if last.endswith("ms"):
        return value
    return value * 1000 if last.endswith("_s") or value < 1 else value


def split_trials(found: NDArray, lengths: Any, where: str) -> list[NDArray]:
    """Trials that lie end to end, as one array each.

    Args:
      found: (bins, values) of all trials.
      lengths: bins of every trial.
      where: what states them, with which messages start.

    Raises:
      UserError: they do not add up to the bins.
    """
    bins = np.ravel(np.asarray(lengths))
    whole = bins.dtype.kind in "biuf" and bins.size and np.all((bins >= 1) & (bins == bins // 1))
    if not whole or int(bins.sum()) != len(found):
        total = f"add up to {bins.sum():g}" if bins.dtype.kind in "biuf" else "are no numbers"
        raise UserError(
            f"{where}: the bins of {bins.size} trials {total}, but there are {len(found)} bins; "
            f"name the array of counts alone if they mean something else"
        )
    return np.split(found, np.cumsum(bins.astype(int))[:-1])


def _of_table(file: ArrayFile) -> Counts:
    """Counts from a table with one column a unit, and perhaps a trial and a time.

    Raises:
      UserError: it holds spike times, or no counts.
    """
    names = {name.strip().lower(): name for name in file.entries}
    columns = {name: file.read(name) for name in file.entries}
    trial, unit = (_first(names, known) for known in (_TRIAL, _UNIT))
    time = _first(names, (*_TIME_S, *_TIME_MS))
    index = _first(names, _BIN)
    if unit is not None and time is not None:
        raise UserError(
            f"{file.path} holds spike times (columns {unit} and {time}), not counts; run: stndt "
            f"prepare spikes --spikes={shlex.quote(str(file.path))}"
        )
    units = [name for name in columns if name not in (trial, time, index)]
    if texts := [name for name in units if columns[name].dtype.kind not in "buif"]:
        raise UserError(
            f"{file.path}: column {texts[0]} holds texts; give counts, one column for each neuron, "
            f"and perhaps columns trial and time"
        )
    if not units:
        raise UserError(f"{file.path} has no column of counts; give one for each neuron")
    for name in units:
        _refuse_times(file, name, columns[name])
    spikes: Found = np.column_stack([columns[name] for name in units])
    if len(spikes) < 2:
        raise UserError(
            f"{file.path} holds {counted(len(spikes), 'bin')} of {len(units)} neurons, which is no "
            f"recording; write one row for each bin and one column for each neuron"
        )
    bin_ms = None
    notes = [f"columns {_shown(units)} as spike counts of {len(units)} neurons"]
    if time is not None:
        scale = 1.0 if time.strip().lower() in _TIME_MS else 1000.0
        bin_ms = _step(columns[time], None if trial is None else columns[trial], scale)
        notes.append(f"column {time}" + (f" as bins of {bin_ms:g} ms" if bin_ms else " left out"))
    if trial is not None:
        first = np.flatnonzero(columns[trial][1:] != columns[trial][:-1]) + 1
        if len(first) + 1 != len(np.unique(columns[trial])):
            raise UserError(
                f"{file.path}: the rows of a trial are not together in column {trial}; sort them"
            )
        spikes = np.split(spikes, first)
        notes.append(f"column {trial} as {len(spikes)} trials")
    ids = np.array([re.sub(r"\D", "", name) or "-1" for name in units])
    numbered = len(set(ids)) == len(ids) and all(re.fullmatch(r"\D*\d{1,5}", u) for u in units)
    known = ids.astype(int) if numbered and max(map(int, ids)) < 65535 else None
    return Counts(str(file.path), spikes, bin_ms, units=known, notes=tuple(notes))


def _refuse_times(file: ArrayFile, name: str, x: NDArray) -> None:
    """Refuses a column that holds times of trials or other numbers that are no counts.

    Raises:
      UserError: it is named as a time, or has entries that are neither whole numbers nor NaN.
    """
    given = x[np.isfinite(x)]
    odd = given[(given < 0) | (given != np.floor(given))]
    if not odd.size and not _TIME_OF_TRIAL.fullmatch(name.strip().lower()):
        return
    reason = f"holds {odd[0]:g}" if odd.size else "is named as a time"
    raise UserError(
        f"{file.path}: column {name} {reason}, which is no spike count; give whole numbers, one "
        f"column for each neuron; a table of trials goes into: stndt prepare spikes "
        f"--events={shlex.quote(str(file.path))}"
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _first(names: Mapping[str, str], known: Sequence[str]) -> str | None:
    return next((names[name] for name in known if name in names), None)


def _step(times: NDArray, trials: NDArray | None, scale: float) -> float | None:
    """The bin width, ms, by a column of times; None where bins are not equally wide."""
    if times.dtype.kind not in "uif" or len(times) < 2:
        return None
    steps = np.diff(times.astype(np.float64)) * scale
    if trials is not None:
        steps = steps[trials[1:] == trials[:-1]]
    if not steps.size or not np.allclose(steps, np.median(steps), rtol=1e-3, atol=1e-6):
        return None
    width = float(f"{np.median(steps):.6g}")
    return width if width > 0 else None
