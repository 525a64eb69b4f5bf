"""Recordings from arrays without trials, numpy files and the HDF5 files of LFADS.

A continuous recording is chopped into overlapping windows, which take the role of trials; rates
of the windows are merged into one array again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data import table_files
from stndt_jax.data.numpy_files import load_numpy
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import Group, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray, Shaped

# LFADS' names of the training and the evaluated trials.
LFADS_SPLITS = ("train", "valid")


def window_starts(bins: int, window: int, overlap: int) -> Int[NDArray, " R"]:
    """First bins of the windows that cover a recording.

    Neighbouring windows share ``overlap`` bins; the last one ends with the recording and may share
    more.

    Args:
      bins: bins of the recording.
      window: bins of a window.
      overlap: bins that neighbouring windows share.

    Raises:
      UserError: the window is longer than the recording, or the overlap not shorter than a window.
    """
    if not 0 < window <= bins:
        raise UserError(f"a window of {window} bins does not fit into {bins}; choose 1 to {bins}")
    if not 0 <= overlap < window:
        raise UserError(
            f"an overlap of {overlap} bins does not fit windows of {window} bins; choose 0 to "
            f"{window - 1}"
        )
    starts = np.arange(0, bins - window + 1, window - overlap)
    return starts if starts[-1] + window == bins else np.append(starts, bins - window)


def chop(
    x_SD: Shaped[NDArray, "S D"], window: int, starts_R: Int[NDArray, " R"]
) -> Shaped[NDArray, "R T D"]:
    """The windows of an array over time.

    Args:
      x_SD: values in all bins of the recording.
      window: T, bins of a window.
      starts_R: first bin of every window.
    """
    return np.stack([x_SD[first : first + window] for first in starts_R])


def merge(
    x_RTD: Float[NDArray, "R T D"], starts_R: Int[NDArray, " R"], bins: int
) -> Float[NDArray, "S D"]:
    """Merges windows into one array over time.

    Where windows overlap, a bin is a weighted mean. A window's weight falls linearly towards its
    ends, where a model sees less of a bin's context.

    Args:
      x_RTD: values in the windows; NaN where missing.
      starts_R: first bin of every window.
      bins: S, bins of the recording.

    Returns:
      The values, NaN in bins that no window covers.
    """
    _, T, D = x_RTD.shape
    weight_TD = np.minimum(np.arange(1.0, T + 1), np.arange(T, 0.0, -1))[:, None]
    sums_SD, weights_SD = np.zeros((bins, D)), np.zeros((bins, D))
    for x_TD, first in zip(x_RTD, starts_R, strict=True):
        finite_TD = np.isfinite(x_TD)
        sums_SD[first : first + T] += weight_TD * np.where(finite_TD, x_TD, 0)
        weights_SD[first : first + T] += weight_TD * finite_TD
    return np.where(weights_SD > 0, sums_SD / np.maximum(weights_SD, 1), np.nan)


def from_continuous(
    spikes: NDArray,
    *,
    bin_ms: float,
    window: int,
    overlap: int = 0,
    evaluated: float = 0.25,
    behavior: NDArray | None = None,
    **options: Any,
) -> SpikeData:
    """Makes a recording from continuous arrays, chopped into windows.

    The last part of the recording is evaluated. No window crosses into it, so that no bin is
    both trained on and evaluated.

    Args:
      spikes: spike counts (bins, neurons); NaN where not recorded.
      bin_ms: bin width, ms.
      window: bins of a window.
      overlap: bins that neighbouring windows share.
      evaluated: fraction of the recording, at its end, to evaluate.
      behavior: values (bins, dimensions).
      **options: options of ``SpikeData.from_arrays``.

    Raises:
      UserError: a part of the recording is shorter than a window; or see ``from_arrays``.
    """
    if spikes.ndim != 2:
        raise UserError(
            f"spikes have shape {spikes.shape}; give (bins, neurons) for a continuous recording"
        )
    bins = len(spikes)
    edge = round(bins * (1 - evaluated))
    if not window <= min(edge, bins - edge):
        raise UserError(
            f"the recording's {bins} bins are split into {edge} to train on and {bins - edge} to "
            f"evaluate, and each part must hold a window of {window} bins; choose a shorter window "
            "or another split"
        )
    first = window_starts(edge, window, overlap)
    last = edge + window_starts(bins - edge, window, overlap)
    starts_R = np.concatenate([first, last])
    if behavior is not None:
        if behavior.ndim != 2 or len(behavior) != bins:
            raise UserError(
                f"behavior has shape {behavior.shape}, but the spikes require ({bins}, dimensions)"
            )
        options["behavior"] = chop(behavior, window, starts_R)
    return SpikeData.from_arrays(
        chop(spikes, window, starts_R),
        bin_ms=bin_ms,
        evaluated=len(first) + np.arange(len(last)),
        starts=starts_R * (bin_ms / 1000.0),
        **options,
    )


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is known besides spike counts: files, and names.

    A file may be followed by a colon and the name of an array or column in it.

    Attributes:
        behavior: file with behaviour in the form of the spikes.
        behavior_names: of its dimensions.
        behavior_unit: its unit.
        conditions: file with the condition of every trial.
        trial_table: .csv or .npz with columns about trials.
        unit_table: .csv or .npz with columns about units.
        area: file with the area of every unit.
    """

    behavior: str = ""
    behavior_names: Sequence[str] = ()
    behavior_unit: str = ""
    conditions: str = ""
    trial_table: str = ""
    unit_table: str = ""
    area: str = ""

    def of_units(self, units: int) -> dict[str, NDArray]:
        """The columns about units.

        Raises:
            UserError: a file cannot be read, or there are areas in both.
        """
        columns = table_files.read(self.unit_table) if self.unit_table else {}
        if self.area:
            if "area" in columns:
                raise UserError(
                    f"{self.unit_table} has a column area, and --area={self.area} was given too; "
                    "leave one of the two out"
                )
            columns["area"] = table_files.labels(self.area, units, "area")
        return columns


def from_file(
    path: Path,
    *,
    bin_ms: float,
    name: str = "",
    window_ms: float | None = None,
    overlap_ms: float | None = None,
    bins_forward: int | None = None,
    evaluated: float | str | None = None,
    heldout: float | str | None = None,
    seed: int = 0,
    beside: Beside | None = None,
) -> SpikeData:
    """A recording from a file of spike counts.

    The file is ``.npy`` with counts (trials, bins, neurons), or (bins, neurons) of a continuous
    recording; ``.npz`` with one array (bins, neurons) per trial; or the HDF5 file of LFADS.

    Args:
        path: of the file; behind a colon, the name of an array in an ``.npz`` file.
        bin_ms: bin width, ms.
        name: of the recording; by default the file's own.
        window_ms: length of the windows of a continuous recording, ms.
        overlap_ms: what neighbouring windows of it share, ms; by default nothing.
        bins_forward: last bins of a trial to predict; by default none.
        evaluated: fraction of the trials to evaluate, or which ones, as
            :class:`stndt_jax.data.table_files.Choices` takes them; by default a quarter. LFADS has
            its own.
        heldout: fraction of the units to hold out, or which ones, in the same way; by default those
            that the unit table holds out, else a quarter.
        seed: of the random choices.
        beside: what else is known.

    Raises:
        UserError: a file is missing or malformed, or an option does not apply to this kind of file.
    """
    beside = beside or Beside()
    file, _ = table_files.split(str(path))
    found = None if is_lfads(file) else load(path)
    units = _lfads_units(file) if found is None else _last_size(found)
    columns = beside.of_units(units)
    options: dict[str, Any] = {"bin_ms": bin_ms, "name": name or file.stem, "seed": seed}
    options |= _heldout(heldout, units, columns) | {"unit_table": columns}
    options |= {"behavior_names": beside.behavior_names, "behavior_unit": beside.behavior_unit}
    if beside.behavior:
        options["behavior"] = load(beside.behavior)
    if bins_forward is not None:
        options["bins_forward"] = bins_forward
    windows = {"window_ms": window_ms, "overlap_ms": overlap_ms}
    of_trials = {"conditions": beside.conditions, "trial_table": beside.trial_table}
    if found is None:
        _unused(file, "trials in the form of LFADS", **of_trials, evaluated=evaluated, **windows)
        return from_lfads(file, **options)
    if isinstance(found, np.ndarray) and found.ndim == 2:
        fraction = None if isinstance(evaluated, str) else evaluated
        listed = None if fraction is not None else evaluated
        given = {**of_trials, "bins_forward": bins_forward, "evaluated": listed}
        _unused(file, "a continuous recording", **given)
        if not window_ms:
            raise UserError(
                f"{file} holds a continuous recording {found.shape}; give the length of the "
                "windows to chop it into with --window-ms"
            )
        options |= {} if fraction is None else {"evaluated": fraction}
        window, overlap = (round((ms or 0.0) / bin_ms) for ms in (window_ms, overlap_ms))
        return from_continuous(found, window=window, overlap=overlap, **options)
    _unused(file, "trials", **windows)
    return SpikeData.from_arrays(found, **options, **_of_trials(beside, found, evaluated))


def _of_trials(
    beside: Beside, found: NDArray | list[NDArray], evaluated: float | str | None
) -> dict[str, Any]:
    """What is known of the trials, and which are evaluated; options of ``from_arrays``."""
    trials = len(found) if isinstance(found, list) or found.ndim else 0
    columns = table_files.read(beside.trial_table) if beside.trial_table else {}
    options: dict[str, Any] = {"trial_table": columns}
    if beside.conditions:
        options["conditions"] = table_files.labels(beside.conditions, trials, "condition")
    if isinstance(evaluated, str):
        hint = "give it in --trial-table"
        choices = table_files.Choices("evaluated", "trials", np.arange(trials), columns, hint)
        options["evaluated"] = choices.chosen(evaluated)
    elif evaluated is not None:
        options["evaluated"] = evaluated
    return options


def _heldout(
    heldout: float | str | None, units: int, columns: dict[str, NDArray]
) -> dict[str, Any]:
    """Which units are held out; an option of ``from_arrays``. Removes it from the columns."""
    stated = columns.pop("held_out", None)
    if isinstance(heldout, str):
        ids = columns.get("unit", np.arange(units))
        hint = "give it with --area or in --unit-table"
        return {"heldout": table_files.Choices("heldout", "units", ids, columns, hint)
                .chosen(heldout)}  # fmt: skip
    if heldout is not None:
        return {"heldout": heldout}
    return {} if stated is None else {"heldout": stated.astype(bool)}


def _last_size(found: NDArray | list[NDArray]) -> int:
    """The number of neurons; 0 of what has no such axis, which is refused later."""
    shape = np.shape(found[0] if isinstance(found, list) and found else found)
    return shape[-1] if shape else 0


def _unused(path: Path, kind: str, **options: Any) -> None:
    """Refuses options that were given but do not apply to the kind of file."""
    given = [name for name, value in options.items() if value not in (None, "")]
    if given:
        raise UserError(f"{path} holds {kind}, on which {given[0]} has no effect; leave it out")


def load(path: str | Path) -> NDArray | list[NDArray]:
    """Reads the array of a ``.npy`` file, or one array per trial of an ``.npz`` file.

    Of an ``.npz`` file that holds one array, or behind whose path a colon names one, this array.

    Raises:
      UserError: the file is missing, damaged, or of another format, or holds arrays that are no
        trials.
    """
    file, name = table_files.split(str(path))
    found = load_numpy(file)
    if isinstance(found, np.ndarray):
        return found
    if name and name not in found:
        raise UserError(f"{file} has no array {name}; it holds {_listed(found)}")
    if name or len(found) == 1:
        return found[name or next(iter(found))]
    if found and not _are_trials(found):
        raise UserError(
            f"{file} holds arrays that are no trials: {_listed(found)}; name the one to read, for "
            f"example {file}:{next(iter(found))}"
        )
    return list(found.values())


def _are_trials(found: dict[str, NDArray]) -> bool:
    """Whether arrays are trials: numbered, or with as many values in each bin."""
    stems = {re.sub(r"[0-9]+$", "", name) for name in found}
    numbered = len(stems) == 1 and all(name[-1:].isdecimal() for name in found)
    ends = {x.shape[1:] for x in found.values()}
    return numbered or (len(ends) == 1 and all(x.ndim in (1, 2) for x in found.values()))


def _listed(found: dict[str, NDArray]) -> str:
    shown = [f"{name} {x.shape}" for name, x in list(found.items())[:8]]
    return ", ".join(shown) + (" ..." if len(found) > 8 else "")


def from_lfads(
    path: str | Path, *, bin_ms: float, name: str | None = None, **options: Any
) -> SpikeData:
    """Makes a recording from the HDF5 file that LFADS reads.

    ``train_data`` and ``valid_data`` are counts (trials, bins, neurons). ``train_truth`` and
    ``valid_truth``, divided by ``conversion_factor``, are true rates, expected counts per bin.
    ``train_inds`` and ``valid_inds``, or ``*_idx``, are the positions of the trials in the
    recording; with them, trials come in that order. The validation trials are evaluated.

    Args:
      path: HDF5 file.
      bin_ms: bin width, ms, which the file does not contain.
      name: name of the recording; default the file's own.
      **options: options of ``SpikeData.from_arrays``, except ``evaluated``.

    Raises:
      UserError: a key is missing, or arrays do not fit together.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        group = Group(path, file, None)
        group.require([f"{split}_data" for split in LFADS_SPLITS], "LFADS' files hold both")
        spikes = _lfads_pair(group, "data")
        rates = _lfads_rates(group)
        order = _lfads_order(group, [len(x) for x in spikes])
    return SpikeData.from_arrays(
        np.concatenate(spikes)[order],
        bin_ms=bin_ms,
        name=name or path.stem,
        evaluated=np.flatnonzero(order >= len(spikes[0])),
        rates=None if rates is None else rates[order],
        **options,
    )


def is_lfads(path: str | Path) -> bool:
    """Whether a file is HDF5 with LFADS' keys."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return all(f"{split}_data" in file for split in LFADS_SPLITS)


def _lfads_units(path: Path) -> int:
    """The number of neurons."""
    with open_hdf5(path) as file:
        shape = getattr(file[f"{LFADS_SPLITS[0]}_data"], "shape", ())
        return int(shape[-1]) if shape else 0


def _lfads_pair(group: Group, what: str) -> list[NDArray]:
    """Reads an array of the training and one of the validation trials."""
    train, valid = (group.numbers(f"{split}_{what}") for split in LFADS_SPLITS)
    if train.ndim != 3 or valid.ndim != 3 or train.shape[1:] != valid.shape[1:]:
        raise UserError(
            f"{group.path}: train_{what} has shape {train.shape} and valid_{what} {valid.shape}; "
            "both must be (trials, bins, neurons) with the same bins and neurons"
        )
    return [train, valid]


def _lfads_rates(group: Group) -> Float[NDArray, "R T N"] | None:
    """True rates, expected counts per bin, training trials first; None unless both are there."""
    if not all(f"{split}_truth" in group.keys for split in LFADS_SPLITS):
        return None
    # The factor scales counts to LFADS' truth.
    scale = group.numbers("conversion_factor") if "conversion_factor" in group.keys else 1.0
    return np.concatenate(_lfads_pair(group, "truth")) / scale


def _lfads_order(group: Group, trials: Sequence[int]) -> Int[NDArray, " R"]:
    """Indices of the training, then validation trials, in the order of the recording."""
    keys = [
        next((key for key in (f"{split}_inds", f"{split}_idx") if key in group.keys), None)
        for split in LFADS_SPLITS
    ]
    present = [key for key in keys if key is not None]
    if len(present) < len(keys):
        return np.arange(sum(trials))
    positions = []
    for key, split, number in zip(present, LFADS_SPLITS, trials, strict=True):
        position = np.ravel(group.numbers(key))
        if len(position) != number:
            raise UserError(
                f"{group.where(key)} holds {len(position)} positions, but {split}_data holds "
                f"{number} trials; give one position per trial"
            )
        positions.append(position)
    return np.argsort(np.concatenate(positions).astype(np.int64), kind="stable")
