"""Inferred rates in the formats of other tools: NWB, NetCDF through xarray, HDF5.

Rates leave as they are, expected counts per bin, with the width of a bin beside them. Where the
windows of a recording are known in time and overlap, as those of a chopped continuous recording,
they are merged first.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import __version__, files
from stndt_jax.data.arrays import merge
from stndt_jax.data.trials import SpikeData
from stndt_jax.data.validation import write_group
from stndt_jax.errors import UserError
from stndt_jax.types import Bool, Float, Int, NDArray

MODULE = "stndt_rates"
UNIT = "expected counts per bin"
ENDINGS = (".nwb", ".nc", ".h5")


@dataclass(frozen=True)
class Rates:
    """Rates of all trials, or of a whole recording.

    Attributes:
        rates: expected counts per bin (trials, bins, neurons), trials to train on first; of a
            recording that was merged (1, bins, neurons), NaN where it was not inferred.
        starts: time of the first bin of every trial, s; None where unknown.
        evaluated: which of the trials were evaluated; None after merging.
        units: identifier of every neuron.
        heldout: which of the neurons were held out.
        bin_ms: bin width, ms.
        provenance: where the rates come from.
    """

    rates: Float[NDArray, "R T N"]
    starts: Float[NDArray, " R"] | None
    evaluated: Bool[NDArray, " R"] | None
    units: Int[NDArray, " N"]
    heldout: Bool[NDArray, " N"]
    bin_ms: float
    provenance: Mapping[str, str]


def collect(
    submission: Mapping[str, NDArray], data: SpikeData, provenance: Mapping[str, str]
) -> Rates:
    """The rates of a submission, with what the recording knows of them.

    Padding of short trials becomes NaN.

    Args:
        submission: rates under the benchmark's keys, as `evaluate` writes them.
        data: the recording they were inferred from.
        provenance: what to say about their origin, by key.
    """
    blocks = []
    for split, trials in (("train", data.train), ("eval", data.eval)):
        # Forward rates of training trials may be missing, of all neurons or of some.
        forward = [f"{split}_rates_{n}_forward" for n in ("heldin", "heldout")]
        times = ["", "_forward"] if all(key in submission for key in forward) else [""]
        rates_RTN = np.concatenate(
            [
                np.concatenate(
                    [submission[f"{split}_rates_{n}{t}"] for n in ("heldin", "heldout")], -1
                )
                for t in times
            ],
            axis=1,
        ).astype(np.float64)
        if data.gaps and trials.recorded is not None:
            T = rates_RTN.shape[1]
            padded = ~trials.recorded[:, :T].any(axis=2)
            rates_RTN[padded] = np.nan
        blocks.append(rates_RTN)
    bins = max(x.shape[1] for x in blocks)
    whole = [_extended(x, bins) for x in blocks]
    starts = [trials.starts for trials in (data.train, data.eval)]
    found = Rates(
        np.concatenate(whole),
        None if any(s is None for s in starts) else np.concatenate(starts),  # type: ignore[arg-type]
        np.arange(sum(map(len, whole))) >= len(whole[0]),
        np.arange(data.neurons) if data.units is None else data.units,
        np.arange(data.neurons) >= data.heldin,
        data.bin_ms,
        {"software": f"stndt_jax {__version__}", "recording": data.name, **provenance},
    )
    return merged(found) if _overlap(found) else found


def merged(rates: Rates) -> Rates:
    """Windows of one recording as one."""
    assert rates.starts is not None
    first = rates.starts.min()
    starts_R = np.round((rates.starts - first) * 1000.0 / rates.bin_ms).astype(int)
    bins = int(starts_R.max()) + rates.rates.shape[1]
    whole = merge(rates.rates, starts_R, bins)[None]
    return Rates(
        whole, np.array([first]), None, rates.units, rates.heldout, rates.bin_ms, rates.provenance
    )


def write(rates: Rates, path: str | Path) -> None:
    """Writes rates in the format of the path's ending: `.nwb`, `.nc` or `.h5`.

    Raises:
        UserError: another ending, a package is missing, or it cannot be written there.
    """
    path = Path(path)
    writers = {".nwb": _write_nwb, ".nc": _write_netcdf, ".h5": _write_hdf5}
    if path.suffix not in writers:
        raise UserError(f"{path} ends in none of {', '.join(ENDINGS)}, which tell the format")
    writers[path.suffix](rates, path)


def to_xarray(rates: Rates) -> Any:
    """The rates as an `xarray.Dataset` with the dimensions trial, time and unit.

    Raises:
        UserError: xarray is missing.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise UserError(
            f"NetCDF needs xarray ({error}); run: pip install 'stndt_jax[export]'"
        ) from error
    times = (np.arange(rates.rates.shape[1]) + 0.5) * rates.bin_ms
    coordinates: dict[str, Any] = {
        "time": ("time", times, {"units": "ms", "long_name": "centre of the bin in its trial"}),
        "unit": ("unit", rates.units),
        "heldout": ("unit", rates.heldout),
    }
    if rates.starts is not None:
        about = {"units": "s", "long_name": "time of the first bin in the recording"}
        coordinates["start"] = ("trial", rates.starts, about)
    if rates.evaluated is not None:
        coordinates["evaluated"] = ("trial", rates.evaluated)
    return xarray.Dataset(
        {"rates": (("trial", "time", "unit"), rates.rates, {"units": UNIT})},
        coords=coordinates,
        attrs={"bin_ms": rates.bin_ms, **rates.provenance},
    )


def _write_netcdf(rates: Rates, path: Path) -> None:
    data = to_xarray(rates)
    try:
        with files.replacing(path, "check the directory and its free space") as partial:
            data.to_netcdf(partial, engine="h5netcdf")
    except (ImportError, ValueError) as error:
        raise UserError(
            f"NetCDF needs h5netcdf ({error}); run: pip install 'stndt_jax[export]'"
        ) from error


def _write_hdf5(rates: Rates, path: Path) -> None:
    arrays = {"rates": rates.rates, "unit_ids": rates.units, "heldout": rates.heldout}
    if rates.starts is not None:
        arrays["starts_s"] = rates.starts
    if rates.evaluated is not None:
        arrays["evaluated"] = rates.evaluated
    write_group(path, None, arrays, {"bin_ms": rates.bin_ms, "unit": UNIT, **rates.provenance})


def _write_nwb(rates: Rates, path: Path) -> None:
    """Into a processing module: of a file that is there already, or else of a new one."""
    try:
        import pynwb
        from hdmf.common import DynamicTable
    except ModuleNotFoundError as error:
        raise UserError(
            f"NWB needs pynwb ({error}); run: pip install 'stndt_jax[export]'"
        ) from error
    if rates.starts is None:
        raise UserError(
            f"{path}: an NWB file needs the times of the trials, which the recording does not "
            "tell; write .nc or .h5, or prepare it from an NWB file or a continuous recording"
        )
    R, T, N = rates.rates.shape
    width = rates.bin_ms / 1000.0
    starts_RT = rates.starts[:, None] + np.arange(T) * width
    order = np.argsort(starts_RT.ravel(), kind="stable")
    flat = rates.rates.reshape(-1, N)[order]
    known = np.isfinite(flat).any(axis=1)
    provenance = json.dumps(dict(rates.provenance))
    series = pynwb.TimeSeries(
        name="rates",
        data=flat[known],
        timestamps=starts_RT.ravel()[order][known] + width / 2,
        unit=UNIT,
        description=f"inferred rates; a row a bin of {rates.bin_ms:g} ms, timed by its centre; a "
        "column a row of the table units",
        comments=provenance,
    )
    units = DynamicTable(name="units", description="the columns of rates")
    units.add_column("unit_id", "id in the units table of the recording")
    units.add_column("heldout", "whether the neuron's own spikes were kept from the model")
    for unit, heldout in zip(rates.units, rates.heldout, strict=True):
        units.add_row(unit_id=int(unit), heldout=bool(heldout))
    bins = DynamicTable(name="bins", description=f"trials of rates, in bins of {rates.bin_ms:g} ms")
    for column, about in (("start_time", "s"), ("stop_time", "s"), ("evaluated", "not trained on")):
        bins.add_column(column, about)
    evaluated = np.zeros(R, bool) if rates.evaluated is None else rates.evaluated
    for start, flag in zip(rates.starts, evaluated, strict=True):
        stop = float(start) + T * width
        bins.add_row(start_time=float(start), stop_time=stop, evaluated=bool(flag))
    there = path.exists()
    try:
        with pynwb.NWBHDF5IO(path, "a" if there else "w") as io:
            file = io.read() if there else _new_file(pynwb, rates)
            if MODULE in file.processing:
                raise UserError(f"{path} has rates already, in {MODULE}; take a fresh copy")
            module = file.create_processing_module(MODULE, f"inferred firing rates; {provenance}")
            for item in (series, units, bins):
                module.add(item)
            io.write(file)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}; check that it is NWB") from error


def _new_file(pynwb: Any, rates: Rates) -> Any:
    return pynwb.NWBFile(
        session_description=f"firing rates inferred from {rates.provenance['recording']}",
        identifier=f"{rates.provenance['recording']} rates",
        session_start_time=datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    )


def _extended(x_RTN: NDArray, bins: int) -> NDArray:
    return np.pad(x_RTN, ((0, 0), (0, bins - x_RTN.shape[1]), (0, 0)), constant_values=np.nan)


def _overlap(rates: Rates) -> bool:
    """Whether windows lie on one grid of bins and follow one another without a break."""
    if rates.starts is None or len(rates.starts) < 2:
        return False
    width = rates.bin_ms / 1000.0
    steps = np.diff(np.sort(rates.starts)) / width
    on_grid = np.allclose(steps, np.round(steps), atol=1e-3)
    return bool(on_grid and np.all(steps <= rates.rates.shape[1] + 1e-3))
