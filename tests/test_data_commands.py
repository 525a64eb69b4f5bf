"""Data in and out on the command line: from files to scores, and every mistake one sentence."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from stndt_jax import load_run
from stndt_jax.cli import main
from stndt_jax.data import dandi, hdf5, nlb, synthetic

pytest.importorskip("pynwb", reason="needs pynwb")
nwb_files = importlib.import_module("helpers.nwb_files")


def stndt(*argv: object) -> int:
    """The command line, whose warnings are shown and are no errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return main.main([str(word) for word in argv])


def fails(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """The one line that a mistake ends with."""
    capsys.readouterr()
    assert stndt(*argv) == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if "warning:" not in x]
    return line.removeprefix("stndt: error: ")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark data set, a custom NWB file and a recording."""
    folder = tmp_path_factory.mktemp("files")
    nwb_files.data_set("mc_maze_small", folder / "nwb" / "000140" / "sub-Jenkins")
    nwb_files.custom(folder / "day1.nwb")
    data = synthetic.make(
        "reach", seed=1, trials=12, eval_trials=6, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False, bin_ms=5.0,
    )  # fmt: skip
    hdf5.write(data, folder / "reach.h5")
    hdf5.write_targets(data, folder / "reach_target.h5")
    return folder


TRAINED = (("mc_maze", "val"), ("mc_maze", "test"), ("dmfc_rsg", "val"))


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        pytest.param(*pair, marks=[pytest.mark.long] if pair in TRAINED[1:] else [])
        for pair in itertools.product(nlb.DATA_SETS, nlb.PHASES)
    ],
)
def test_from_nwb_to_a_checked_submission(name, phase, tmp_path, capsys):
    pytest.importorskip("nlb_tools.make_tensors", reason="needs nlb_tools")
    nwb_files.data_set(name, tmp_path / "nwb")
    out = tmp_path / "data"
    assert not stndt(
        "prepare", name, f"--nwb={tmp_path / 'nwb'}", f"--out={out}", "--bin-ms=20",
        f"--phase={phase}",
    )  # fmt: skip
    stem = f"{name}_20_{phase}"
    endings = ["_target.h5"] * (phase == "val") + [".h5", ".png", ".txt"]
    assert sorted(p.name for p in out.iterdir()) == sorted(stem + end for end in endings)
    summary = (out / f"{stem}.txt").read_text()
    assert "5 held-in + 3 held-out" in summary and "10 forward, of 20 ms" in summary
    if phase == "test":  # one trial of mc_maze has the split none
        assert f"{23 if name == 'mc_maze' else 24} to train on, 8 to evaluate" in summary
    settings = {"data.path": out / f"{stem}.h5", "train.epochs": 2, "model.layers": 1}
    if phase == "val":
        settings["data.targets"] = out / f"{stem}_target.h5"
    if (name, phase) not in TRAINED:
        return  # trained like the others, of whatever name
    run = tmp_path / "run"
    settings["contrast.enabled"] = False
    settings["model.heads"] = 1  # 45 or 85 bins have no other in common with 8 neurons
    flags = [f"--config.{k}={v}" for k, v in settings.items()]
    assert not stndt("train", "--config=tiny", f"--workdir={run}", *flags)
    assert not stndt("evaluate", run)
    assert not stndt("check-submission", run / "submission.h5", f"--data={out / f'{stem}.h5'}")
    assert f"group {name}_20 fits" in capsys.readouterr().out
    if phase == "val":
        scores = json.loads((run / "scores.json").read_text())["ensemble"]
        wanted = {"co_bps", "fp_bps", "tp_corr" if name == "dmfc_rsg" else "vel_r2"}
        wanted |= set() if name == "mc_rtt" else {"psth_r2"}
        scores = {name: x for name, x in scores.items() if not name.endswith("interval")}
        assert set(scores) == wanted
        assert all(math.isfinite(value) for value in scores.values())


def test_custom_with_two_numbers_behind_window(files, tmp_path, capsys):
    assert not stndt(
        "prepare", "custom", "--nwb", files / "day1.nwb", "--align", "cue_time", "--window", "-250",
        "450", "--bin-ms", "10", "--behavior", "hand", "--heldout-fraction", ".34", "--split",
        ".75/.25", "--forward-ms=100", "--out", tmp_path,
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "60 observed + 10 forward, of 10 ms (600 + 100 ms)" in text
    assert "4 held-in + 2 held-out" in text
    data = hdf5.read(tmp_path / "day1.h5", tmp_path / "day1_target.h5")
    assert (len(data.train), len(data.eval), data.name) == (15, 5, "day1")
    assert data.train.starts is not None and data.gaps


def test_arrays_of_every_kind(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "trials.npy", rng.poisson(1.0, (8, 6, 5)))
    np.savez(tmp_path / "uneven.npz", *[rng.poisson(1.0, (4 + k % 3, 5)) for k in range(8)])
    np.save(tmp_path / "long.npy", rng.poisson(1.0, (400, 5)))
    common = ["--bin-ms=5", f"--out={tmp_path}"]
    for name, more, wanted in (
        ("trials.npy", ["--bins-forward=2"], "4 observed + 2 forward"),
        ("uneven.npz", [], "6 observed + 0 forward"),
        ("long.npy", ["--window-ms=100", "--overlap-ms=50"], "20 observed + 0 forward"),
    ):
        assert not stndt("prepare", "arrays", f"--spikes={tmp_path / name}", *common, *more)
        assert wanted in capsys.readouterr().out
    with h5py.File(tmp_path / "lfads.h5", "w") as file:
        file["train_data"], file["valid_data"] = (
            np.load(tmp_path / "trials.npy")[:6],
            np.ones((2, 6, 5)),
        )
    assert not stndt("prepare", "arrays", f"--spikes={tmp_path / 'lfads.h5'}", "--name=x", *common)
    assert "6 to train on, 2 to evaluate" in capsys.readouterr().out


# Twelve trials of 3 to 5 bins; the first count of a trial and unit says which they are.
LENGTHS = [3 + r % 3 for r in range(12)]
AREAS = ["V1", "V2", "V1", "V2", "V4"]


def own_recording(folder: Path) -> None:
    """Arrays and tables as a user may have them."""
    trials, velocity = [], []
    for r, bins in enumerate(LENGTHS):
        x = np.random.default_rng(r).poisson(1.0, (bins, 5))
        x[0] = 10 * r + np.arange(5)
        trials.append(x)
        velocity.append(r + np.arange(2 * bins).reshape(bins, 2) / 10)
    np.savez(folder / "x.npz", *trials)
    np.savez(folder / "vel.npz", *velocity)
    (folder / "areas.txt").write_text("\n".join(AREAS))
    rows = [f"{('left', 'right', '')[r % 3]},{r / 4},{2.5 * r}" for r in range(12)]
    (folder / "trials.csv").write_text("\n".join(["target,reward,start_s", *rows]))


def test_arrays_with_tables_and_choices(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own_recording(tmp_path)
    argv = ["prepare", "arrays", "--spikes=x.npz", "--bin-ms=20", "--out=new/data", "--name=v1v2",
            "--behavior=vel.npz", "--behavior-name=vel_x,vel_y", "--behavior-unit=cm/s",
            "--conditions=trials.csv:target", "--trial-table=trials.csv", "--area=areas.txt",
            "--heldout=area=V2", "--evaluated=2,3,7"]  # fmt: skip
    assert not stndt(*argv)
    data = hdf5.read("new/data/v1v2.h5", "new/data/v1v2_target.h5")
    assert list(data.units) == [0, 2, 4, 1, 3] and data.heldout == 2
    assert list(data.areas) == [AREAS[n] for n in data.units]
    assert list(data.eval.columns["source_trial"]) == [2, 3, 7]
    assert data.behavior_names == ("vel_x", "vel_y") and data.behavior_unit == "cm/s"
    for split, trials in (("train", data.train), ("eval", data.eval)):
        table = data.trial_table(split)
        for row, r in enumerate(table["source_trial"]):
            np.testing.assert_array_equal(trials.counts(0, 2)[row, 0], 10 * r + data.units)
            assert trials.behavior[row, 0, 0] == r
            assert table["target"][row] == table["condition"][row] == ("left", "right", "")[r % 3]
            assert table["reward"][row] == r / 4 and table["start_s"][row] == 2.5 * r
    text = capsys.readouterr().out
    assert "V1 2 + 0, V2 0 + 2, V4 1 + 0" in text and "vel_x, vel_y (cm/s)" in text
    assert "2 (left, right)" in text and "of trials: start_s, target, reward" in text


CHOICES = {
    "a wrong area": (["--heldout=area=V9"], "none of the units has the area V9; there are V1 (2)"),
    "a wrong trial": (["--evaluated=2,12"], "lists 12, which is none of the 12 trials: 0, 1, 2"),
    "twice": (["--heldout=1", "--heldout-fraction=.5"], "--heldout-fraction has no effect with"),
    "also twice": (["--evaluated=1", "--split=.5/.5"], "--split has no effect with --evaluated"),
    "no behaviour": (["--behavior-unit=mm"], "--behavior-unit has no effect without --behavior"),
    "names": (["--behavior=vel.npz", "--behavior-name=x"], "1 names of 2 dimensions"),
    "named arrays": (["--behavior=named.npz"], "arrays that are no trials: counts (40, 5), vel (4"),
    "lengths": (["--behavior=short.npz"], "behavior of trial 1 has 3 bins, but its spikes have 4"),
    "dimensions": (
        ["--behavior=uneven.npz"],
        "behavior of trial 1 has shape (4, 3), that is 3 dimensions, but trial 0 has 2",
    ),
    "labels": (["--conditions=areas.txt"], "conditions has shape (5,), but the spikes require (12"),
}


@pytest.mark.parametrize("what", CHOICES)
def test_wrong_choices_are_one_sentence(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own_recording(tmp_path)
    np.savez("named.npz", counts=np.ones((40, 5)), vel=np.ones((40, 2)), trial_len=np.ones(9))
    np.savez("short.npz", *[np.ones((3, 2)) for _ in LENGTHS])
    np.savez("uneven.npz", *[np.ones((n, 2 + (r == 1))) for r, n in enumerate(LENGTHS)])
    argv, message = CHOICES[what]
    common = ["prepare", "arrays", "--spikes=x.npz", "--bin-ms=20", "--out=data"]
    assert message in fails(capsys, *common, "--area=areas.txt", *argv)


def test_download_joins_prepare(files, tmp_path, monkeypatch, capsys):
    pytest.importorskip("nlb_tools.make_tensors", reason="needs nlb_tools")
    asked = []
    monkeypatch.setattr(dandi, "download", lambda *a, **k: asked.append(a))
    argv = ["mc_maze_small", f"--nwb={files / 'nwb'}", f"--out={tmp_path}"]
    assert not stndt("prepare", *argv, "--download")
    assert asked == [("mc_maze_small", str(files / "nwb"))]
    assert not stndt("download", "mc_maze_small", f"--out={tmp_path}")
    assert "next: stndt prepare mc_maze_small" in capsys.readouterr().out


def test_inspect(files, capsys):
    assert not stndt("inspect", files / "day1.nwb")
    assert "cue_time" in capsys.readouterr().out
    assert not stndt("inspect", files / "reach.h5")
    assert "train_spikes_heldin" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["", "mc_maze", "custom", "arrays"])
def test_help_shows_an_example(kind, capsys):
    assert not stndt("prepare", *([kind] if kind else []), "--help")
    text = capsys.readouterr().out
    assert "usage: stndt prepare" in text and "example: stndt prepare" in text


def rates_of(files: Path) -> dict[str, np.ndarray]:
    """Rates that fit the recording, about as many counts as there are."""
    data = hdf5.read(files / "reach.h5")
    found = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        for block in ("heldin", "heldout", "heldin_forward", "heldout_forward"):
            neurons = data.heldout if "heldout" in block else data.heldin
            bins = data.bins_forward if "forward" in block else data.bins_observed
            shape = (len(trials), bins, neurons)
            found[f"{split}_rates_{block}"] = np.full(shape, data.train.heldin.mean(), np.float32)
    return found


def _without(rates, key):
    return {k: v for k, v in rates.items() if k != key}


def _with(rates, key, value):
    x = rates[key].copy()
    x[1, 2, 0] = value
    return rates | {key: x}


HELDOUT = "eval_rates_heldout"
SUBMISSIONS = {
    "Hz": (
        lambda r: {k: v * 200 for k, v in r.items()},
        "reach",
        "200 times the mean count per bin",
    ),
    "group": (lambda r: r, "reach_20", "has no group reach; groups present: reach_20"),
    "key": (lambda r: _without(r, HELDOUT), "reach", f"the rates hold no {HELDOUT}; present: "),
    "shape": (
        lambda r: r | {HELDOUT: r[HELDOUT][1:]},
        "reach",
        r"shape (5, 6, 2); the data need",
    ),
    "zero": (lambda r: _with(r, HELDOUT, 0), "reach", "holds 1 rate of 0; rates must"),
    "NaN": (lambda r: _with(r, HELDOUT, np.nan), "reach", "holds nan at (1, 2, 0)"),
    "negative": (lambda r: _with(r, HELDOUT, -1), "reach", "not log-rates"),
    "unknown key": (lambda r: r | {"rates": np.ones(3)}, "reach", "unknown keys rates"),
}


def test_check_submission_of_a_data_set_by_name(files, tmp_path, capsys):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for key, x in rates_of(files).items():
            file[f"other/{key}"] = x
    argv = ["check-submission", tmp_path / "s.h5", f"--data={files / 'reach.h5'}"]
    assert "has no group reach; groups present: other" in fails(capsys, *argv)
    assert not stndt(*argv, "--name=other")


@pytest.mark.parametrize("what", [None, *SUBMISSIONS])
def test_check_submission(what, files, tmp_path, capsys):
    change, group, message = SUBMISSIONS[what] if what else (lambda r: r, "reach", "")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for key, x in change(rates_of(files)).items():
            file[f"{group}/{key}"] = x
    argv = ["check-submission", tmp_path / "s.h5", f"--data={files / 'reach.h5'}"]
    if what is None:
        assert not stndt(*argv)
        assert "8 keys, all rates in counts per bin" in capsys.readouterr().out
    else:
        assert message in fails(capsys, *argv)


def test_export(files, tmp_path, capsys):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for key, x in rates_of(files).items():
            file[f"reach/{key}"] = x
    argv = ["export", tmp_path / "s.h5", f"--data={files / 'reach.h5'}"]
    assert not stndt(*argv, f"--out={tmp_path / 'r.h5'}")
    assert "18 x 8 bins of" in capsys.readouterr().out
    assert "ends in none of .nwb, .nc, .h5" in fails(capsys, *argv, f"--out={tmp_path / 'r.mat'}")


MISTAKES = {
    "nothing to prepare": (
        ["prepare", "mc_mase"],
        "mc_mase is nothing that can be prepared; choose",
    ),
    "flags missing": (
        ["prepare", "custom", "--nwb=x"],
        "--out and --align and --window are missing",
    ),
    "no folder": (
        ["prepare", "mc_maze", "--nwb=nowhere", "--out=x"],
        "nowhere is not a folder; give",
    ),
    "no file": (["inspect", "nowhere.nwb"], "nowhere.nwb: no such file"),
    "window": (
        ["prepare", "custom", "--nwb=x", "--align=y", "--window=-250", "--out=z"],
        "--window is '-250'; give two numbers",
    ),
    "split": (
        ["prepare", "arrays", "--spikes=x.npy", "--bin-ms=5", "--split=75/25", "--out=z"],
        "--split is '75/25'; give two fractions that add up to 1",
    ),
    "bin width": (["prepare", "mc_rtt", "--nwb=.", "--out=x", "--bin-ms=10"], "bin_ms is 10"),
    "no name": (["download", "--out=x"], "NAME is missing"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_sentence(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv, message = MISTAKES[what]
    assert message in fails(capsys, *argv)


def test_a_continuous_recording_needs_windows(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((100, 4), int))
    line = fails(
        capsys, "prepare", "arrays", f"--spikes={tmp_path / 'x.npy'}", "--bin-ms=5", "--out=x"
    )
    assert "give the length of the windows to chop it into with --window-ms" in line


def test_exported_rates_join_the_arrays_that_they_came_from(tmp_path, monkeypatch, capsys):
    """By README: the way from arrays to a file of rates, and back by trial and unit."""
    xarray = pytest.importorskip("xarray", reason="needs the extra export: xarray")
    pytest.importorskip("h5netcdf", reason="needs the extra export: h5netcdf")
    monkeypatch.chdir(tmp_path)
    own_recording(tmp_path)
    argv = ["prepare", "arrays", "--spikes=x.npz", "--bin-ms=20", "--out=data",
            "--trial-table=trials.csv", "--conditions=trials.csv:target", "--area=areas.txt",
            "--heldout=1,3"]  # fmt: skip
    assert not stndt(*argv)
    # A configuration with a name and settings of its own, made for another recording.
    files = ["--config.data.path=data/x.h5", "--config.data.targets=data/x_target.h5"]
    small = [f"--config.train.{key}=2" for key in ("epochs", "validate_every")]
    small += ["--config.model.heads=1", "--config.model.width=8", "--config.train.batch=4"]
    assert not stndt("train", "--config=mc_maze_large", *files, *small, "--workdir=run")
    assert not stndt("evaluate", "run")
    assert not stndt("check-submission", "run/submission.h5", "--data=data/x.h5")
    assert not stndt("export", "run/submission.h5", "--out=new/rates.nc")
    run = load_run("run")
    assert run.data.name == "x" and run.record["data"] == "x"
    original = list(np.load("x.npz").values())
    with xarray.open_dataset("new/rates.nc", engine="h5netcdf") as found:
        assert sorted(found.trial.values) == list(range(12))
        for r, counts in enumerate(original):
            [wanted] = run.predict(counts[None], units=range(5))
            for unit in range(5):
                column = list(run.data.units).index(unit)
                rates = found.rates.sel(trial=r, unit=unit)
                assert np.isnan(rates[len(counts) :]).all()
                np.testing.assert_allclose(rates[: len(counts)], wanted[:, column], rtol=1e-4)
            assert found.sel(trial=r).reward == r / 4 and found.sel(trial=r).start_s == 2.5 * r
            assert found.sel(trial=r).condition == ("left", "right", "")[r % 3]
        assert [str(found.area.sel(unit=n).values) for n in range(5)] == AREAS
    held_back = run.dataset("eval")
    np.testing.assert_array_equal(held_back.trial, run.data.eval.columns["source_trial"])
    np.testing.assert_array_equal(held_back.area, [AREAS[n] for n in held_back.neuron.values])
