"""Continuous recordings chopped and merged; files of arrays; LFADS' files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stndt_jax.data import arrays, count_files, lfads
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError

HALF_AN_HOUR = 30 * 60 * 200  # bins of 5 ms


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 19))
@settings(max_examples=100, deadline=None)
def test_windows_cover_every_bin(bins, window, overlap):
    window, overlap = min(window, bins), min(overlap, min(window, bins) - 1)
    starts = arrays.window_starts(bins, window, overlap)
    covered = np.zeros(bins, int)
    for first in starts:
        covered[first : first + window] += 1
    assert covered.min() >= 1
    assert starts[0] == 0 and starts[-1] + window == bins
    assert np.all(np.diff(starts) <= window - overlap)


@given(st.integers(3, 60), st.integers(1, 20), st.integers(0, 19))
@settings(max_examples=50, deadline=None)
def test_merging_undoes_chopping(bins, window, overlap):
    window, overlap = min(window, bins), min(overlap, min(window, bins) - 1)
    x_SN = np.random.default_rng(bins).poisson(2.0, (bins, 3)).astype(float)
    starts = arrays.window_starts(bins, window, overlap)
    again = arrays.merge(arrays.chop(x_SN, window, starts), starts, bins)
    np.testing.assert_allclose(again, x_SN, rtol=1e-12)


def test_merged_bins_are_weighted_means():
    """By hand: two windows of 4 bins that share 2, weights 1 2 2 1."""
    x = np.stack([np.full((4, 1), 3.0), np.full((4, 1), 9.0)])
    merged = arrays.merge(x, np.array([0, 2]), 7)[:, 0]
    np.testing.assert_allclose(
        merged, [3, 3, (2 * 3 + 9) / 3, (3 + 2 * 9) / 3, 9, 9, np.nan], rtol=1e-12
    )
    x[0, 2] = np.nan  # then the other window tells alone
    assert arrays.merge(x, np.array([0, 2]), 6)[2, 0] == 9


def test_half_an_hour_keeps_its_spikes():
    x_SN = np.random.default_rng(0).poisson(0.05, (HALF_AN_HOUR, 12)).astype(np.uint8)
    data = arrays.from_continuous(x_SN, bin_ms=5.0, window=200, overlap=40, name="long")
    every, starts = [], []
    for trials in (data.train, data.eval):
        every.append(trials.counts(0, data.heldout).astype(float))
        starts.append(np.round(trials.starts * 200).astype(int))
    merged = arrays.merge(np.concatenate(every), np.concatenate(starts), HALF_AN_HOUR)
    np.testing.assert_allclose(merged, x_SN[:, data.units], atol=1e-12)
    # No bin is both trained on and evaluated.
    assert starts[0].max() + 200 <= starts[1].min() == HALF_AN_HOUR * 3 // 4


def test_what_a_continuous_recording_must_be():
    x = np.zeros((100, 4), np.uint8)
    for options, message in (
        ({"window": 30}, "must hold a window of 30 bins"),
        (
            {"window": 10, "overlap": 10},
            "an overlap of 10 bins does not fit windows of 10 bins; choose 0 to 9",
        ),
        ({"window": 10, "behavior": np.zeros((99, 2))}, r"behavior has shape \(99, 2\)"),
    ):
        with pytest.raises(UserError, match=message):
            arrays.from_continuous(x, bin_ms=5, **options)
    with pytest.raises(UserError, match="for a continuous recording"):
        arrays.from_continuous(x[None], bin_ms=5, window=10)


def test_files_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(1, 2, 3))
    np.savez(tmp_path / "b.npz", np.zeros((2, 3)), np.ones((4, 3)))
    assert count_files.read(tmp_path / "a.npy").spikes.shape == (1, 2, 3)
    assert [len(x) for x in count_files.read(tmp_path / "b.npz").spikes] == [2, 4]
    (tmp_path / "c.npy").write_text("counts")
    for name, message in (("c.npy", "cannot be read as .npy or .npz"), ("d.npy", "no such file")):
        with pytest.raises(UserError, match=message):
            count_files.read(tmp_path / name)


def write_lfads(path: Path, **changes) -> np.ndarray:
    """A file as LFADS' own generators write it; returns the trials in their order."""
    x = np.random.default_rng(0).poisson(1.0, (10, 6, 4))
    places = {"train": [0, 2, 3, 5, 6, 8, 9], "valid": [1, 4, 7]}
    found: dict[str, object] = {"conversion_factor": 20.0}
    for split, rows in places.items():
        found |= {f"{split}_data": x[rows], f"{split}_truth": 20.0 * (x[rows] + 0.5)}
        found[f"{split}_inds"] = np.array(rows)
    with h5py.File(path, "w") as file:
        for key, value in (found | changes).items():
            if value is not None:
                file[key] = value
    return x


def test_lfads_files(tmp_path):
    x = write_lfads(tmp_path / "a.h5")
    assert lfads.is_lfads(tmp_path / "a.h5")
    data = lfads.from_lfads(tmp_path / "a.h5", bin_ms=10, heldout=[1])
    assert data.name == "a"
    for trials, rows in ((data.train, [0, 2, 3, 5, 6, 8, 9]), (data.eval, [1, 4, 7])):
        np.testing.assert_array_equal(trials.counts(0, 1), x[rows][..., [0, 2, 3, 1]])
        np.testing.assert_allclose(trials.rates, x[rows][..., [0, 2, 3, 1]] + 0.5, rtol=1e-6)


def test_lfads_files_may_hold_less(tmp_path):
    none = dict.fromkeys(("train_truth", "valid_truth", "train_inds", "conversion_factor"))
    x = write_lfads(tmp_path / "a.h5", **none)
    data = lfads.from_lfads(tmp_path / "a.h5", bin_ms=10, heldout=[3])
    np.testing.assert_array_equal(data.eval.counts(0, 1), x[[1, 4, 7]])
    assert data.train.rates is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid_data": None}, "valid_data missing"),
        ({"valid_data": np.zeros((3, 5, 4))}, "with the same bins and neurons"),
        (
            {"valid_truth": np.zeros((3, 5, 4))},
            r"train_truth has shape .* and valid_truth \(3, 5, 4",
        ),
        (
            {"valid_inds": np.arange(2)},
            "valid_inds holds 2 positions, but valid_data holds 3 trial",
        ),
    ],
)
def test_broken_lfads_files(changes, message, tmp_path):
    write_lfads(tmp_path / "a.h5", **changes)
    with pytest.raises(UserError, match=message):
        lfads.from_lfads(tmp_path / "a.h5", bin_ms=10)


def test_files_of_lfads_torch(tmp_path):
    """What is seen is the first bins and neurons of what is reconstructed."""
    x = np.random.default_rng(0).poisson(1.0, (10, 6, 5))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split, rows in (("train", slice(7)), ("valid", slice(7, 10))):
            file[f"{split}_recon_data"] = x[rows]
            file[f"{split}_encod_data"] = x[rows, :4, :3]
            file[f"{split}_behavior"] = np.cumsum(x[rows, :, :2], axis=1)
    data = arrays.from_file(tmp_path / "a.h5", bin_ms=10)
    assert (data.heldin, data.heldout, data.bins_observed, data.bins_forward) == (3, 2, 4, 2)
    np.testing.assert_array_equal(data.train.counts(2, 2), x[:7])
    np.testing.assert_array_equal(data.eval.counts(2, 2), x[7:])
    np.testing.assert_array_equal(data.eval.behavior, np.cumsum(x[7:, :, :2], axis=1)[:, :4])
    with pytest.raises(UserError, match=r"says itself what --heldout says"):
        arrays.from_file(tmp_path / "a.h5", bin_ms=10, heldout=0.5)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["valid_encod_data"][0, 0, 0] = 99
    with pytest.raises(UserError, match=r"valid_encod_data are not the first bins and neurons of"):
        arrays.from_file(tmp_path / "a.h5", bin_ms=10)


def test_zeros_alone_are_doubtful(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((8, 6, 5)))
    with pytest.warns(UserWarning, match=r"x.npy holds no spike, only zeros; check the array"):
        arrays.from_file(tmp_path / "x.npy", bin_ms=5)
    np.save(tmp_path / "y.npy", np.ones((40, 4)))
    with pytest.raises(UserError, match="--window-ms is nan; give a length in ms"):
        arrays.from_file(tmp_path / "y.npy", bin_ms=5, window_ms=np.nan)


UNUSED = [
    ("trials.npy", {"window_ms": 20.0}, "holds trials, on which window_ms has no effect"),
    ("trials.npy", {"overlap_ms": 5.0}, "overlap_ms has no effect"),
    (
        "long.npy",
        {"beside": arrays.Beside(conditions="c.npy")},
        "a continuous recording, on which conditions has no",
    ),
    ("long.npy", {"bins_forward": 2}, "bins_forward has no effect"),
    ("long.npy", {}, "with --window-ms"),
    ("lfads.h5", {"evaluated": 0.5}, "trials in the form of LFADS, on which evaluated has no"),
    ("lfads.h5", {"beside": arrays.Beside(conditions="c.npy")}, "conditions has no effect"),
]


@pytest.mark.parametrize(("name", "options", "message"), UNUSED)
def test_options_that_do_not_apply_to_a_file_are_refused(name, options, message, tmp_path):
    np.save(tmp_path / "trials.npy", np.ones((6, 4, 5), np.uint8))
    np.save(tmp_path / "long.npy", np.ones((40, 5), np.uint8))
    with h5py.File(tmp_path / "lfads.h5", "w") as file:
        file["train_data"], file["valid_data"] = np.ones((6, 4, 5)), np.ones((2, 4, 5))
    with pytest.raises(UserError, match=message):
        arrays.from_file(tmp_path / name, bin_ms=5.0, **options)


def test_a_recording_from_a_file_is_that_from_its_array(tmp_path):
    rng = np.random.default_rng(0)
    long, trials = rng.poisson(1.0, (60, 5)), rng.poisson(1.0, (8, 6, 5))
    np.save(tmp_path / "long.npy", long)
    np.save(tmp_path / "trials.npy", trials)
    found = arrays.from_file(
        tmp_path / "long.npy", bin_ms=5.0, window_ms=20.0, overlap_ms=10.0, evaluated=0.5
    )
    wanted = arrays.from_continuous(
        long, bin_ms=5.0, window=4, overlap=2, evaluated=0.5, name="long"
    )
    assert found.fingerprint() == wanted.fingerprint()
    found = arrays.from_file(tmp_path / "trials.npy", bin_ms=5.0, name="x", bins_forward=2, seed=3)
    wanted = SpikeData.from_arrays(trials, bin_ms=5.0, name="x", bins_forward=2, seed=3)
    assert found.fingerprint() == wanted.fingerprint()


def test_tables_of_units_hold_units_out(tmp_path):
    """By the column held_out, by identifiers and by area; of a continuous recording as well."""
    long = np.random.default_rng(0).poisson(1.0, (60, 5))
    np.savez(tmp_path / "named.npz", counts=long, other=np.ones(3))
    table = "unit,area,held_out\n7,V1,0\n8,V2,1\n9,V1,0\n10,V4,1\n11,V1,0\n"
    (tmp_path / "units.csv").write_text(table)
    beside = arrays.Beside(unit_table=str(tmp_path / "units.csv"))
    spikes = tmp_path / "named.npz:counts"
    for heldout, wanted in ((None, [8, 10]), ("7,11", [7, 11]), ("area=V4", [10])):
        data = arrays.from_file(
            spikes, bin_ms=5.0, window_ms=20.0, evaluated=0.5, heldout=heldout, beside=beside
        )
        assert data.name == "named" and list(data.units[data.heldin :]) == wanted
        held_in = [unit for unit in (7, 8, 9, 10, 11) if unit not in wanted]
        assert list(data.units[: data.heldin]) == held_in
        areas = {7: "V1", 8: "V2", 9: "V1", 10: "V4", 11: "V1"}
        assert list(data.areas) == [areas[unit] for unit in data.units]
        columns = [unit - 7 for unit in data.units]
        np.testing.assert_array_equal(data.train.counts(0, data.heldout)[0], long[:4, columns])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluated": "1,2"}, "a continuous recording, on which evaluated has no effect"),
        ({"beside": {"trial_table": "t.csv"}}, "on which trial_table has no effect"),
        ({"beside": {"unit_table": "u.csv", "area": "a.txt"}}, "u.csv has a column area, and"),
        ({"beside": {"area": "a.txt"}}, r"'area' has shape \(3,\)"),
    ],
)
def test_tables_that_do_not_fit_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("long.npy", np.ones((40, 5), np.uint8))
    (tmp_path / "u.csv").write_text("area\n" + "V1\n" * 5)
    (tmp_path / "a.txt").write_text("V1\n" * 3)
    given = {**options, "beside": arrays.Beside(**options.get("beside", {}))}
    with pytest.raises(UserError, match=message):
        arrays.from_file(Path("long.npy"), bin_ms=5.0, window_ms=20.0, **given)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": np.ones((9, 3)), "b": np.ones((9, 2))}, r"no trials: a \(9, 3\), b \(9, 2\); name"),
        ({"a": np.ones(4), "b": np.ones((4, 2))}, "for example .*x.npz:b"),
    ],
)
def test_named_arrays_are_no_trials(found, message, tmp_path):
    np.savez(tmp_path / "x.npz", **found)
    with pytest.raises(UserError, match=message):
        count_files.read(tmp_path / "x.npz")
    np.testing.assert_array_equal(count_files.read(f"{tmp_path / 'x.npz'}:b").spikes, found["b"])
    with pytest.raises(UserError, match="has no array c; it holds a"):
        count_files.read(f"{tmp_path / 'x.npz'}:c")
    np.savez(tmp_path / "y.npz", only=found["b"])
    np.testing.assert_array_equal(count_files.read(tmp_path / "y.npz").spikes, found["b"])
