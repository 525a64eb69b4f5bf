"""Recordings from arrays without trials, numpy files and the HDF5 files of LFADS.

A continuous recording is chopped into overlapping windows, which take the role of trials; rates
of the windows are merged into one array again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import Group, load_numpy, open_hdf5
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


def from_file(
    path: Path,
    *,
    bin_ms: float,
    name: str = "",
    window_ms: float | None = None,
    overlap_ms: float | None = None,
    bins_forward: int | None = None,
    evaluated: float | None = None,
    behavior: str = "",
    conditions: str = "",
    **options: Any,
) -> SpikeData:
    """A recording from a file of spike counts.

    The file is ``.npy`` with counts (trials, bins, neurons), or (bins, neurons) of a continuous
    recording; ``.npz`` with one array (bins, neurons) per trial; or the HDF5 file of LFADS.

    Args:
        path: of the file.
        bin_ms: bin width, ms.
        name: of the recording; by default the file's own.
        window_ms: length of the windows of a continuous recording, ms.
        overlap_ms: what neighbouring windows of it share, ms; by default nothing.
        bins_forward: last bins of a trial to predict; by default none.
        evaluated: fraction of the trials to evaluate; by default a quarter. LFADS has its own.
        behavior: file with behaviour in the form of the spikes.
        conditions: ``.npy`` file with the condition of every trial.
        options: ``heldout`` and ``seed`` of `SpikeData.from_arrays`.

    Raises:
        UserError: a file is missing or malformed, or an option does not apply to this kind of file.
    """
    options |= {"bin_ms": bin_ms, "name": name or path.stem}
    own = {"bins_forward": bins_forward, "evaluated": evaluated}
    options |= {key: value for key, value in own.items() if value is not None}
    if behavior:
        options["behavior"] = load(behavior)
    windows = {"window_ms": window_ms, "overlap_ms": overlap_ms}
    if is_lfads(path):
        _unused(path, "trials in the form of LFADS", conditions=conditions, evaluated=evaluated,
                **windows)  # fmt: skip
        return from_lfads(path, **options)
    found = load(path)
    if isinstance(found, np.ndarray) and found.ndim == 2:
        _unused(path, "a continuous recording", conditions=conditions, bins_forward=bins_forward)
        if not window_ms:
            raise UserError(
                f"{path} holds a continuous recording {found.shape}; give the length of the "
                "windows to chop it into with --window-ms"
            )
        window, overlap = (round((ms or 0.0) / bin_ms) for ms in (window_ms, overlap_ms))
        return from_continuous(found, window=window, overlap=overlap, **options)
    _unused(path, "trials", **windows)
    if conditions:
        options["conditions"] = load(conditions)
    return SpikeData.from_arrays(found, **options)


def _unused(path: Path, kind: str, **options: Any) -> None:
    """Refuses options that were given but do not apply to the kind of file."""
    given = [name for name, value in options.items() if value not in (None, "")]
    if given:
        raise UserError(f"{path} holds {kind}, on which {given[0]} has no effect; leave it out")


def load(path: str | Path) -> NDArray | list[NDArray]:
    """Reads the array of a ``.npy`` file, or one array per trial of an ``.npz`` file.

    Raises:
      UserError: the file is missing, damaged, or of another format.
    """
    found = load_numpy(path)
    return list(found.values()) if isinstance(found, dict) else found


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
