"""Spike counts from files of every format, each compared with the array that it was made of."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
import scipy.io
import scipy.sparse

from stndt_jax.data import arrays, behavior, count_files
from stndt_jax.errors import UserError

X = np.random.default_rng(0).poisson(0.7, (8, 6, 5))
ROWS = [X[r, : 3 + r % 3] for r in range(8)]


def objects(items: list) -> np.ndarray:
    found = np.empty(len(items), object)
    for number, item in enumerate(items):
        found[number] = item
    return found


def write_mat73(path: Path, **given: object) -> None:
    """As MATLAB writes version 7.3: axes reversed, cells as references, classes as attributes."""
    with h5py.File(path, "w") as file:

        def put(name: str, value: object) -> h5py.Dataset:
            if isinstance(value, list):
                cells = [put(f"#refs#/{name}{k}", cell).ref for k, cell in enumerate(value)]
                data = np.array(cells, h5py.ref_dtype)[:, None]
                item = file.create_dataset(name, data=data)
                item.attrs["MATLAB_class"] = np.bytes_(b"cell")
                return item
            x = np.atleast_2d(np.asarray(value, float))
            item = file.create_dataset(name, data=x.T)
            item.attrs["MATLAB_class"] = np.bytes_(b"double")
            return item

        for name, value in given.items():
            put(name, value)


def the_same(found: count_files.Counts, wanted: object) -> None:
    assert type(found.spikes) is type(wanted)
    for x, y in zip(found.spikes, wanted, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(x, y)


THREE = {
    "one array": lambda path: np.savez(path, whatever=X),
    "a name": lambda path: np.savez(path, spikes=X, vel=np.ones((8, 6, 2)), bin_size=0.02),
    "the only one with three axes": lambda path: np.savez(path, a=X, b=np.ones((4, 9)), c="text"),
    "MATLAB 5": lambda path: scipy.io.savemat(path, {"spikes": X, "rate": 30.0}),
    "MATLAB 5, compressed": lambda path: scipy.io.savemat(path, {"x": X}, do_compression=True),
    "MATLAB 7.3": lambda path: write_mat73(path, spikes=X, other=np.ones((3, 4))),
    "a structure": lambda path: scipy.io.savemat(path, {"data": {"spikes": X, "bin": 5.0}}),
    "HDF5": lambda path: h5py.File(path, "w").create_dataset("session/counts", data=X).file.close(),
}
ENDINGS = {"MATLAB": ".mat", "a structure": ".mat", "HDF5": ".h5"}


@pytest.mark.parametrize("what", THREE)
def test_counts_of_three_axes(what, tmp_path):
    ending = next((end for start, end in ENDINGS.items() if what.startswith(start)), ".npz")
    path = tmp_path / f"x{ending}"
    THREE[what](path)
    the_same(count_files.read(path), X)


RAGGED = {
    ".npz": lambda path: np.savez(path, *ROWS),
    ".npy": lambda path: np.save(path, objects(ROWS), allow_pickle=True),
    "named.npz": lambda path: np.savez(path, counts=objects(ROWS), dt=0.01),
    "end_to_end.npz": lambda path: np.savez(
        path, counts=np.concatenate(ROWS), trial_len=[len(row) for row in ROWS]
    ),
    "5.mat": lambda path: scipy.io.savemat(path, {"trials": objects(ROWS)}),
    "73.mat": lambda path: write_mat73(path, trials=ROWS),
    ".csv": lambda path: pandas.concat(
        [pandas.DataFrame(row).add_prefix("unit").assign(trial=r) for r, row in enumerate(ROWS)]
    ).to_csv(path, index=False),
}


@pytest.mark.parametrize("what", RAGGED)
def test_trials_of_unequal_length(what, tmp_path):
    path = tmp_path / f"x{what}"
    RAGGED[what](path)
    the_same(count_files.read(path), ROWS)


SPARSE = np.where(np.random.default_rng(1).random((90, 7)) < 0.05, 1, 0)
MATRIX = scipy.sparse.csc_matrix(1.0 * SPARSE)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.npy", lambda path: np.save(path, SPARSE)),
        (
            "x.mat",
            lambda path: scipy.io.savemat(path, {"x": MATRIX}),
        ),
        ("x.mat", lambda path: scipy.io.savemat(path, {"x": SPARSE.astype(np.int8)})),
        ("x.csv", lambda path: np.savetxt(path, SPARSE, "%d", delimiter=",")),
        ("x.tsv", lambda path: pandas.DataFrame(SPARSE).to_csv(path, sep="\t", index=False)),
        ("x.csv", lambda path: pandas.DataFrame(SPARSE).to_csv(path)),
    ],
)
def test_continuous_counts(name, write, tmp_path):
    write(tmp_path / name)
    the_same(count_files.read(tmp_path / name), SPARSE)


def test_a_sparse_matrix_of_version_73(tmp_path):
    matrix = scipy.sparse.csc_matrix(1.0 * SPARSE)
    with h5py.File(tmp_path / "x.mat", "w") as file:
        group = file.create_group("x")
        group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_(b"double"), 90
        group["data"], group["ir"], group["jc"] = matrix.data, matrix.indices, matrix.indptr
    found = count_files.read(tmp_path / "x.mat")
    the_same(found, SPARSE)
    assert isinstance(found.spikes, np.ndarray) and found.spikes.dtype == np.uint8


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet: pyarrow")
    pandas.DataFrame(SPARSE, columns=[f"n{k}" for k in range(7)]).to_parquet(tmp_path / "x.parquet")
    the_same(count_files.read(tmp_path / "x.parquet"), SPARSE)


def test_what_a_file_says_beside_its_counts(tmp_path):
    vel = np.random.default_rng(2).normal(size=(8, 6, 2))
    np.savez(tmp_path / "x.npz", spikes=X, bin_size=0.02, behavior=vel, subject="J")
    said: list[str] = []
    data = arrays.from_file(tmp_path / "x.npz", say=said.append)
    assert data.bin_ms == 20
    rows = data.eval.columns["source_trial"]
    np.testing.assert_array_equal(data.eval.behavior, vel[rows].astype(np.float32))
    assert said == [
        "x.npz: spikes (8, 6, 5) as spike counts",
        "x.npz: bin_size as the bin width, 20 ms",
        "x.npz: behavior (8, 6, 2) as behaviour",
        "x.npz: not used: subject",
    ]
    with pytest.raises(UserError, match=r"--bin-ms=5, but .* states bins of 20 ms; leave --bin-ms"):
        arrays.from_file(tmp_path / "x.npz", bin_ms=5)
    # One array by name: what lies beside it counts no more.
    assert arrays.from_file(tmp_path / "x.npz:spikes", bin_ms=5).train.behavior is None
    with pytest.raises(UserError, match=r"--bin-ms is missing, and .* does not state"):
        arrays.from_file(tmp_path / "x.npz:spikes")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("bin_ms", 10, 10), ("dt", 0.001, 1), ("bin_size", 20, 20), ("bin_width_s", 1.5, 1500)],
)
def test_bin_widths(name, value, wanted, tmp_path):
    np.savez(tmp_path / "x.npz", **{"spikes": X, name: np.array([[value]])})
    assert count_files.read(tmp_path / "x.npz").bin_ms == wanted


def test_a_table_with_times_states_the_bin_width_and_the_units(tmp_path):
    frame = pandas.DataFrame(SPARSE, columns=[f"unit_{k}" for k in (3, 9, 4, 1, 7, 5, 20)])
    frame.insert(0, "time", np.arange(90) * 0.025)
    frame.to_csv(tmp_path / "x.csv", index=False)
    data = arrays.from_file(tmp_path / "x.csv", window_ms=250.0)
    assert data.bin_ms == 25
    assert set(data.units) == {3, 9, 4, 1, 7, 5, 20}
    column = list(data.units).index(9)
    np.testing.assert_array_equal(data.train.counts(0, data.heldout)[0, :, column], SPARSE[:10, 1])


@pytest.mark.parametrize("axes", ["neurons,bins,trials", "trials,neurons,bins"])
def test_axes_in_another_order(axes, tmp_path):
    names = axes.split(",")
    order = [count_files.AXES.index(name) for name in names]
    np.save(tmp_path / "x.npy", np.transpose(X, order))
    the_same(count_files.read(tmp_path / "x.npy", count_files.parsed_axes(axes)), X)


def test_more_neurons_than_bins_is_doubtful(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 90), int))
    with pytest.warns(UserWarning, match="4 bins of 90 neurons; if it is 4 neurons of 90 bins"):
        arrays.from_file(tmp_path / "x.npy", bin_ms=5, window_ms=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = arrays.from_file(
            tmp_path / "x.npy", bin_ms=5, window_ms=50, axes=("neurons", "bins")
        )
    assert data.neurons == 4
    for words in ("neurons", "neurons,trials", "a,b,c"):
        with pytest.raises(UserError, match="names no axes"):
            count_files.parsed_axes(words)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.npy", lambda path: np.save(path, np.array(["a", "b"])), "x.npy holds texts; give num"),
        (
            "x.npy",
            lambda path: np.save(path, np.arange(9.0)),
            r"shape \(9,\).*stndt prepare spikes",
        ),
        ("x.csv", lambda path: path.write_text("1,2,3\n"), "holds 1 bin of 3 neurons, which is no"),
        (
            "x.csv",
            lambda path: path.write_text("unit,time\n1,.5\n"),
            "spike times .*prepare spikes",
        ),
        ("x.csv", lambda path: path.write_text("a,b\n1,x\n2,y\n"), "column b holds texts"),
        (
            "x.csv",
            lambda path: path.write_text("trial,a\n1,0\n2,1\n1,0\n"),
            "the rows of a trial are not together",
        ),
        ("x.mat", lambda path: path.write_bytes(b"MATLAB 5.0" + bytes(200)), "cannot be read as a"),
        (
            "x.mat",
            lambda path: scipy.io.savemat(path, {"a": objects([np.arange(9.0), np.arange(3.0)])}),
            "2 lists of numbers, not counts .* stndt prepare spikes",
        ),
        (
            "x.mat",
            lambda path: scipy.io.savemat(path, {"name": "text"}),
            "holds no array of numbers",
        ),
        ("x.npz", lambda path: np.savez(path), "holds no array of numbers"),
    ],
)
def test_what_holds_no_counts_says_so(name, write, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(UserError, match=message):
        count_files.read(tmp_path / name)


# Behaviour.


def test_samples_with_times_are_resampled_in_the_bins_of_trials(tmp_path):
    """A ramp: the mean over a bin is its value in the middle."""
    np.savez(tmp_path / "x.npz", *ROWS)
    starts = 1.0 + 0.5 * np.arange(8)
    times = np.arange(0, 8, 0.004)
    pandas.DataFrame({"start_s": starts}).to_csv(tmp_path / "t.csv", index=False)
    frame = pandas.DataFrame({"time": times, "vel_x": 3 * times, "vel_y": 1 - times})
    frame.to_csv(tmp_path / "vel.csv", index=False)
    beside = arrays.Beside(behavior=str(tmp_path / "vel.csv"), trial_table=str(tmp_path / "t.csv"))
    data = arrays.from_file(tmp_path / "x.npz", bin_ms=20, beside=beside)
    assert data.behavior_names == ("vel_x", "vel_y")
    assert data.train.behavior is not None
    for row, r in enumerate(data.train.columns["source_trial"]):
        middle = starts[r] + 0.02 * (np.arange(len(ROWS[r])) + 0.5)
        wanted = np.stack([3 * middle, 1 - middle], axis=1)
        np.testing.assert_allclose(data.train.behavior[row, : len(middle)], wanted, rtol=1e-5)
    without = arrays.Beside(behavior=str(tmp_path / "vel.csv"))
    with pytest.raises(UserError, match="the times of the trials are not known; give a column sta"):
        arrays.from_file(tmp_path / "x.npz", bin_ms=20, beside=without)


def test_rows_without_times_are_the_bins_of_all_trials(tmp_path):
    vel = np.arange(2.0 * sum(map(len, ROWS))).reshape(-1, 2)
    np.save(tmp_path / "vel.npy", vel)
    pandas.DataFrame(vel, columns=["a", "b"]).to_csv(tmp_path / "vel.csv", index=False)
    for name in ("vel.npy", "vel.csv"):
        found = behavior.from_file(str(tmp_path / name), ROWS, 5.0).values
        assert [len(row) for row in found] == [len(row) for row in ROWS]
        np.testing.assert_array_equal(np.concatenate(found), vel)
    np.save(tmp_path / "short.csv.npy", vel[:-1])
    with pytest.raises(UserError, match="has 30 rows, but the 8 trials have 31 bins together"):
        pandas.DataFrame(vel[:-1]).to_csv(tmp_path / "short.csv", index=False)
        behavior.from_file(str(tmp_path / "short.csv"), ROWS, 5.0)


def test_behaviour_is_not_taken_for_counts_of_the_same_file(tmp_path):
    vel = np.ones((31, 2))
    np.savez(tmp_path / "x.npz", counts=np.concatenate(ROWS), vel=vel, trial_len=[*map(len, ROWS)])
    with pytest.raises(UserError, match=r"no trials: counts .*, vel .*; name the one to read"):
        behavior.from_file(str(tmp_path / "x.npz"), ROWS, 5.0)
    found = behavior.from_file(f"{tmp_path / 'x.npz'}:vel", ROWS, 5.0).values
    assert [len(row) for row in found] == [len(row) for row in ROWS]


def test_angles_become_sine_and_cosine():
    degrees = np.array([[[0.0, 1], [90, 2]], [[359, 3], [180, 4]]])
    found, names = behavior.without_angles(
        degrees, ("heading", "speed"), behavior.parsed_angles(["heading:deg"])
    )
    assert names == ("sin_heading", "cos_heading", "speed")
    np.testing.assert_allclose(found[0, 1], [1, 0, 2], atol=1e-12)
    np.testing.assert_allclose(found[1, 1], [0, -1, 4], atol=1e-12)
    # Across the jump of a heading nothing jumps.
    assert np.abs(found[1, 0, :2] - found[0, 0, :2]).max() < 0.02
    with pytest.raises(UserError, match="reaches 359, more than a turn of 2 pi; write heading:deg"):
        behavior.without_angles(degrees, ("heading", "speed"), behavior.parsed_angles(["heading"]))
    with pytest.raises(UserError, match="no such dimension: heading, speed"):
        behavior.without_angles(degrees, ("heading", "speed"), behavior.parsed_angles(["angle"]))
    with pytest.raises(UserError, match="rad or deg"):
        behavior.parsed_angles(["heading:grad"])
