"""Export of inferred rates to NWB, NetCDF (through xarray) and HDF5.

Rates are exported as expected counts per bin, together with the bin width. Windows that cover a
continuous recording are merged first; this needs the times of the trials.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax import __version__, files
from stndt_jax.console.lines import one_line
from stndt_jax.data.arrays import merge
from stndt_jax.data.nwb import version_of
from stndt_jax.data.tables import SOURCE, Columns
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.data.validation import open_hdf5, write_group
from stndt_jax.errors import UserError, install
from stndt_jax.types import Bool, Float, Int, NDArray

MODULE = "stndt_rates"
UNIT = "expected counts per bin"
ENDINGS = (".nwb", ".nc", ".h5")
_SPACE = "check the directory and its free space"
# What HDF5 and pynwb write to an NWB file besides the numbers, bytes.
_NWB_OVERHEAD = 1 << 20


@dataclass(frozen=True)
class Rates:
    """Rates of all trials, or of a continuous recording.

    Attributes:
      rates: expected counts per bin, training trials first; NaN in bins without rates. A
        continuous recording is one trial.
      starts: time of the first bin of every trial, s; None if unknown.
      evaluated: which trials were evaluated; None for a continuous recording.
      units: identifier of every neuron.
      heldout: which neurons were held out.
      bin_ms: bin width, ms.
      provenance: where the rates come from, as text by key.
      trials: what is known of the trials besides, one entry each, such as ``source_trial`` and
        ``condition``; empty for a continuous recording.
      unit_columns: what is known of the neurons besides, one entry each, such as ``area``.
    """

    rates: Float[NDArray, "R T N"]
    starts: Float[NDArray, " R"] | None
    evaluated: Bool[NDArray, " R"] | None
    units: Int[NDArray, " N"]
    heldout: Bool[NDArray, " N"]
    bin_ms: float
    provenance: Mapping[str, str]
    trials: Columns = field(default_factory=dict)
    unit_columns: Mapping[str, NDArray] = field(default_factory=dict)


def collect(
    submission: Mapping[str, NDArray], data: SpikeData, provenance: Mapping[str, str]
) -> Rates:
    """Combines the rates of a submission with times, units and splits of the recording.

    Bins in which nothing was recorded (padding of short trials) become NaN.

    Args:
      submission: rates under the benchmark's keys, as ``evaluate`` writes them.
      data: the recording from which they were inferred.
      provenance: where the rates come from, as text by key.
    """
    splits = {"train": data.train, "eval": data.eval}
    rates = [_split_rates(submission, split, trials, data) for split, trials in splits.items()]
    bins = max(rates_RTN.shape[1] for rates_RTN in rates)
    starts = [trials.starts for trials in splits.values() if trials.starts is not None]
    found = Rates(
        rates=np.concatenate([_extended(rates_RTN, bins) for rates_RTN in rates]),
        starts=np.concatenate(starts) if len(starts) == len(splits) else None,
        evaluated=np.repeat([False, True], [len(rates_RTN) for rates_RTN in rates]),
        units=np.arange(data.neurons) if data.units is None else data.units,
        heldout=np.arange(data.neurons) >= data.heldin,
        bin_ms=data.bin_ms,
        provenance={"software": f"stndt_jax {__version__}", "recording": data.name, **provenance},
        trials=_both(data),
        unit_columns=data.unit_columns,
    )
    return merged(found) if _is_continuous(found) else found


def _both(data: SpikeData) -> dict[str, NDArray]:
    """The tables of training and evaluated trials in one, but for their starts.

    A column that one of them lacks, such as conditions that are withheld, is empty there: an empty
    text, NaN or -1.
    """
    train, evaluated = data.trial_table("train"), data.trial_table("eval")
    empty = {"U": "", "f": np.nan}
    found = {}
    for name in dict.fromkeys([*train, *evaluated]):
        if name != "start_s":
            kind = (train if name in train else evaluated)[name].dtype.kind
            parts = [
                table[name] if name in table else np.full(len(trials), empty.get(kind, -1))
                for table, trials in ((train, data.train), (evaluated, data.eval))
            ]
            found[name] = np.concatenate(parts)
    return found


def merged(rates: Rates) -> Rates:
    """Merges windows of one continuous recording, which must have times, into one trial."""
    assert rates.starts is not None
    first = rates.starts.min()
    starts_R = np.round((rates.starts - first) * 1000.0 / rates.bin_ms).astype(int)
    bins = int(starts_R.max()) + rates.rates.shape[1]
    return dataclasses.replace(
        rates,
        rates=merge(rates.rates, starts_R, bins)[None],
        starts=np.array([first]),
        evaluated=None,
        trials={},
    )


def _split_rates(
    submission: Mapping[str, NDArray], split: str, trials: Trials, data: SpikeData
) -> Float[NDArray, "R T N"]:
    """The rates of one split; without forward bins unless all neurons have them."""
    groups = ("heldin", "heldout")
    has_forward = all(f"{split}_rates_{group}_forward" in submission for group in groups)
    blocks = [
        [submission[f"{split}_rates_{group}{time}"] for group in groups]
        for time in (("", "_forward") if has_forward else ("",))
    ]
    rates_RTN = np.concatenate(
        [np.concatenate(neurons, axis=2) for neurons in blocks], axis=1
    ).astype(np.float64)
    if data.gaps and trials.recorded is not None:
        padding_RT = ~trials.recorded[:, : rates_RTN.shape[1]].any(axis=2)
        rates_RTN[padding_RT] = np.nan
    return rates_RTN


def _extended(x_RTN: Float[NDArray, "R T N"], bins: int) -> NDArray:
    """Adds bins of NaN at the end."""
    return np.pad(x_RTN, ((0, 0), (0, bins - x_RTN.shape[1]), (0, 0)), constant_values=np.nan)


def _is_continuous(rates: Rates) -> bool:
    """Whether the windows lie on one grid of bins and cover the time without a break."""
    if rates.starts is None or len(rates.starts) < 2:
        return False
    steps = np.diff(np.sort(rates.starts)) / (rates.bin_ms / 1000.0)
    on_grid = np.allclose(steps, np.round(steps), atol=1e-3)
    return bool(on_grid and np.all(steps <= rates.rates.shape[1] + 1e-3))


def write(rates: Rates, path: str | Path) -> None:
    """Writes rates in the format of the path's ending: ``.nwb``, ``.nc`` or ``.h5``.

    An existing NWB file gets the rates added; files of the other formats are replaced.

    Raises:
      UserError: another ending, a package is missing, or the file cannot be written.
    """
    path = Path(path)
    writers = {".nwb": _write_nwb, ".nc": _write_netcdf, ".h5": _write_hdf5}
    if path.suffix not in writers:
        raise UserError(
            f"{path} ends in none of {', '.join(ENDINGS)}; choose one of these endings, which "
            "select the format"
        )
    writers[path.suffix](rates, path)


def to_xarray(rates: Rates) -> Any:
    """The rates as an ``xarray.Dataset`` with the dimensions trial, time and unit.

    Times are the centres of the bins within a trial, ms.

    Raises:
      UserError: xarray is missing.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise UserError(f"NetCDF needs xarray ({error}); {install('export')}") from error
    times = (np.arange(rates.rates.shape[1]) + 0.5) * rates.bin_ms
    trials = dict(rates.trials)
    if rates.starts is not None:
        trials["start_s"] = rates.starts
    if rates.evaluated is not None:
        trials["evaluated"] = rates.evaluated
    units = {"unit": rates.units, "held_out": rates.heldout, **rates.unit_columns}
    return xarray.Dataset(
        {"rates": (("trial", "time", "unit"), rates.rates, {"units": UNIT})},
        coords=coordinates(times, trials, units, neuron="unit"),
        attrs={"bin_ms": rates.bin_ms, **rates.provenance},
    )


def coordinates(
    time_ms: Float[NDArray, " T"],
    trials: Columns,
    units: Mapping[str, NDArray],
    *,
    neuron: str,
) -> dict[str, Any]:
    """The coordinates of rates (trial, time, neuron), for ``xarray.Dataset``.

    Args:
      time_ms: centres of the bins within a trial.
      trials: columns by name; ``source_trial`` becomes the coordinate of the trials.
      units: columns by name; ``unit`` becomes the coordinate of the neurons.
      neuron: name of the dimension of the neurons.

    Returns:
      Coordinates by name. A column whose name is taken gets ``trial_`` or ``unit_`` before it, a
      column ``trial`` ``table_``.
    """
    # Not "units", or xarray would read these numbers as durations.
    about = {"unit": "ms", "long_name": "centre of the bin in its trial"}
    found: dict[str, Any] = {"time": ("time", time_ms, about), neuron: (neuron, units["unit"])}
    if SOURCE in trials:
        about = {"long_name": "row of the trial in the recording's own table, from 0"}
        found["trial"] = ("trial", trials[SOURCE], about)
    taken = {*found, "trial", "rates", "counts", "true_rates"}
    for name, column in trials.items():
        if name != SOURCE:
            about = {"unit": "s", "long_name": "time of the first bin in the recording"}
            key = free_name(name, "trial", taken)
            found[key] = ("trial", column, about if name == "start_s" else {})
    for name, column in units.items():
        if name != "unit":
            found[free_name(name, "unit", taken)] = (neuron, column)
    return found


def free_name(name: str, prefix: str, taken: set[str]) -> str:
    """A name that is not taken, if need be with a prefix; it is added to the taken ones."""
    while name in taken:
        name = f"{'table' if name == prefix else prefix}_{name}"
    taken.add(name)
    return name


def _write_netcdf(rates: Rates, path: Path) -> None:
    data = to_xarray(rates)
    # Made in memory: on a full disk, HDF5 ends the process with a segmentation fault.
    image = io.BytesIO()
    try:
        data.to_netcdf(image, engine="h5netcdf")
    except (ImportError, ValueError) as error:
        raise UserError(
            f"NetCDF needs h5netcdf and a current xarray ({error}); {install('export')}"
        ) from error
    files.write_bytes(path, image.getbuffer(), _SPACE)


def _write_hdf5(rates: Rates, path: Path) -> None:
    arrays = {"rates": rates.rates, "unit_ids": rates.units, "heldout": rates.heldout}
    if rates.starts is not None:
        arrays["starts_s"] = rates.starts
    if rates.evaluated is not None:
        arrays["evaluated"] = rates.evaluated
    arrays |= {f"trials_{name}": column for name, column in rates.trials.items()}
    arrays |= {f"units_{name}": column for name, column in rates.unit_columns.items()}
    write_group(path, None, arrays, {"bin_ms": rates.bin_ms, "unit": UNIT, **rates.provenance})


def _write_nwb(rates: Rates, path: Path) -> None:
    """Writes a new NWB file, or adds a processing module to an existing one.

    An existing file is copied first and replaced by the complete copy.
    """
    try:
        import pynwb
    except ModuleNotFoundError as error:
        raise UserError(f"NWB needs pynwb ({error}); {install('export')}") from error
    if rates.starts is None:
        raise UserError(
            f"{path}: an NWB file needs the times of the trials, which the recording does not "
            "contain; write .nc or .h5, or prepare it with their times (s) in the column start_s "
            "of --trial-table, or from an NWB file or a continuous recording"
        )
    if not path.exists():
        image = io.BytesIO()  # as in _write_netcdf
        with h5py.File(image, "w") as empty, pynwb.NWBHDF5IO(file=empty, mode="w") as new:
            file = _new_nwb_file(rates)
            _add_module(file, rates)
            new.write(file)
        files.write_bytes(path, image.getbuffer(), _SPACE)
        return
    _check_extendable(path)
    with files.replacing(path, "check its free space, and that it is NWB") as partial:
        shutil.copy(path, partial)  # with its permissions
        _reserve(partial, 2 * rates.rates.nbytes + _NWB_OVERHEAD)
        with pynwb.NWBHDF5IO(partial, "a") as old:
            file = old.read()
            if MODULE in file.processing:
                raise UserError(
                    f"{path} has rates already, in {MODULE}; write to a fresh copy of the file"
                )
            _add_module(file, rates)
            old.write(file)


def _check_extendable(path: Path) -> None:
    """Refuses an existing file to which pynwb cannot add rates, before anything is written.

    Raises:
      UserError: it is NWB 1, no NWB at all, or of a form that pynwb does not read.
    """
    import pynwb

    advice = "choose the name of a file that does not exist, or .h5 or .nc"
    with open_hdf5(path) as file:
        version = version_of(file)
        if not version.startswith("2"):
            kind = f"NWB {version}, but rates are added to NWB 2" if version else "no NWB file"
            raise UserError(f"{path} is {kind}; {advice}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pynwb.NWBHDF5IO(path, "r") as io:
                io.read()
    # On a file that does not follow its specification, pynwb and hdmf raise whatever their builders
    # and constructors raise; these exceptions have no other common base.
    except Exception as error:  # noqa: BLE001
        reason = one_line(str(error), 200)
        raise UserError(
            f"{path} cannot get rates added, because pynwb cannot read it ({reason}); {advice}"
        ) from None


def _reserve(path: Path, size: int) -> None:
    """Allocates disk space after the end of an HDF5 file, of which HDF5 frees what it did not need.

    Raises:
      OSError: there is not enough.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)


def _add_module(file: Any, rates: Rates) -> None:
    """Adds the rates to an NWB file in memory."""
    provenance = json.dumps(dict(rates.provenance))
    module = file.create_processing_module(MODULE, f"inferred firing rates; {provenance}")
    for item in (_nwb_series(rates, provenance), _nwb_units(rates), _nwb_trials(rates)):
        module.add(item)


def _nwb_series(rates: Rates, provenance: str) -> Any:
    """The rates as one time series: all bins that have rates, in order of time."""
    import pynwb

    assert rates.starts is not None
    _, T, N = rates.rates.shape
    width = rates.bin_ms / 1000.0
    times_S = (rates.starts[:, None] + np.arange(T) * width).ravel()
    order_S = np.argsort(times_S, kind="stable")
    rates_SN = rates.rates.reshape(-1, N)[order_S]
    has_rates_S = np.isfinite(rates_SN).any(axis=1)
    return pynwb.TimeSeries(
        name="rates",
        data=rates_SN[has_rates_S],
        timestamps=times_S[order_S][has_rates_S] + width / 2,
        unit=UNIT,
        description=f"inferred rates; each row is a bin of {rates.bin_ms:g} ms, with the time of "
        "its centre; each column is a row of the table units",
        comments=provenance,
    )


def _nwb_units(rates: Rates) -> Any:
    """The columns of the time series."""
    columns = {
        "unit_id": ("id in the units table of the recording", rates.units),
        "heldout": ("whether the model did not see the neuron's own spikes", rates.heldout),
    }
    return _nwb_table("units", "the columns of rates", columns, rates.unit_columns)


def _nwb_trials(rates: Rates) -> Any:
    """The trials: from when to when, s, whether they were evaluated, and what else is known."""
    assert rates.starts is not None
    R, T, _ = rates.rates.shape
    has_rates_RT = np.isfinite(rates.rates).any(axis=2)
    first_R = np.argmax(has_rates_RT, axis=1)
    last_R = T - np.argmax(has_rates_RT[:, ::-1], axis=1)
    width = rates.bin_ms / 1000.0
    evaluated = np.zeros(R, bool) if rates.evaluated is None else rates.evaluated
    columns = {
        "start_time": ("begin of the first bin with rates, s", rates.starts + first_R * width),
        "stop_time": ("end of the last bin with rates, s", rates.starts + last_R * width),
        "evaluated": ("not trained on", evaluated),
    }
    about = f"trials of rates, in bins of {rates.bin_ms:g} ms"
    return _nwb_table("trials", about, columns, rates.trials)


def _nwb_table(
    name: str, about: str, columns: dict[str, tuple[str, NDArray]], more: Columns
) -> Any:
    """A table of columns with descriptions, and of further ones as the recording keeps them."""
    from hdmf.common import DynamicTable, VectorData

    taken = {*columns, "id"}
    for key, column in more.items():
        about_it = f"{key} of the recording's table of {name}"
        columns[free_name(key, name.removesuffix("s"), taken)] = (about_it, column)
    made = [
        VectorData(name=key, description=about_it, data=column.tolist())
        for key, (about_it, column) in columns.items()
    ]
    return DynamicTable(name=name, description=about, columns=made, colnames=list(columns))


def _new_nwb_file(rates: Rates) -> Any:
    import pynwb

    return pynwb.NWBFile(
        session_description=f"firing rates inferred from {rates.provenance['recording']}",
        identifier=f"{rates.provenance['recording']} rates",
        session_start_time=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    )
