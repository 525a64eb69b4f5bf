"""NWB files as people have them: each is read with the right counts, or refused in one sentence.

Each kind of oddity in several variations, the right value by a loop over spikes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import odd_nwb
from helpers.odd_nwb import TRIALS, UNITS, VELOCITY, at_rate, observed, replace

from stndt_jax.cli import main
from stndt_jax.data import (
    clocks,
    drift,
    export,
    hdf5,
    labels,
    nwb_trials,
    nwb_units,
    summary,
    time_units,
)
from stndt_jax.data.nwb_population import Taken
from stndt_jax.data.nwb_tables import intervals_of
from stndt_jax.data.spike_trials import Cut
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import submission

WIDTH, BINS, BEFORE = 0.02, 25, 0.1
CUT = {"align": "go", "window_ms": (-100.0, 400.0), "bin_ms": 20.0}
OF_CUT = {"behavior", "until", "max_bins", "drifting", "spike_time_unit", "trial_time_unit",
          "align"}  # fmt: skip
OF_TAKEN = {"tables", "units", "skipped", "ids", "intervals"}


def prepare(path: Path, **options):
    """The recording, and the warnings on the way, each a sentence."""
    cut = Cut(**{**CUT, **{key: x for key, x in options.items() if key in OF_CUT}})
    taken = Taken(**{key: x for key, x in options.items() if key in OF_TAKEN})
    rest = {key: x for key, x in options.items() if key not in OF_CUT | OF_TAKEN}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = nwb_trials.prepare(path, cut, taken=taken, **{"seed": 3, **rest})
    said = [str(w.message) for w in caught]
    assert all("\n" not in sentence and str(path) in sentence for sentence in said), said
    return data, " | ".join(said)


def assert_counts(data, truth, tolerance: float = 0.0):
    """Every trial and unit is there, with the counts of the loop."""
    seen = []
    order = [truth.units.index(int(unit)) for unit in data.units]
    assert sorted(order) == list(range(len(truth.units)))
    for trials in (data.train, data.eval):
        x = trials.counts(0, data.heldout).astype(float)
        x[~trials.has_count(0, data.heldout)] = np.nan
        for i, trial in enumerate(trials.columns["source_trial"]):
            want = truth.counts(int(trial), WIDTH, BINS, BEFORE)[:, order]
            np.testing.assert_array_equal(x[i, :BINS], want)
            seen.append(int(trial))
    assert sorted(seen) == truth.trials


# Forms in which a table, its columns and its attributes are written.


def colnames_text(file, _):
    file["units"].attrs["colnames"] = "spike_times"
    file["intervals/trials"].attrs["colnames"] = np.bytes_("start_time")


def colnames_missing(file, _):
    del file["units"].attrs["colnames"]
    del file["intervals/trials"].attrs["colnames"]


def colnames_array(file, _):
    file["units"].attrs["colnames"] = np.array([b"spike_times"])
    file.attrs["nwb_version"] = np.array(["2.6.0"], object)


def version_missing(file, _):
    del file.attrs["nwb_version"]


def columns_transposed(file, _):
    for name in ("go", "start_time", "stop_time", "id"):
        x = file[f"intervals/trials/{name}"][()]
        replace(file["intervals/trials"], name, x[None] if name == "go" else x[:, None])
    replace(file["units"], "id", np.arange(UNITS)[:, None])


def ids_missing(file, _):
    del file["units/id"], file["intervals/trials/id"]


def spikes_column(file, _):
    replace(file["units"], "spike_times", file["units/spike_times"][()][:, None])


def spikes_row(file, _):
    replace(file["units"], "spike_times", file["units/spike_times"][()][None])


def index_double(file, _):
    x = file["units/spike_times_index"][()].astype(float)
    replace(file["units"], "spike_times_index", x[:, None])


def index_from_zero(file, _):
    replace(file["units"], "spike_times_index", 400 * np.arange(UNITS + 1))


def spikes_lists(file, truth):
    del file["units/spike_times"], file["units/spike_times_index"]
    x = file["units"].create_dataset("spike_times", (UNITS,), h5py.vlen_dtype(float))
    for n, spikes in enumerate(truth.spikes):
        x[n] = spikes


def spikes_matrix(file, truth):
    del file["units/spike_times_index"]
    x = np.full((UNITS, 500), np.nan)
    for n, spikes in enumerate(truth.spikes):
        x[n, : len(spikes)] = spikes
    replace(file["units"], "spike_times", x)


def latin_texts(file, _):
    file["intervals/trials/tag"] = np.array([b"caf\xe9"] * TRIALS)
    file["units/note"] = np.array(["é"] * UNITS, h5py.string_dtype())
    file["intervals/trials"].attrs["description"] = np.bytes_(b"caf\xe9")


def units_moved(file, _):
    file.create_group("processing/ecephys")
    file.move("units", "processing/ecephys/units")


def units_in_analysis(file, _):
    file.create_group("analysis")
    file.move("units", "analysis/sorted")


def trials_moved(file, _):
    file.create_group("processing/task")
    file.move("intervals/trials", "processing/task/trials")


def unasked(file, _):
    """What nobody asks for: series, links and columns that cannot be read."""
    file["acquisition/a/data"] = 3.0
    file["acquisition/a/starting_time"] = 0.0
    file["acquisition/b/data"] = np.zeros((5, 2))
    file["acquisition/b/timestamps"] = np.zeros((3, 4, 5))
    file["acquisition/c/timestamps"] = np.zeros(4)
    file["acquisition/c/data"] = h5py.ExternalLink("gone.h5", "/data")
    file["acquisition/d"] = h5py.ExternalLink("gone.h5", "/series")
    file["acquisition/e"] = h5py.SoftLink("/nowhere")
    file["acquisition/loop"] = h5py.SoftLink("/acquisition")
    file["units/electrodes"] = np.arange(100, 100 + UNITS)
    file["units/electrodes_index"] = np.arange(UNITS)
    file["intervals/trials/odd"] = np.zeros((TRIALS, 2))
    file["intervals/trials/complex"] = np.zeros(TRIALS, complex)


def intervals_transposed(file, _):
    observed(file, np.array([[0.0, 30.0]] * UNITS).T)


def intervals_flat(file, _):
    observed(file, [0.0, 30.0] * UNITS, 2 * (1 + np.arange(UNITS)))


def intervals_infinite(file, _):
    observed(file, [[-np.inf, np.inf]] * UNITS)


def intervals_halves(file, truth):
    """Transposed, two a unit, and a gap from 12 to 13.5 s."""
    observed(file, np.array([[0.0, 12.0], [13.5, 30.0]] * UNITS).T, 2 * (1 + np.arange(UNITS)))
    truth.recorded = lambda unit, low, high: high <= 12 + 1e-9 or low >= 13.5 - 1e-9
    truth.trials.remove(2)


def intervals_nan(file, _):
    observed(file, [[0.0, np.nan]] * UNITS)


def intervals_nan_begin(file, truth):
    observed(file, [[np.nan, 15.0]] * UNITS)
    truth.recorded = lambda unit, low, high: high <= 15 + 1e-9
    truth.trials = [0, 1, 2, 3, 4]


def _invalid(file, low, high):
    table = file.create_group("intervals/invalid_times")
    table["id"] = np.arange(len(low))
    table["start_time"], table["stop_time"] = np.array(low), np.array(high)


def invalid_times(file, truth):
    _invalid(file, [12.0], [18.0])
    truth.trials = [0, 1, 8, 9, 10, 11]


def invalid_part(file, truth):
    """From 12.25 to 12.29 s in the third trial: three bins; and from 20.5 s on."""
    _invalid(file, [12.25, 20.5], [12.29, np.nan])
    touched = lambda low, high: (low < 12.29 - 1e-9 and high > 12.25 + 1e-9) or high > 20.5 + 1e-9  # noqa: E731
    truth.recorded = lambda unit, low, high: not touched(low, high)
    truth.trials.remove(11)


def before_zero(file, truth):
    for name in ("start_time", "stop_time", "go"):
        file[f"intervals/trials/{name}"][...] -= 15
    file["units/spike_times"][...] -= 15
    truth.spikes, truth.go = [x - 15 for x in truth.spikes], truth.go - 15


def before_spikes(file, truth):
    """The first three trials are before time 0, where nothing was recorded."""
    before_zero(file, truth)
    x = np.concatenate([np.sort(np.abs(x)) for x in truth.spikes])
    file["units/spike_times"][...] = x
    truth.spikes, truth.trials = list(x.reshape(UNITS, -1)), list(range(5, TRIALS))


def out_of_order(file, _):
    x = file["units/spike_times"][()]
    x[100:200] = x[100:200][::-1]
    file["units/spike_times"][...] = x


def nan_spikes(file, truth):
    for place in (399, 450):
        file["units/spike_times"][place] = np.nan
    file["units/spike_times"][451] = np.inf
    truth.spikes = [truth.spikes[0][:-1], np.delete(truth.spikes[1], [50, 51]), *truth.spikes[2:]]


def lost(file, truth):
    """Units 0 and 1 until 14 s, unit 2 from 16 s on."""
    for unit in (0, 1):
        truth.spikes[unit] = truth.spikes[unit] / 24 * 14
    truth.spikes[2] = 16 + truth.spikes[2] / 3
    file["units/spike_times"][...] = np.concatenate(truth.spikes)
    ends = {0: (-np.inf, truth.spikes[0][-1]), 1: (-np.inf, truth.spikes[1][-1]),
            2: (truth.spikes[2][0], np.inf)}  # fmt: skip
    truth.recorded = lambda unit, low, high: (
        unit not in ends or (low >= ends[unit][0] and high <= ends[unit][1])
    )


def perhaps_lost(file, truth):
    """Unit 3, of 30 spikes, until 14 s."""
    x = np.concatenate([np.linspace(0.1, 14, 30), np.full(370, np.nan)])
    file["units/spike_times"][1200:1600] = x
    truth.spikes[3] = x[:30]


def lost_kept(file, truth):
    lost(file, truth)
    truth.recorded = lambda unit, low, high: True


def one_more_id(file, truth):
    replace(file["units"], "id", np.arange(UNITS + 1))


def index_beyond(file, truth):
    file["units/spike_times_index"][-1] = 5000
    truth.units = list(range(UNITS - 1))


def repeated_ids(file, _):
    file["units/id"][...] = [0, 1, 2, 0, 1, 2]


def milliseconds(file, _):
    file["units/spike_times"][...] *= 1000


def samples(file, truth):
    x = np.round(file["units/spike_times"][()] * 30000)
    file["units/spike_times"][...] = x
    truth.spikes = list((x / 30000).reshape(UNITS, -1))


def samples_with_rate(file, truth):
    x = np.round(file["units/spike_times"][()] * 20000).astype(np.int64)
    replace(file["units"], "spike_times", x).attrs["resolution"] = np.array([1 / 20000])
    truth.spikes = list((x / 20000).reshape(UNITS, -1))


def trials_in_ms(file, _):
    for name in ("start_time", "stop_time", "go"):
        file[f"intervals/trials/{name}"][...] *= 1000


# Edit, options and a part of what is said: read with the right counts.
READ = {
    "one name as a text": (colnames_text, {}, ""),
    "no names": (colnames_missing, {}, ""),
    "one name in an array": (colnames_array, {}, ""),
    "no version": (version_missing, {}, ""),
    "columns with an axis too many": (columns_transposed, {}, ""),
    "no ids": (ids_missing, {}, ""),
    "spike times (n, 1)": (spikes_column, {}, ""),
    "spike times (1, n)": (spikes_row, {}, ""),
    "index of doubles": (index_double, {}, ""),
    "index from 0": (index_from_zero, {}, ""),
    "a list a unit": (spikes_lists, {}, ""),
    "padded matrix": (spikes_matrix, {}, ""),
    "texts in Latin-1": (latin_texts, {}, ""),
    "units elsewhere": (units_moved, {}, "units are read from processing/ecephys/units"),
    "units in analysis": (units_in_analysis, {"tables": ["sorted"]}, ""),
    "trials elsewhere": (trials_moved, {}, "trials are read from processing/task/trials"),
    "what nobody asks for": (unasked, {}, ""),
    "transposed intervals": (intervals_transposed, {}, ""),
    "flat intervals": (intervals_flat, {}, ""),
    "infinite intervals": (intervals_infinite, {}, ""),
    "two transposed intervals": (intervals_halves, {}, "outside the observation intervals"),
    "intervals without end": (intervals_nan, {}, "6 ends of observation intervals are NaN"),
    "intervals without begin": (intervals_nan_begin, {}, "6 ends of observation intervals"),
    "intervals aside": (intervals_halves, {"intervals": False}, None),
    "invalid times": (invalid_times, {}, "150 of 300 bins lie in invalid_times"),
    "invalid parts of trials": (invalid_part, {}, "bins lie in invalid_times"),
    "trials before time 0": (before_zero, {}, ""),
    "trials before the spikes": (before_spikes, {}, "left out 5 trials that began before"),
    "out of order": (out_of_order, {}, "spike times of unit 0 were not in order, 99 of them"),
    "NaN spikes": (nan_spikes, {}, "left out 3 NaN or infinite spike times of units 0, 1"),
    "units lost": (lost, {}, r"3 of 6 units .* unit 0 \(until 1[34]\.\d s\), 1 .*--drifting=keep"),
    "units lost perhaps": (perhaps_lost, {}, r"1 of 6 units may .* unit 3 \(until 14\.0 s\)"),
    "units lost, kept": (lost_kept, {"drifting": "keep"}, "--drifting=mask"),
    "index beyond the data": (index_beyond, {"skipped": "5"}, ""),
    "one id too many": (one_more_id, {"skipped": "6"}, ""),
    "ids that repeat": (repeated_ids, {"ids": "new"}, ""),
    "ms": (milliseconds, {"spike_time_unit": "ms"}, ""),
    "samples": (samples, {"spike_time_unit": "samples:30000"}, ""),
    "samples of a known rate": (samples_with_rate, {"spike_time_unit": "samples:20000"}, ""),
    "trials in ms": (trials_in_ms, {"trial_time_unit": "ms"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("what", READ)
def test_odd_files_are_read_as_they_are_meant(what, tmp_path):
    edit, options, said = READ[what]
    truth = odd_nwb.write(tmp_path / "x.nwb", edit)
    if what == "intervals aside":
        truth = odd_nwb.write(tmp_path / "other.nwb")
    data, sentences = prepare(tmp_path / "x.nwb", **options)
    assert_counts(data, truth)
    if said == "":
        assert not sentences
    elif said is not None:
        assert re.search(said, sentences), sentences
    text = summary.of_file(tmp_path / "x.nwb")
    assert text.count("units") >= 1 and "trials" in text


def two_tables(file, truth):
    """The units on two probes, with the same ids."""
    for probe, rows in (("A", [0, 1, 2]), ("B", [3, 4, 5])):
        units = file.create_group(f"processing/probe{probe}/units")
        units["id"] = np.arange(3)
        units["spike_times"] = np.concatenate([truth.spikes[n] for n in rows])
        units["spike_times_index"] = 400 * (1 + np.arange(3))
        units["quality"] = np.array([b"good", b"mua", b"good"])
    del file["units"]


def empty(file, _):
    for name, x in (("id", np.zeros(0, int)), ("spike_times", np.zeros(0)),
                    ("spike_times_index", np.zeros(0, int))):  # fmt: skip
        replace(file["units"], name, x)


def no_spikes(file, _):
    del file["units/spike_times"], file["units/spike_times_index"]


def no_index(file, _):
    del file["units/spike_times_index"]


def long_index(file, _):
    replace(file["units"], "spike_times_index", 300 * (1 + np.arange(UNITS + 2)))


def odd_intervals(file, _):
    observed(file, np.zeros((UNITS, 3)))


def reversed_intervals(file, _):
    observed(file, [[30.0, 0.0]] * UNITS)


def no_trials(file, _):
    file.move("intervals/trials", "intervals/reaches")
    table = file.create_group("intervals/epochs")
    table["start_time"], table["stop_time"] = np.zeros(1), np.full(1, 24.0)


def endless(file, _):
    file["intervals/trials/stop_time"][5] = 3015.0


def split_of_booleans(file, _):
    file["intervals/trials/split"] = np.arange(TRIALS) % 4 > 0


def hollow(file, _):
    replace(file["intervals/trials"], "id", None, shape=(10**12,), dtype="i8", chunks=(2**20,))


def hollow_spikes(file, _):
    replace(file["units"], "spike_times", None, shape=(10**12,), dtype="f8", chunks=(2**20,))
    file["units/spike_times_index"][...] = 10**11 * (1 + np.arange(UNITS))


def units_linked(file, _):
    del file["units"]
    file["units"] = h5py.ExternalLink("gone.nwb", "/units")


def spikes_linked(file, _):
    del file["units/spike_times"]
    file["units/spike_times"] = h5py.ExternalLink("gone.nwb", "/units/spike_times")


def trials_linked(file, _):
    del file["intervals/trials"]
    file["intervals/trials"] = h5py.SoftLink("/nowhere")


# Edit, options and what is said: refused in a sentence that names the flag.
REFUSED = {
    "no rows": (empty, {}, "the units table units has no rows"),
    "no spike times": (no_spikes, {}, r"units table without spike_times \(columns: none\)"),
    "units in a file that is gone": (units_linked, {}, "units is a link to the file gone.nwb"),
    "spikes in a file that is gone": (spikes_linked, {}, "units/spike_times is a link to the file"),
    "trials behind a link": (trials_linked, {}, "intervals/trials is a link to /nowhere, which"),
    "no index": (no_index, {}, "spike_times has no spike_times_index, which says whose"),
    "index with too many entries": (long_index, {}, "has 8 entries for 6 rows"),
    "index beyond": (index_beyond, {}, "says 2000 to 5000 of 2400 values; unit 5 .*--skip-units=5"),
    "an id too many": (one_more_id, {}, "has 6 entries for 7 rows; unit 6 .*--skip-units=6"),
    "intervals of three": (odd_intervals, {}, r"of shape \(6, 3\) .*--noobs-intervals"),
    "intervals backwards": (reversed_intervals, {}, r"\(30 to 0 s\); .*--noobs-intervals"),
    "ids that repeat": (repeated_ids, {}, "2 rows have the id 0, .*--ids=new"),
    "several tables": (two_tables, {}, "--units-table=processing/probeA/units,processing/probeB/"),
    "no such table": (no_trials, {"trials_table": "go"}, "no interval table go; present: "),
    "no trials": (no_trials, {}, "tables of intervals: epochs, reaches.*--trials-table=epochs"),
    "endless": (endless, {"until": "stop_time"}, "trial in row 5 has 150015 bins .*--max-bins=60"),
    "booleans": (split_of_booleans, {"split_column": "split"}, "--evaluated=split=VALUE"),
    "ms": (milliseconds, {}, r"seem not to be in s: .* with --spike-time-unit=ms they are from"),
    "samples": (samples, {}, r"with --spike-time-unit=samples:30000 \(a guess: "),
    "samples, stated": (samples_with_rate, {}, "with --spike-time-unit=samples:20000 they are"),
    "trials in ms": (trials_in_ms, {}, "give --trial-time-unit=ms"),
    "rows that are not there": (hollow, {}, "declares 1000000000000 rows"),
    "spikes that are not there": (hollow_spikes, {}, "expand|takes .* but only"),
    "unit of time": (None, {"spike_time_unit": "hours"}, "--spike-time-unit is 'hours'; give s, m"),
    "units": (None, {"units": "7"}, "--units lists 7"),
    "all skipped": (None, {"skipped": "0,1,2,3,4,5"}, "--skip-units leaves no unit"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_understood_is_refused_in_a_sentence(what, tmp_path):
    edit, options, message = REFUSED[what]
    odd_nwb.write(tmp_path / "x.nwb", edit)
    with pytest.raises(UserError, match=message) as caught:
        prepare(tmp_path / "x.nwb", **options)
    assert "\n" not in str(caught.value)
    summary.of_file(tmp_path / "x.nwb")


def test_two_probes_are_joined_under_names_of_their_own(tmp_path):
    truth = odd_nwb.write(tmp_path / "x.nwb", two_tables)
    tables = ["probeA/units", "processing/probeB/units"]
    data, _ = prepare(tmp_path / "x.nwb", tables=tables, heldout="unit_name=probeA:1,probeB:1")
    assert_counts(data, truth)
    table = data.unit_table()
    names = dict(zip(table["unit"].tolist(), table["unit_name"].tolist(), strict=True))
    assert names == {n: f"probe{'AB'[n // 3]}:{n % 3}" for n in range(UNITS)}
    assert [names[unit] for unit in data.units[data.heldin :]] == ["probeA:1", "probeB:1"]
    assert list(table["probe"]) == [names[unit].partition(":")[0] for unit in table["unit"]]
    (tmp_path / "out.txt").write_text("probeA:1\nprobeB:1\n")
    again, _ = prepare(tmp_path / "x.nwb", tables=tables, heldout=str(tmp_path / "out.txt"))
    np.testing.assert_array_equal(again.units, data.units)
    assert "unit probeA:1" in labels.neuron(data, data.heldin)
    good, _ = prepare(tmp_path / "x.nwb", tables=tables, units="quality=good", heldout=0.5)
    truth.units = [0, 2, 3, 5]
    good_rows = [names_of.rpartition(":")[2] for names_of in good.unit_table()["unit_name"]]
    assert sorted(good_rows) == ["0", "0", "2", "2"] and set(good.unit_table()["quality"]) == {
        "good"
    }


def test_an_endless_trial_is_left_out_when_asked(tmp_path):
    truth = odd_nwb.write(tmp_path / "x.nwb", endless)
    data, said = prepare(tmp_path / "x.nwb", until="stop_time", max_bins=100)
    assert "left out 1 trial longer than --max-bins=100" in said
    truth.trials.remove(5)
    assert_counts(data, truth)


def test_evaluated_trials_by_a_column_of_booleans(tmp_path):
    truth = odd_nwb.write(tmp_path / "x.nwb", split_of_booleans)
    data, _ = prepare(tmp_path / "x.nwb", evaluated="split=False")
    assert_counts(data, truth)
    assert list(data.eval.columns["source_trial"]) == [0, 4, 8]


@pytest.mark.parametrize("values", [[0.0, 1, 0, 0, 1, 0], ["no", "yes", "no", "no", "yes", "no"]])
def test_heldout_columns_of_numbers_and_texts(values, tmp_path):
    def edit(file, _):
        x = np.array(values, object if isinstance(values[0], str) else float)
        options = {"dtype": h5py.string_dtype()} if isinstance(values[0], str) else {}
        file["units"].create_dataset("ho", data=x, **options)

    odd_nwb.write(tmp_path / "x.nwb", edit)
    data, _ = prepare(tmp_path / "x.nwb", heldout_column="ho")
    assert list(data.units[data.heldin :]) == [1, 4]


def test_conditions_that_are_nan_are_none(tmp_path):
    def edit(file, _):
        file["intervals/trials/number"] = np.array([0, 1, np.nan] * 4)
        texts = np.array(["left", "nan", ""] * 4, object)
        file["intervals/trials"].create_dataset("text", data=texts, dtype=h5py.string_dtype())

    odd_nwb.write(tmp_path / "x.nwb", edit)
    for column, named in (("number", ("0", "1")), ("text", ("left",))):
        kept = nwb_trials.Kept(conditions=column)
        data, _ = prepare(tmp_path / "x.nwb", kept=kept)
        assert data.condition_names == named
        for trials in (data.train, data.eval):
            want = [r % 3 if r % 3 < len(named) else -1 for r in trials.columns["source_trial"]]
            assert list(trials.conditions) == want


def test_nwb_1_is_read_by_its_epochs(tmp_path):
    truth = odd_nwb.version_1(tmp_path / "x.nwb")
    text = summary.of_file(tmp_path / "x.nwb")
    assert "NWB 1.0.6" in text and "UnitTimes: 6, 2400 spikes" in text and "epochs: 12" in text
    kept = nwb_trials.Kept(conditions="tags")
    data, _ = prepare(tmp_path / "x.nwb", align="start_time", behavior="vel", kept=kept)
    assert_counts(data, truth)
    assert_velocity(data)
    assert data.condition_names == ("left", "right")


# Behaviour: the mean of straight lines is known.


def assert_velocity(data, missing=lambda t: False):
    for trials in (data.train, data.eval):
        middle = trials.starts[:, None] + (np.arange(BINS) + 0.5) * WIDTH
        gone = np.vectorize(missing)(middle)
        want = np.stack([3 * middle, 10 - middle], axis=-1)
        assert np.isnan(trials.behavior[gone]).all()
        np.testing.assert_allclose(trials.behavior[~gone], want[~gone], rtol=1e-5, atol=1e-4)


def start_of_shape_1(file, _):
    at_rate(file, np.array([100.0]), [0.0])


def values_last(file, _):
    replace(file[VELOCITY], "data", file[f"{VELOCITY}/data"][()].T)


def values_last_at_rate(file, _):
    values_last(file, _)
    at_rate(file, 100.0)


def times_column(file, _):
    replace(file[VELOCITY], "timestamps", file[f"{VELOCITY}/timestamps"][()][:, None])


def begins_and_ends(file, _):
    t = file[f"{VELOCITY}/timestamps"][()]
    replace(file[VELOCITY], "timestamps", np.stack([t - 0.005, t + 0.005]))


def soft_link(file, _):
    file["acquisition/raw"] = file[f"{VELOCITY}/data"][()]
    del file[f"{VELOCITY}/data"]
    file[f"{VELOCITY}/data"] = h5py.SoftLink("/acquisition/raw")


def first_time_nan(file, _):
    file[f"{VELOCITY}/timestamps"][0] = np.nan


def times_nan(file, _):
    file[f"{VELOCITY}/timestamps"][1300:1302] = np.nan


def time_twice(file, _):
    file[f"{VELOCITY}/timestamps"][1301] = file[f"{VELOCITY}/timestamps"][1300]


def times_swapped(file, _):
    for name in ("timestamps", "data"):
        x = file[f"{VELOCITY}/{name}"][()]
        x[1300:1302] = x[1300:1302][::-1]
        file[f"{VELOCITY}/{name}"][...] = x


def stray_time(file, _):
    file[f"{VELOCITY}/timestamps"][1301] = 2.0


def clock_back(file, _):
    file[f"{VELOCITY}/timestamps"][1500:] -= 3


def clock_to_zero(file, _):
    file[f"{VELOCITY}/timestamps"][2000:] -= 20


def scaled(file, _):
    data = file[f"{VELOCITY}/data"]
    data[...] = (data[()] - 1) / 2
    data.attrs["conversion"], data.attrs["offset"] = np.array([2.0]), np.array([1.0])


# Edit, options, what is said, and where nothing is known.
BEHAVIOR = {
    "starting_time of shape 1": (start_of_shape_1, {}, "", None),
    "values in the last axis": (values_last, {}, "samples are in the last axis", None),
    "values last, at a rate": (values_last_at_rate, {}, "samples are taken from the last", None),
    "timestamps (S, 1)": (times_column, {}, "", None),
    "begins and ends": (begins_and_ends, {}, "its time is the middle", None),
    "soft link": (soft_link, {}, "", None),
    "no rate, given": (lambda f, _: at_rate(f, None), {"behavior_rate": 100.0}, "", None),
    "rate 0, given": (lambda f, _: at_rate(f, 0.0), {"behavior_rate": 100.0}, "", None),
    "first timestamp NaN": (first_time_nan, {}, "left out 1 timestamp that is NaN", None),
    "timestamps NaN": (times_nan, {}, "left out 2 timestamps", lambda t: 12.98 < t < 13.03),
    "a timestamp twice": (time_twice, {}, "repeats the one before", lambda t: 12.98 < t < 13.03),
    "two swapped": (times_swapped, {}, "sorted 2 timestamps", None),
    "one astray": (stray_time, {}, "1 timestamp out of order", lambda t: 12.98 < t < 13.03),
    "clock set back": (clock_back, {}, "set back from 14.99 to 12 s", lambda t: t > 14.99),
    "clock to 0": (clock_to_zero, {}, "set back from 19.99 to 0 s", lambda t: t > 19.99),
    "scale in an array": (scaled, {}, "", None),
}  # fmt: skip


@pytest.mark.parametrize("what", BEHAVIOR)
def test_series_of_unusual_form_have_the_right_values(what, tmp_path):
    edit, options, said, missing = BEHAVIOR[what]
    odd_nwb.write(tmp_path / "x.nwb", edit)
    data, sentences = prepare(tmp_path / "x.nwb", behavior="vel", **options)
    assert_velocity(data, missing or (lambda t: False))
    assert said in sentences and (said or not sentences), sentences
    prepare(tmp_path / "x.nwb")


UNREADABLE = {
    "no rate": (lambda f: at_rate(f, None), "no sampling rate; give it with --behavior-rate"),
    "rate 0": (lambda f: at_rate(f, 0.0), "a sampling rate of 0; give it with --behavior-rate"),
    "rate NaN": (lambda f: at_rate(f, np.nan), "a sampling rate of nan"),
    "rate a text": (lambda f: at_rate(f, "fast"), "a sampling rate of nan"),
    "start of two": (lambda f: at_rate(f, 10.0, [0.0, 1.0]), r"starting_time of shape \(2,\)"),
    "start NaN": (lambda f: at_rate(f, 10.0, np.nan), "has the starting time nan"),
    "scalar": (lambda f: replace(f[VELOCITY], "data", 3.0), "is a single value"),
    "texts": (lambda f: replace(f[VELOCITY], "data", ["a"] * 3000), "holds texts"),
    "complex": (lambda f: replace(f[VELOCITY], "data", np.ones(3000, complex)), "holds type"),
    "fewer times": (
        lambda f: replace(f[VELOCITY], "timestamps", np.arange(5.0)),
        "has 5 timestamps for 3000 samples",
    ),
    "times of rank 3": (
        lambda f: replace(f[VELOCITY], "timestamps", np.zeros((3, 4, 5))),
        r"timestamps of shape \(3, 4, 5\)",
    ),
    "data a group": (lambda f: _grouped(f), "its data is a group"),
    "file of frames": (lambda f: _linked(f), "is a link to the file gone.h5, which is not there"),
}  # fmt: skip


def _grouped(file):
    del file[f"{VELOCITY}/data"]
    file.create_group(f"{VELOCITY}/data")


def _linked(file):
    del file[f"{VELOCITY}/data"]
    file[f"{VELOCITY}/data"] = h5py.ExternalLink("gone.h5", "/data")


@pytest.mark.parametrize("what", UNREADABLE)
def test_series_that_cannot_be_read_break_nothing_else(what, tmp_path):
    edit, message = UNREADABLE[what]
    truth = odd_nwb.write(tmp_path / "x.nwb", lambda file, _: edit(file))
    assert "cannot be read: " in summary.of_file(tmp_path / "x.nwb")
    data, said = prepare(tmp_path / "x.nwb")
    assert_counts(data, truth)
    assert not said
    with pytest.raises(UserError, match=f"x.nwb: series behavior/vel .*{message}.*--behavior"):
        prepare(tmp_path / "x.nwb", behavior="vel")


# The parts.


def test_intervals_in_any_form():
    want = [[0.0, 3.0], [5.0, np.inf], [7.0, 9.0]]
    x = np.array(want)
    for given in (x, x.T, x.ravel(), np.where(np.isinf(x), np.nan, x)):
        np.testing.assert_array_equal(intervals_of(given, 3), want)
    np.testing.assert_array_equal(intervals_of(np.array([[0.0, 5], [3, 9]]), 2), [[0, 5], [3, 9]])
    np.testing.assert_array_equal(intervals_of(np.array([[0.0, 5], [3, 4]]), 2), [[0, 5], [3, 4]])
    np.testing.assert_array_equal(intervals_of(np.array([[5.0, 0], [9, 4]]), 2), [[5, 9], [0, 4]])
    assert intervals_of(np.zeros((4, 3))) is None and intervals_of(np.zeros(3)) is None


@pytest.mark.parametrize("seed", range(5))
def test_units_that_are_there_all_the_time_are_not_taken_for_lost(seed):
    """Rates that vary tenfold, bursts, and rates of one spike in 100 s."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, 1000, 0.01)
    slow = 10 ** np.sin(2 * np.pi * (times / 400 + rng.random()))
    bursts = np.concatenate([t + rng.exponential(0.02, 20) for t in rng.uniform(0, 1000, 60)])
    units = [np.sort(rng.uniform(0, 1000, n)) for n in (10, 100, 20000)]
    units += [times[rng.random(len(times)) < 0.01 * slow], np.sort(bursts)]
    found = drift.present([drift.Presence().with_block(x) for x in units], 0, 1000)
    assert found == [None] * 5
    half = [x[x < 500] for x in units[1:3]]
    found = drift.present([drift.Presence().with_block(x) for x in half], 0, 1000)
    assert found == [(-np.inf, x[-1]) for x in half]


def test_blocks_of_spikes_add_up():
    x = np.sort(np.random.default_rng(0).uniform(0, 9, 100))
    whole, parts = drift.Presence().with_block(x), drift.Presence()
    for part in np.split(x, [3, 50]):
        parts = parts.with_block(part)
    assert whole == parts and whole.longest == np.diff(x).max()


def test_large_units_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(nwb_units, "WHOLE", 50)
    monkeypatch.setattr(nwb_units, "SPIKES_PER_BLOCK", 64)
    for edit in (None, out_of_order, nan_spikes):
        truth = odd_nwb.write(tmp_path / "x.nwb", edit)
        assert_counts(prepare(tmp_path / "x.nwb")[0], truth)


def test_units_of_time():
    for given, length in (("s", 1), ("ms", 1e-3), ("samples:25000", 4e-5), ("0.5", 0.5)):
        assert time_units.seconds("x", given) == pytest.approx(length)
    assert time_units.seconds("x", "") is None
    # An hour of slow units with trials in ten minutes of it is no hour of ms.
    assert not time_units.suspected([0.1, 0.05, 3.0], (0, 3600), (100, 700))
    assert not time_units.suspected([5.0], (0, 36000), (100, 200))


@pytest.mark.parametrize("seed", range(8))
def test_clocks_increase_and_lose_little(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(200) / 100
    odd = t.copy()
    odd[rng.integers(200)] = np.nan
    for place in rng.choice(np.arange(2, 198), 3, replace=False):
        odd[place] = rng.choice([odd[place - 1], -5.0, 50.0])
    clock = clocks.in_order(odd)
    assert np.all(np.diff(clock.times) > 0) and clock.note
    np.testing.assert_array_equal(odd[clock.kept], clock.times)
    assert len(clock.kept) >= 90


def test_a_name_that_ends_in_20_is_whole(tmp_path, capsys):
    odd_nwb.write(tmp_path / "rec_2024_10_20.nwb")
    argv = ["prepare", "custom", f"--nwb={tmp_path / 'rec_2024_10_20.nwb'}", "--align=go",
            "--window=-100,400", "--bin-ms=20", f"--out={tmp_path}"]  # fmt: skip
    assert main.main(argv) == 0
    files = (tmp_path / "rec_2024_10_20.h5", tmp_path / "rec_2024_10_20_target.h5")
    for name in (None, "rec_2024_10_20"):
        assert hdf5.read(*files, name=name).name == "rec_2024_10_20"
    assert hdf5.stated_name(*files, expected="mc_maze_20") == "rec_2024_10_20"


def test_inspect_ends_with_the_command_that_follows(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://no_such.backend")
    odd_nwb.write(tmp_path / "x.nwb", two_tables)
    assert main.main(["inspect", str(tmp_path / "x.nwb")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: stndt prepare custom ")
    words = last.removeprefix("next: stndt ").split()
    words[-1] = f"--out={tmp_path / 'data'}"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main.main(words) == 0


def _matnwb(file, _):
    """Specifications are there, but attributes are arrays, as MatNWB once wrote them."""
    file.create_group("specifications/core")
    file.attrs["neurodata_type"], file.attrs["namespace"] = ["NWBFile"], ["core"]


@pytest.mark.parametrize("what", ["no specifications", "MatNWB", "NWB 1", "no NWB", "damaged"])
def test_rates_are_not_added_to_files_that_pynwb_does_not_read(what, tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra export: pynwb")
    path = tmp_path / "x.nwb"
    if what == "NWB 1":
        odd_nwb.version_1(path)
    else:
        odd_nwb.write(path, _matnwb if what == "MatNWB" else None)
    if what == "no NWB":
        with h5py.File(path, "a") as file:
            del file.attrs["nwb_version"]
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
    before = path.read_bytes()
    data = SpikeData.from_arrays(np.ones((8, 4, 4)), bin_ms=20, starts=np.arange(8.0))
    x = {split: np.ones((len(getattr(data, split)), 4, 4)) for split in ("train", "eval")}
    found = export.collect(submission.of_rates(x, data.dims), data, {})
    with pytest.raises(UserError, match=r"x.nwb (is|cannot) .*; (choose|copy)") as caught:
        export.write(found, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_lock_is_named(tmp_path):
    with h5py.File(tmp_path / "x.nwb", "w"):
        script = f"from stndt_jax.data import summary; summary.of_file({str(tmp_path / 'x.nwb')!r})"
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "HDF5_USE_FILE_LOCKING=FALSE" in found.stderr
