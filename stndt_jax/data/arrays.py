"""Arrays that are not yet trials: continuous recordings, `.npy` files, LFADS' HDF5.

A continuous recording is chopped into windows that overlap; rates of the windows are merged
into one array again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import Group, load_numpy, open_hdf5
from stndt_jax.errors import UserError
from stndt_jax.types import Float, Int, NDArray, Shaped

# LFADS' words for the two splits, and for what it stores of each.
LFADS_SPLITS = ("train", "valid")


def window_starts(bins: int, window: int, overlap: int) -> Int[NDArray, " R"]:
    """First bins of the windows that cover a recording; the last one ends where it ends.

    Neighbours share `overlap` bins, the last two as many more as it takes.

    Raises:
        UserError: a window longer than the recording, or an overlap no shorter than a window.
    """
    if not 0 < window <= bins:
        raise UserError(f"a window of {window} bins does not fit into {bins}; choose 1 to {bins}")
    if not 0 <= overlap < window:
        raise UserError(f"an overlap of {overlap} bins needs windows longer than {window} bins")
    starts = np.arange(0, bins - window + 1, window - overlap)
    return starts if starts[-1] + window == bins else np.append(starts, bins - window)


def chop(
    x_SD: Shaped[NDArray, "S D"], window: int, starts_R: Int[NDArray, " R"]
) -> Shaped[NDArray, "R T D"]:
    """The windows of an array over time, S bins long."""
    return np.stack([x_SD[first : first + window] for first in starts_R])


def merge(
    x_RTD: Float[NDArray, "R T D"], starts_R: Int[NDArray, " R"], bins: int
) -> Float[NDArray, "S D"]:
    """Windows merged into one array over time.

    Where windows overlap, a bin is a weighted mean; a window's weight falls linearly towards its
    ends, where a model sees less of what surrounds a bin.

    Args:
        x_RTD: values in the windows; NaN where there are none.
        starts_R: first bin of every window.
        bins: S, bins of the whole.

    Returns:
        The values, NaN in bins that no window covers.
    """
    _, T, D = x_RTD.shape
    weight_TD = np.minimum(np.arange(1.0, T + 1), np.arange(T, 0.0, -1))[:, None]
    sums_SD, weights_SD = np.zeros((bins, D)), np.zeros((bins, D))
    for x_TD, first in zip(x_RTD, starts_R, strict=True):
        known_TD = np.isfinite(x_TD)
        sums_SD[first : first + T] += weight_TD * np.where(known_TD, x_TD, 0)
        weights_SD[first : first + T] += weight_TD * known_TD
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
    """A recording without trials, chopped into windows.

    The last part of the recording is evaluated. No window crosses into it, so that no bin is
    both trained on and evaluated.

    Args:
        spikes: spike counts (bins, neurons); NaN where not recorded.
        bin_ms: bin width, ms.
        window: bins of a window.
        overlap: bins that neighbouring windows share.
        evaluated: fraction of the recording, at its end, to evaluate.
        behavior: values (bins, dimensions).
        options: of `SpikeData.from_arrays`.

    Raises:
        UserError: a part of the recording is shorter than a window, or as `from_arrays`.
    """
    if spikes.ndim != 2:
        raise UserError(f"spikes have shape {spikes.shape}; a continuous recording has (bins, N)")
    bins = len(spikes)
    edge = round(bins * (1 - evaluated))
    if not window <= min(edge, bins - edge):
        raise UserError(
            f"the recording's {bins} bins are split into {edge} to train on and {bins - edge} to "
            f"evaluate, which must hold a window of {window} bins each; choose a shorter window "
            "or another split"
        )
    first = window_starts(edge, window, overlap)
    last = edge + window_starts(bins - edge, window, overlap)
    starts_R = np.concatenate([first, last])
    if behavior is not None:
        if behavior.ndim != 2 or len(behavior) != bins:
            raise UserError(f"behavior has shape {behavior.shape}; the spikes demand ({bins}, D)")
        options["behavior"] = chop(behavior, window, starts_R)
    return SpikeData.from_arrays(
        chop(spikes, window, starts_R),
        bin_ms=bin_ms,
        evaluated=len(first) + np.arange(len(last)),
        starts=starts_R * (bin_ms / 1000.0),
        **options,
    )


def load(path: str | Path) -> NDArray | list[NDArray]:
    """Reads an array from a `.npy` file, or one array a trial from an `.npz` file.

    Raises:
        UserError: no such file, or it is none of the two.
    """
    found = load_numpy(path)
    return list(found.values()) if isinstance(found, dict) else found


def from_lfads(
    path: str | Path, *, bin_ms: float, name: str | None = None, **options: Any
) -> SpikeData:
    """A recording from the HDF5 file that LFADS reads.

    `train_data` and `valid_data` are counts (trials, bins, neurons); `train_truth` and
    `valid_truth`, divided by `conversion_factor`, true rates in counts per bin; `train_inds`
    and `valid_inds`, or `*_idx`, the place of each trial in the recording. Trials come in that
    order where the file tells it, and the validation trials are evaluated.

    Args:
        path: HDF5 file.
        bin_ms: bin width, ms, which the file does not tell.
        name: name of the recording; default the file's own.
        options: of `SpikeData.from_arrays`; not `evaluated`.

    Raises:
        UserError: a key is missing, or arrays do not fit together.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        group = Group(path, file, None)
        group.require([f"{split}_data" for split in LFADS_SPLITS], "LFADS' files hold both")
        spikes = {split: group.numbers(f"{split}_data") for split in LFADS_SPLITS}
        truth = {
            split: group.numbers(f"{split}_truth")
            for split in LFADS_SPLITS
            if f"{split}_truth" in group.keys
        }
        places = {split: _place(group, split) for split in LFADS_SPLITS}
        scale = group.numbers("conversion_factor") if "conversion_factor" in group.keys else 1.0
    shapes = {split: x.shape[1:] for split, x in spikes.items()}
    if len(set(shapes.values())) > 1 or any(x.ndim != 3 for x in spikes.values()):
        raise UserError(
            f"{path}: train_data has shape {spikes['train'].shape} and valid_data "
            f"{spikes['valid'].shape}; both must be (trials, bins, neurons), alike but for trials"
        )
    number = len(spikes["train"])
    order = np.arange(number + len(spikes["valid"]))
    told = [places[split] for split in LFADS_SPLITS]
    if all(place is not None for place in told):
        order = np.argsort(_joined(path, spikes, told), kind="stable")
    rates = None
    if len(truth) == 2:
        # The factor brings LFADS' truth to the scale of its counts.
        rates = np.concatenate([truth[split] for split in LFADS_SPLITS])[order] / scale
    return SpikeData.from_arrays(
        np.concatenate([spikes[split] for split in LFADS_SPLITS])[order],
        bin_ms=bin_ms,
        name=name or path.stem,
        evaluated=np.flatnonzero(order >= number),
        rates=rates,
        **options,
    )


def is_lfads(path: str | Path) -> bool:
    """Whether a file is HDF5 with LFADS' keys."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return all(f"{split}_data" in file for split in LFADS_SPLITS)


def _place(group: Group, split: str) -> NDArray | None:
    keys = (f"{split}_inds", f"{split}_idx")
    return next((group.numbers(key) for key in keys if key in group.keys), None)


def _joined(
    path: Path, spikes: Mapping[str, NDArray], told: Sequence[NDArray | None]
) -> Int[NDArray, " R"]:
    rows = [np.ravel(place) for place in told if place is not None]
    for split, row in zip(LFADS_SPLITS, rows, strict=True):
        if len(row) != len(spikes[split]):
            raise UserError(
                f"{path}: {split}_inds holds {len(row)} places, but {split}_data "
                f"{len(spikes[split])} trials; give one place a trial"
            )
    return np.concatenate(rows).astype(np.int64)
