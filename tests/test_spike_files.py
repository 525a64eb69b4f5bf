"""Spike times and events from files of every format; oracles count spikes in a Python loop."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
import scipy.io

from stndt_jax.cli import main
from stndt_jax.data import hdf5, kilosort, spike_files, spike_times
from stndt_jax.errors import UserError

RNG = np.random.default_rng(0)
IDS = (2, 5, 9, 11)
# Spike times on a grid of 1/30 ms, so that samples and seconds agree, from 0 to 60 s.
TRAINS = {unit: np.sort(RNG.choice(60 * 30_000, 300 * (k + 1), False)) / 30_000
          for k, unit in enumerate(IDS)}  # fmt: skip
EVENTS = pandas.DataFrame(
    {
        "go_time": np.arange(2, 58, 2.5),
        "target": ["left", "right"] * 11 + ["left"],
        "reward": np.arange(23) / 4,
    }
)


def objects(items: list) -> np.ndarray:
    found = np.empty(len(items), object)
    for number, item in enumerate(items):
        found[number] = item
    return found


def long() -> tuple[np.ndarray, np.ndarray]:
    """Times and units of all spikes, in no order."""
    times = np.concatenate(list(TRAINS.values()))
    units = np.repeat(IDS, [len(x) for x in TRAINS.values()])
    order = np.random.default_rng(1).permutation(len(times))
    return times[order], units[order]


def write_csv(path: Path) -> None:
    times, units = long()
    pandas.DataFrame({"time": times, "unit": units}).to_csv(path, index=False)


def write_mat_structures(path: Path) -> None:
    kinds = [("id", "f8"), ("spike_times", "O")]
    rows = [(float(unit), x[None]) for unit, x in TRAINS.items()]
    scipy.io.savemat(path, {"units": np.array(rows, kinds)})


def write_h5(path: Path) -> None:
    times, units = long()
    with h5py.File(path, "w") as file:
        file["sorting/spike_times"], file["sorting/spike_clusters"] = times, units


def write_folder(path: Path, **labels: str) -> None:
    times, units = long()
    order = np.argsort(times, kind="stable")
    path.mkdir()
    np.save(path / "spike_times.npy", np.round(times[order] * 30_000).astype(np.uint64)[:, None])
    np.save(path / "spike_clusters.npy", units[order].astype(np.int32))
    (path / "params.py").write_text(
        "dat_path = r'C:\\data.bin'\nn_channels_dat = 385\nsample_rate = 30000.\nhp_filtered=True\n"
    )
    if labels:
        rows = [f"{unit}\t{labels.get(f'u{unit}', '')}" for unit in IDS]
        (path / "cluster_group.tsv").write_text("\n".join(["cluster_id\tgroup", *rows]) + "\n")


FORMATS = {
    "x.csv": write_csv,
    "pair.npz": lambda p: np.savez(p, spike_times=long()[0], spike_clusters=long()[1]),
    "named.npz": lambda p: np.savez(p, **{f"unit{u}": x for u, x in TRAINS.items()}),  # type: ignore[arg-type]
    "lists.npz": lambda p: np.savez(p, spikes=objects(list(TRAINS.values())), unit_ids=IDS),
    "cells.mat": lambda p: scipy.io.savemat(
        p, {"spikes": objects(list(TRAINS.values())), "unit_ids": np.array(IDS)}
    ),
    "structures.mat": write_mat_structures,
    "x.h5": write_h5,
    "folder": write_folder,
}


@pytest.mark.parametrize("name", FORMATS)
def test_spike_times_of_every_format(name, tmp_path):
    FORMATS[name](tmp_path / name)
    found = spike_files.read(tmp_path / name)
    assert tuple(found.ids) == IDS
    for row, unit in enumerate(IDS):
        np.testing.assert_allclose(np.concatenate(list(found.spikes(row))), TRAINS[unit], atol=1e-9)
        assert found.count(row) == len(TRAINS[unit])


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet: pyarrow")
    times, units = long()
    pandas.DataFrame({"unit": units, "time": times}).to_parquet(tmp_path / "x.parquet")
    assert tuple(spike_files.read(tmp_path / "x.parquet").ids) == IDS


def stndt(*argv: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return main.main([str(word) for word in argv])


def counts(unit: int, start: float, bins: int, bin_s: float) -> list[int]:
    """Spikes in bins, by a loop."""
    edges = [start + k * bin_s for k in range(bins + 1)]
    times = [t + 1e-9 for t in TRAINS[unit]]
    return [sum(low <= t < high for t in times) for low, high in itertools.pairwise(edges)]


def test_trials_from_spike_times_and_events(tmp_path, capsys):
    write_folder(tmp_path / "ks", u2="good", u5="mua", u9="good", u11="good")
    EVENTS.to_csv(tmp_path / "trials.csv", index=False)
    times = np.arange(0, 60, 0.01)
    frame = pandas.DataFrame({"time": times, "heading": (7 * times) % 360})
    frame.to_csv(tmp_path / "hand.csv", index=False)
    argv = ["prepare", "spikes", f"--spikes={tmp_path / 'ks'}", f"--out={tmp_path / 'out'}",
            f"--events={tmp_path / 'trials.csv'}", "--align=go_time", "--window=-100,300",
            "--bin-ms=20", "--condition-column=target", "--heldout=9", "--evaluated=3,7-9",
            f"--behavior={tmp_path / 'hand.csv'}", "--circular=heading:deg"]  # fmt: skip
    assert not stndt(*argv)
    text = capsys.readouterr().out
    assert "3 units labelled good of 4" in text and "30000 samples/s" in text
    data = hdf5.read(tmp_path / "out/ks.h5", tmp_path / "out/ks_target.h5")
    assert list(data.units) == [2, 11, 9] and data.heldout == 1
    assert list(data.eval.columns["source_trial"]) == [3, 7, 8, 9]
    assert data.behavior_names == ("sin_heading", "cos_heading")
    for split, trials in (("train", data.train), ("eval", data.eval)):
        table = data.trial_table(split)
        assert trials.behavior is not None
        for row, r in enumerate(table["source_trial"]):
            start = EVENTS.go_time[r] - 0.1
            assert table["start_s"][row] == pytest.approx(start)
            assert table["condition"][row] == EVENTS.target[r]
            assert table["reward"][row] == EVENTS.reward[r]
            for column, unit in enumerate(data.units):
                wanted = counts(int(unit), start, 20, 0.02)
                np.testing.assert_array_equal(trials.counts(0, 1)[row, :, column], wanted)
            angle = np.deg2rad(7 * (start + 0.02 * (np.arange(20) + 0.5)))
            wanted = np.stack([np.sin(angle), np.cos(angle)], 1)
            np.testing.assert_allclose(trials.behavior[row], wanted, atol=1e-4)


def test_a_recording_without_events(tmp_path):
    write_csv(tmp_path / "x.csv")
    argv = ["prepare", "spikes", f"--spikes={tmp_path / 'x.csv'}", f"--out={tmp_path / 'out'}",
            "--bin-ms=50", "--window-ms=1000", "--heldout=5"]  # fmt: skip
    assert not stndt(*argv)
    data = hdf5.read(tmp_path / "out/x.h5", tmp_path / "out/x_target.h5")
    assert data.train.starts is not None
    for row in (0, 3):
        for column, unit in enumerate(data.units):
            wanted = counts(int(unit), float(data.train.starts[row]), 20, 0.05)
            np.testing.assert_array_equal(data.train.counts(0, 1)[row, :, column], wanted)


@pytest.mark.parametrize(
    ("unit", "scale"), [("ms", 1000.0), ("samples:30000", 30000.0), ("us", 1e6)]
)
def test_units_of_time(unit, scale, tmp_path):
    times, units = long()
    np.savez(tmp_path / "x.npz", spike_times=times * scale, unit=units)
    found, _ = spike_files.Chosen(time_unit=unit).read(tmp_path / "x.npz")
    np.testing.assert_allclose(np.concatenate(list(found.spikes(1))), TRAINS[5], atol=1e-9)


def test_units_are_chosen(tmp_path):
    write_folder(tmp_path / "ks", u2="good", u5="mua", u9="noise")
    for options, wanted in (
        ({}, (2,)),
        ({"units": "all"}, IDS),
        ({"units": "group=good,mua"}, (2, 5)),
        ({"units": "5-9"}, (5, 9)),
        ({"units": "all", "skipped": "group=noise"}, (2, 5, 11)),
    ):
        assert tuple(spike_files.Chosen(**options).read(tmp_path / "ks")[0].ids) == wanted
    table = "unit,area\n11,V4\n9,V2\n5,V1\n2,V1\n"
    (tmp_path / "units.csv").write_text(table)
    chosen = spike_files.Chosen(units="area=V1", unit_table=str(tmp_path / "units.csv"))
    found, notes = chosen.read(tmp_path / "ks")
    assert tuple(found.ids) == (2, 5) and list(found.columns["area"]) == ["V1", "V1"]
    assert notes[-1] == "2 of 4 units taken"
    (tmp_path / "units.csv").write_text("unit,area\n11,V4\n")
    with pytest.raises(UserError, match="has no row for unit 2"):
        chosen.read(tmp_path / "ks")


def test_params_are_read_and_never_executed(tmp_path):
    write_folder(tmp_path / "ks")
    for text, wanted in (
        ("import os\nos.mkdir('sprung')\nsample_rate = 25e3", 25000.0),
        ("sample_rate=30000.0 # Hz", 30000.0),
        ("n = 3", None),
        ("sample_rate = (", None),
    ):
        (tmp_path / "ks/params.py").write_text(text)
        assert kilosort.sampling_rate(tmp_path / "ks") == wanted
    (tmp_path / "ks/params.py").write_text("sample_rate = open('x').read()")
    with pytest.raises(UserError, match=r"sample_rate is .*open.*; write a number of samples/s"):
        kilosort.sampling_rate(tmp_path / "ks")
    (tmp_path / "ks/params.py").unlink()
    with pytest.raises(UserError, match=r"states no sample_rate, .* --spike-time-unit=samples"):
        spike_files.read(tmp_path / "ks")
    found, _ = spike_files.Chosen(time_unit="samples:30000").read(tmp_path / "ks")
    np.testing.assert_allclose(np.concatenate(list(found.spikes(0))), TRAINS[2], atol=1e-9)


def test_grouping_keeps_memory_for_the_chosen_units_only():
    """Blocks in any order, NaN left out; by a loop."""
    rng = np.random.default_rng(2)
    times, units = rng.random(5000), rng.integers(0, 40, 5000)
    times[::97] = np.nan
    blocks = [(times[k : k + 700], units[k : k + 700]) for k in range(0, 5000, 700)]
    with pytest.warns(UserWarning, match="left out 52 spikes whose time is no number"):
        found = spike_times.grouped("x", lambda: blocks, chosen=lambda ids: ids % 3 == 0)
    assert list(found.ids) == list(range(0, 40, 3))
    for row, unit in enumerate(found.ids):
        wanted = sorted(t for t, u in zip(times, units, strict=True) if u == unit and t == t)
        assert np.concatenate(list(found.spikes(row))).tolist() == wanted
    assert len(found.times) == sum(found.count(row) for row in range(len(found)))


def test_lists_out_of_order_are_sorted_and_said():
    with pytest.warns(UserWarning) as said:
        found = spike_times.from_lists(
            "x", [[3.0, 1.0], [1.0, np.nan, 2.0], []], ["a7", "a3", "b9"]
        )
    assert [str(w.message) for w in said] == [
        "x: 1 units had spike times out of order, which were sorted",
        "x: 1 spike times were no numbers and were left out",
    ]
    assert list(found.ids) == [7, 3, 9] and list(found.columns["name"]) == ["a7", "a3", "b9"]
    assert found.times.tolist() == [1, 3, 1, 2] and found.bounds.tolist() == [0, 2, 4, 4]


EVENT_FILES = {
    "e.csv": lambda p: EVENTS.to_csv(p, index=False),
    "e.tsv": lambda p: EVENTS.to_csv(p, sep="\t", index=False, encoding="utf-16"),
    "e.npz": lambda p: np.savez(
        p, **{k: EVENTS[k].to_numpy(str if k == "target" else float) for k in EVENTS}
    ),
    "e.mat": lambda p: scipy.io.savemat(
        p,
        {
            "trials": {
                "go_time": EVENTS.go_time.to_numpy()[:, None],
                "target": objects(list(EVENTS.target)),
                "reward": EVENTS.reward.to_numpy(),
            }
        },
    ),
}


@pytest.mark.parametrize("name", EVENT_FILES)
def test_events_of_every_format(name, tmp_path):
    EVENT_FILES[name](tmp_path / name)
    found = spike_files.events(f"{tmp_path / name}{':trials' if name == 'e.mat' else ''}")
    assert sorted(found.columns) == sorted(EVENTS)
    for column in EVENTS:
        np.testing.assert_array_equal(found.column(column), EVENTS[column])
    with pytest.raises(UserError, match=r"name the one with the time of .* --align=go_time"):
        found.default_align()


def test_an_array_of_times_is_events(tmp_path):
    np.save(tmp_path / "e.npy", EVENTS.go_time.to_numpy()[:, None])
    found = spike_files.events(tmp_path / "e.npy")
    np.testing.assert_array_equal(found.times(found.default_align()), EVENTS.go_time)


MISTAKES = {
    "no events": ([], "--events is missing; for example --events=trials.csv, or --window-ms=600"),
    "no window": (["--events=e.csv"], "--window is missing; for example --window=-250,450"),
    "no column": (["--events=e.csv", "--window=0,100"], "name the one with the time of the event"),
    "unknown column": (
        ["--events=e.csv", "--window=0,100", "--align=go"],
        "e.csv has no column go; columns: go_time, target, reward",
    ),
    "texts": (
        ["--events=e.csv", "--window=0,100", "--align=target"],
        "column target holds no times; columns of numbers: go_time, reward",
    ),
    "another clock": (
        ["--events=late.csv", "--window=0,100", "--align=t"],
        "none of the 3000 spikes falls into a window",
    ),
    "both": (["--events=e.csv", "--window-ms=600"], "--window-ms has no effect with --events"),
    "unit": (["--window-ms=600", "--units=77"], "--units lists 77, which is none of the 4 units"),
    "behaviour": (
        ["--window-ms=600", "--behavior=e.csv"],
        "e.csv has no column of times (time, time_s, times ...), but go_time",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_sentence(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "x.csv")
    EVENTS.to_csv("e.csv", index=False)
    Path("late.csv").write_text("t\n5000\n6000\n")
    argv, message = MISTAKES[what]
    assert stndt("prepare", "spikes", "--spikes=x.csv", "--bin-ms=20", "--out=o", *argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.npz", lambda p: np.savez(p, a=np.ones((4, 5, 6))), "no spike times; give columns unit"),
        ("d", lambda p: p.mkdir(), "is a directory without spike_times.npy"),
        ("x.nwb", lambda p: p.write_text(""), "is an NWB file; run: stndt prepare custom"),
        ("x.csv", lambda p: p.write_text("unit,time\n-1,.5\n"), "holds the unit -1; give whole"),
    ],
)
def test_what_holds_no_spike_times_says_so(name, write, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(UserError, match=message):
        spike_files.read(tmp_path / name)


def test_units_of_two_probes_are_not_merged(tmp_path):
    rows = [(p, u, 10 * k + u + 0.5) for k, p in enumerate("AB") for u in (0, 3) for _ in range(2)]
    frame = pandas.DataFrame(rows, columns=["probe", "unit", "time"]).assign(amplitude=1.5)
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "x.csv", index=False)
    with pytest.warns(UserWarning, match=r"ids of the units repeat, .* unit_name names them: A:0"):
        found, notes = spike_files.read_with_notes(tmp_path / "x.csv")
    assert found.ids.tolist() == [0, 1, 2, 3] and found.bounds.tolist() == [0, 2, 4, 6, 8]
    assert found.columns["unit_name"].tolist() == ["A:0", "A:3", "B:0", "B:3"]
    assert found.columns["probe"].tolist() == ["A", "A", "B", "B"]
    assert found.times[::2].tolist() == [0.5, 3.5, 10.5, 13.5]
    assert "not used: amplitude" in notes
    frame.unit += 4 * (frame.probe == "B")
    frame.to_csv(tmp_path / "x.csv", index=False)
    found = spike_files.read(tmp_path / "x.csv")
    assert found.ids.tolist() == [0, 3, 4, 7] and list(found.columns) == ["probe"]


@pytest.mark.parametrize(
    "head", ["neuron_id;spike_time_s", "Cluster;Time (s)", "unit id;times_s", "cell;t"]
)
def test_other_names_of_columns(head, tmp_path):
    (tmp_path / "x.csv").write_text(f"{head};amplitude\n4;0,5;7\n9;1,25;7\n4;2;7,5\n")
    found = spike_files.read(tmp_path / "x.csv")
    assert found.ids.tolist() == [4, 9] and found.times.tolist() == [0.5, 2, 1.25]


@pytest.mark.parametrize("head", ["Einheit,Zeitpunkt", "a,b", "unit,Zeit", "unit1,unit2"])
def test_tables_without_unit_and_time_are_refused(head, tmp_path):
    (tmp_path / "x.csv").write_text(f"{head}\n1,2\n3,4\n")
    with pytest.raises(UserError, match="name the columns unit and time, with one row for each"):
        spike_files.read(tmp_path / "x.csv")


def test_rows_without_a_unit_or_time_are_counted(tmp_path):
    (tmp_path / "x.csv").write_text("unit,time\n,\n0,1.5\n,2\n0,\n0,NaN\n3,4\n")
    with pytest.warns(UserWarning, match="left out 4 spikes without a unit or a time"):
        found = spike_files.read(tmp_path / "x.csv")
    assert found.ids.tolist() == [0, 3] and found.times.tolist() == [1.5, 4]


@pytest.mark.parametrize(
    ("text", "condition", "column"),
    [
        ("go;cond\n0,5;1\n2,5;2\n3,5;1\n4;1\n", "cond", "go"),
        ("go;cond\nx;1\ny;2\nz;1\nz;1\n", "", ""),
        ("go;cond\nx;1\ny;2\nz;3\nz;4\n", "cond", ""),
        ("go;cond\nx;1\ny;1\nz;1\nz;2\n", "", ""),
    ],
)
def test_conditions_are_no_times_of_events(text, condition, column, tmp_path):
    (tmp_path / "e.csv").write_text(text)
    table = spike_files.events(tmp_path / "e.csv")
    if column:
        assert table.default_align(condition=condition) == column
        return
    with pytest.raises(UserError, match="has the columns go, cond; name the one with the time"):
        table.default_align(condition=condition)


def test_arrays_of_structures_keep_the_probe_and_are_events(tmp_path):
    units = np.zeros(4, [("id", "O"), ("probe", "O"), ("spike_times", "O")])
    trials = np.zeros(3, [("go", "O"), ("side", "O"), ("cond", "O")])
    for k in range(4):
        units[k] = (k % 2, "AB"[k // 2], k + np.arange(3) / 4)
    for k in range(3):
        trials[k] = (k + 0.5, "left", [] if k == 1 else k)
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"units": units, "trials": trials})
    with pytest.warns(UserWarning, match=r"ids of the units repeat, .* names them: A:0"):
        found = spike_files.read(f"{path}:units")
    assert found.ids.tolist() == [0, 1, 2, 3] and found.times[::3].tolist() == [0, 1, 2, 3]
    assert found.columns["unit_name"].tolist() == ["A:0", "A:1", "B:0", "B:1"]
    assert found.columns["probe"].tolist() == ["A", "A", "B", "B"]
    events = spike_files.events(f"{path}:trials")
    assert events.columns["go"].tolist() == [0.5, 1.5, 2.5]
    assert events.columns["side"].tolist() == ["left"] * 3
    np.testing.assert_array_equal(events.columns["cond"], [0, np.nan, 2])
    with pytest.raises(UserError, match=r"name the structures .*, for example .*x.mat:trials"):
        spike_files.events(path)
    bare = np.zeros(4, [("id", "O"), ("spike_times", "O")])
    for k in range(4):
        bare[k] = (k % 2, k + np.arange(3) / 4)
    scipy.io.savemat(path, {"units": bare})
    with pytest.warns(UserWarning, match="ids of the units repeat, and nothing says on which"):
        assert len(spike_files.read(path)) == 4
