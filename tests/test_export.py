"""Rates in other formats, read back by the formats' own readers."""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import Any

import h5py
import numpy as np
import pytest

from stndt_jax.data import arrays, export
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError


def submission(data: SpikeData, rates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rates of either split (R, T, N) under the benchmark's keys."""
    found: dict[str, np.ndarray] = {}
    T, N = data.bins_observed, data.heldin
    for split, x in rates.items():
        found |= {f"{split}_rates_heldin": x[:, :T, :N], f"{split}_rates_heldout": x[:, :T, N:]}
        if data.bins_forward:
            found[f"{split}_rates_heldin_forward"] = x[:, T:, :N]
            found[f"{split}_rates_heldout_forward"] = x[:, T:, N:]
    return found


def trials(starts: Any = (0.5, 2.5, 4.5, 6.5), forward: int = 2) -> tuple[Any, SpikeData]:
    """Rates by trial, of a recording of four trials, the second short."""
    rng = np.random.default_rng(0)
    rows = [rng.poisson(1.0, (4 if r == 1 else 6, 5)) for r in range(4)]
    data = SpikeData.from_arrays(
        rows, bin_ms=10, evaluated=[2], heldout=[1], bins_forward=forward, starts=starts,
        units=[20, 21, 22, 23, 24], name="day1", conditions=["left", "", "größer", "left"],
        trial_table={"reward": [0.5, 1.5, 2.5, 3.5], "time": [9, 8, 7, 6], "id": [3, 2, 1, 0],
                     "start_time": [1.0, 2.0, 3.0, 4.0]},
        unit_table={"area": ["V1", "V2", "V1", "", "V4"], "reward": np.arange(5)},
    )  # fmt: skip
    return {"train": rng.random((3, 6, 5)), "eval": rng.random((1, 6, 5))}, data


def collected(**options: Any) -> tuple[Any, export.Rates]:
    rates, data = trials(**options)
    return rates, export.collect(submission(data, rates), data, {"submission": "s.h5"})


def test_rates_keep_their_trial_bin_and_neuron():
    rates, found = collected()
    np.testing.assert_array_equal(found.units, [20, 22, 23, 24, 21])
    np.testing.assert_array_equal(found.heldout, [False] * 4 + [True])
    np.testing.assert_array_equal(found.evaluated, [False] * 3 + [True])
    np.testing.assert_allclose(found.starts, [0.5, 2.48, 6.5, 4.5])  # two bins of padding first
    np.testing.assert_array_equal(found.rates[[0, 2]], rates["train"][[0, 2]])
    assert np.isnan(found.rates[1, :2]).all()  # padding, before the trial
    np.testing.assert_array_equal(found.rates[1, 2:], rates["train"][1, 2:])


def test_conditions_that_are_withheld_are_empty():
    rates, data = trials()
    for labels, wanted in ((data.train.conditions, ["left", "", "left", ""]), (None, None)):
        train = dataclasses.replace(data.train, conditions=labels)
        held_back = dataclasses.replace(data.eval, conditions=None)
        less = dataclasses.replace(data, train=train, eval=held_back)
        found = export.collect(submission(data, rates), less, {}).trials
        assert (list(found["condition"]) == wanted) if wanted else "condition" not in found
    numbered = dataclasses.replace(less, train=data.train, condition_names=())
    found = export.collect(submission(data, rates), numbered, {}).trials
    assert list(found["condition"]) == [1, -1, 1, -1]


def test_hdf5(tmp_path):
    _, found = collected()
    export.write(found, tmp_path / "r.h5")
    with h5py.File(tmp_path / "r.h5") as file:
        np.testing.assert_array_equal(file["rates"][()], found.rates)
        np.testing.assert_array_equal(file["unit_ids"][()], found.units)
        assert file.attrs["unit"] == "expected counts per bin" and file.attrs["bin_ms"] == 10
        assert file.attrs["recording"] == "day1"
        np.testing.assert_array_equal(file["trials_source_trial"], [0, 1, 3, 2])
        assert list(file["trials_condition"].asstr()) == ["left", "", "left", "größer"]
        assert list(file["units_area"].asstr()) == ["V1", "V1", "", "V4", "V2"]


def test_netcdf(tmp_path):
    xarray = pytest.importorskip("xarray", reason="needs the extra export: xarray")
    pytest.importorskip("h5netcdf", reason="needs the extra export: h5netcdf")
    _, found = collected()
    export.write(found, tmp_path / "r.nc")
    with xarray.open_dataset(tmp_path / "r.nc", engine="h5netcdf") as data:
        assert data.rates.dims == ("trial", "time", "unit")
        one = data.rates.sel(unit=23, time=15.0).isel(trial=0)
        assert float(one) == found.rates[0, 1, 2]
        np.testing.assert_array_equal(data.start_s, found.starts)
        assert data.attrs["submission"] == "s.h5"
        assert list(data.trial.values) == [0, 1, 3, 2] and list(data.time.values)[:2] == [5, 15]
        assert data.sel(trial=2).condition == "größer" and data.sel(trial=1).condition == ""
        assert data.sel(trial=3).reward == 3.5 and data.sel(trial=3).trial_time == 6
        one = data.sel(unit=21)
        assert one.area == "V2" and bool(one.held_out) and one.unit_reward == 1
        np.testing.assert_array_equal(data.evaluated, found.evaluated)


@pytest.mark.parametrize("there", [False, True])
def test_nwb(tmp_path, there):
    pynwb = pytest.importorskip("pynwb", reason="needs the extra export: pynwb")
    nwb_files = importlib.import_module("helpers.nwb_files")
    path = tmp_path / "r.nwb"
    if there:
        nwb_files.custom(path)
    _, found = collected()
    export.write(found, path)
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        module = file.processing["stndt_rates"]
        series, units, table = (module[name] for name in ("rates", "units", "trials"))
        assert series.unit == "expected counts per bin"
        times = series.timestamps[()]
        assert np.all(np.diff(times) > 0) and len(times) == 4 * 6 - 2
        at = np.argmin(abs(times - 6.515))  # second bin of the last trial, its centre
        np.testing.assert_array_equal(series.data[at], found.rates[2, 1])
        assert times[at] == pytest.approx(6.515)
        np.testing.assert_array_equal(units["unit_id"][()], found.units)
        assert list(units["area"][()]) == ["V1", "V1", "", "V4", "V2"]
        np.testing.assert_array_equal(table["evaluated"][()], found.evaluated)
        np.testing.assert_array_equal(table["source_trial"][()], [0, 1, 3, 2])
        np.testing.assert_allclose(table["start_time"][()], [0.5, 2.5, 6.5, 4.5])
        np.testing.assert_allclose(table["stop_time"][()], [0.56, 2.54, 6.56, 4.56])
        np.testing.assert_array_equal(table["trial_start_time"][()], [1, 2, 4, 3])
        np.testing.assert_array_equal(table["trial_id"][()], [3, 2, 0, 1])
        assert list(table["condition"][()]) == ["left", "", "left", "größer"]
        assert json.loads(series.comments)["recording"] == "day1"
        assert (file.units is not None) == there
    assert not pynwb.validate(path=str(path))
    with pytest.raises(UserError, match="has rates already"):
        export.write(found, path)


def test_nwb_needs_times(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra export: pynwb")
    _, found = collected(starts=None)
    with pytest.raises(UserError, match="needs the times of the trials"):
        export.write(found, tmp_path / "r.nwb")


def test_the_format_is_told_by_the_ending(tmp_path):
    _, found = collected()
    with pytest.raises(UserError, match=r"r.mat ends in none of .nwb, .nc, .h5"):
        export.write(found, tmp_path / "r.mat")


def test_windows_of_a_continuous_recording_are_merged():
    """Rates that a window cannot change: what stands in a bin stands in the merged one."""
    x = np.random.default_rng(0).poisson(1.0, (53, 4))
    data = arrays.from_continuous(x, bin_ms=10, window=10, overlap=4, heldout=[0])
    blocks = [t.counts(0, 1) + 0.5 for t in (data.train, data.eval)]
    rates = submission(data, dict(zip(("train", "eval"), blocks, strict=True)))
    found = export.collect(rates, data, {})
    assert found.rates.shape == (1, 53, 4) and found.evaluated is None and not found.trials
    np.testing.assert_allclose(found.rates[0], x[:, data.units] + 0.5)
