"""Recordings from arrays: what goes where, padding, gaps, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers import small_models
from hypothesis import given, settings
from hypothesis import strategies as st

import stndt_jax
from stndt_jax.data import hdf5
from stndt_jax.data.summary import mean_rates_hz
from stndt_jax.data.trials import SpikeData, evenly_spaced
from stndt_jax.errors import UserError

R, T, N = 7, 6, 5


def counts(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.5, shape)


def test_the_package_offers_it():
    assert stndt_jax.SpikeData is SpikeData
    with pytest.raises(AttributeError, match="SpikeDatum"):
        _ = stndt_jax.SpikeDatum


def test_every_count_stands_where_it_belongs():
    x = counts(R, T, N)
    behavior = np.random.default_rng(1).normal(size=(R, T, 2))
    data = SpikeData.from_arrays(
        x, bin_ms=10, heldout=[3, 0], evaluated=[6, 2], bins_forward=2, behavior=behavior,
        conditions=np.arange(R) % 2, rates=x + 0.5, starts=np.arange(R) * 2.0,
        units=[10, 11, 12, 13, 14],
    )  # fmt: skip
    np.testing.assert_array_equal(data.units, [11, 12, 14, 10, 13])
    assert (data.heldin, data.heldout, data.bins_observed, data.bins_forward) == (3, 2, 4, 2)
    for trials, rows in ((data.train, [0, 1, 3, 4, 5]), (data.eval, [2, 6])):
        for i, r in enumerate(rows):
            for n, unit in enumerate(data.units - 10):
                block = "heldin" if n < 3 else "heldout"
                k = n if n < 3 else n - 3
                for t in range(T):
                    name, at = (block, t) if t < 4 else (f"{block}_forward", t - 4)
                    assert getattr(trials, name)[i, at, k] == x[r, t, unit]
                    assert trials.rates[i, t, n] == x[r, t, unit] + 0.5
            np.testing.assert_allclose(trials.behavior[i], behavior[r, :4], rtol=1e-6)
            assert trials.conditions[i] == r % 2
            assert trials.starts[i] == 2.0 * r
        assert trials.recorded is None
    assert not data.gaps


@given(st.lists(st.integers(3, 9), min_size=4, max_size=8), st.integers(0, 2), st.data())
@settings(max_examples=40, deadline=None)
def test_padding_is_recorded_nowhere_and_counts_are_conserved(lengths, forward, draw):
    rows = [counts(length, N, seed=k) for k, length in enumerate(lengths)]
    seed = draw.draw(st.integers(0, 99))
    data = SpikeData.from_arrays(rows, bin_ms=5, bins_forward=forward, seed=seed)
    total = recorded = 0
    for trials in (data.train, data.eval):
        x = trials.counts(data.bins_forward, data.heldout)
        known = trials.has_count(data.bins_forward, data.heldout)
        assert not x[~known].any()
        total, recorded = total + int(x.sum()), recorded + int(known.sum())
    assert total == sum(int(row.sum()) for row in rows)
    assert recorded == sum(lengths) * N
    observed = [length - forward for length in lengths]
    assert data.gaps == (len(set(observed)) > 1)


@pytest.mark.parametrize("forward", [0, 2])
def test_padding_is_behind_a_trial_or_before_it_where_forward_bins_follow(forward):
    rows = [counts(length, N) for length in (4, 6, 6, 6)]
    data = SpikeData.from_arrays(rows, bin_ms=5, evaluated=[3], bins_forward=forward)
    known = data.train.has_count(data.bins_forward, data.heldout)[0, :, 0]
    np.testing.assert_array_equal(known, [0, 0, 1, 1, 1, 1] if forward else [1, 1, 1, 1, 0, 0])


def test_nan_counts_are_gaps_and_survive_a_file(tmp_path):
    x = counts(R, T, N).astype(float)
    x[1, 2:4] = np.nan
    x[6, 1, 0] = np.nan
    data = SpikeData.from_arrays(x, bin_ms=5, heldout=[4], evaluated=[5, 6], starts=np.arange(R))
    assert data.gaps
    hdf5.write(data, tmp_path / "in.h5")
    hdf5.write_targets(data, tmp_path / "out.h5")
    again = hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5")
    assert again.fingerprint() == data.fingerprint()
    alone = hdf5.read(tmp_path / "in.h5")
    assert alone.gaps
    np.testing.assert_array_equal(alone.eval.recorded, data.eval.recorded)
    assert np.isnan(hdf5.targets_of(data)["eval_spikes_heldout"]).sum() == 0


def test_a_file_with_gaps_must_fit_its_counts(tmp_path):
    rows = [counts(length, N) for length in (4, 6, 6, 6)]
    hdf5.write(SpikeData.from_arrays(rows, bin_ms=5, evaluated=[3]), tmp_path / "in.h5")
    with h5py.File(tmp_path / "in.h5", "r+") as file:
        recorded = file["train_valid"][:, :-1]
        del file["train_valid"]
        file["train_valid"] = recorded
    with pytest.raises(UserError, match=r"train_valid has shape .*5 bins, but the counts has 6"):
        hdf5.read(tmp_path / "in.h5")


def test_fractions_are_drawn_by_the_seed():
    draws = [SpikeData.from_arrays(counts(20, 3, 16), bin_ms=5, seed=s).units for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    data = SpikeData.from_arrays(counts(20, 3, 16), bin_ms=5)
    assert (len(data.eval), data.heldout) == (5, 4)


def test_a_subset_keeps_all_arrays_of_its_trials():
    data = small_models.recording(gaps=True)
    some = data.eval.subset(np.array([4, 1]))
    assert len(some) == 2 and some.rates is None and some.recorded is not None
    np.testing.assert_array_equal(some.heldout[1], data.eval.heldout[1])
    np.testing.assert_array_equal(some.conditions, data.eval.conditions[[4, 1]])


def test_evenly_spaced_indices():
    np.testing.assert_array_equal(evenly_spaced(3, 5), [0, 1, 2])
    np.testing.assert_array_equal(evenly_spaced(9, 3), [0, 4, 8])


def test_mean_rates_are_over_recorded_bins():
    data = small_models.recording(gaps=True)
    counts = np.concatenate(
        [
            np.concatenate([data.train.heldin, data.train.heldout], axis=2),
            np.concatenate([data.train.heldin_forward, data.train.heldout_forward], axis=2),
        ],
        axis=1,
    )
    assert data.train.recorded is not None
    seconds = data.train.recorded.sum(axis=(0, 1)) * 0.01
    np.testing.assert_allclose(mean_rates_hz(data), counts.sum(axis=(0, 1)) / seconds)


GOOD = {"bin_ms": 5.0}
REFUSED = {
    "rates for counts": (counts(R, T, N) + 0.5, {}, "whole numbers"),
    "negative": (counts(R, T, N) - 1, {}, "must be 0 or more"),
    "two axes": (counts(T, N), {}, r"spikes has shape \(6, 5\)"),
    "uneven neurons": (
        [counts(T, 3), counts(T, 4)],
        {},
        "spikes of trial 1 has shape .* 4 neurons, but trial 0 has 3",
    ),
    "no trials": ([], {}, "spikes contains no trial"),
    "text": ([np.array([["a"]])], {}, "has type <U1"),
    "bin width": (counts(R, T, N), {"bin_ms": 0}, "bin_ms is 0"),
    "all held out": (counts(R, T, N), {"heldout": 1.0}, "leaves at least one of the neurons"),
    "no such neuron": (counts(R, T, N), {"heldout": [5]}, "heldout lists 5, but"),
    "no trial left": (counts(R, T, N), {"evaluated": range(R)}, "some but not all"),
    "forward": (counts(R, T, N), {"bins_forward": 6}, "choose 0 to 5 of the 6 bins"),
    "behaviour": (
        counts(R, T, N),
        {"behavior": np.zeros((R, T - 1, 2))},
        r"behavior has shape \(7, 5, 2\), but the spikes require \(7, 6\)",
    ),
    "conditions": (counts(R, T, N), {"conditions": [0, 1]}, r"conditions has shape \(2,\)"),
    "units": (counts(R, T, N), {"units": [1, 2]}, r"units has shape \(2,\)"),
    "trials of none": (counts(R, T, N)[:0], {}, "that is no trials"),
    "nothing recorded": (np.full((R, T, N), np.nan), {}, "NaN everywhere"),
    **{
        f"{option} {number}": (counts(R, T, N), {option: value}, message)
        for number, (option, value, message) in enumerate(
            [
                ("conditions", np.zeros((R, 2), int), r"conditions has shape \(7, 2\)"),
                ("units", np.arange(N) + 0.5, "units holds 0.5"),
                ("units", [1] * N, "an identifier twice"),
                ("starts", [np.nan] * R, "starts holds nan"),
                ("rates", -np.ones((R, T, N)), "rates holds -1.0"),
                ("rates", np.full((R, T, N), np.nan), "rates holds nan"),
                ("behavior", np.full((R, T, 2), np.inf), "behavior holds inf"),
                ("heldout", 2, "a fraction below 1 .*list of indices"),
                ("heldout", np.ones(N + 1, bool), "boolean mask of the 5 neurons"),
                ("bin_ms", np.inf, "bin_ms is inf"),
                ("seed", -1, "seed is -1; give a whole number from 0"),
                ("name", "a/b", "without /"),
                ("name", "", "name is ''"),
            ]
        )
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused(what):
    x, options, message = REFUSED[what]
    with pytest.raises(UserError, match=message):
        SpikeData.from_arrays(x, **(GOOD | options))


def test_masks_are_lists_of_indices():
    masks = {"heldout": np.arange(N) % 2 == 1, "evaluated": np.arange(R) > 4}
    lists = {"heldout": [1, 3], "evaluated": list(range(5, R))}
    x = counts(R, T, N)
    found = [SpikeData.from_arrays(x, bin_ms=5, **options) for options in (masks, lists)]
    assert found[0].fingerprint() == found[1].fingerprint()


def test_a_neuron_without_counts_was_not_recorded(tmp_path):
    x = counts(R, T, N).astype(float)
    x[..., 0], x[..., 1] = np.nan, 0
    hdf5.write(SpikeData.from_arrays(x, bin_ms=5, heldout=[4]), tmp_path / "x.h5")
    with pytest.warns(UserWarning) as warned:
        hdf5.read(tmp_path / "x.h5")
    messages = sorted(str(one.message).partition(": ")[2] for one in warned)
    assert messages == [
        "1 of 5 neurons never spike in the training trials: unit 1",
        "1 of 5 neurons were not recorded in the training trials: unit 0",
    ]


def test_behavior_of_one_dimension_may_be_flat_in_every_trial():
    lengths = (3, 5, 4, 5)
    x = [counts(n, N) for n in lengths]
    flat = [np.arange(n, dtype=float) for n in lengths]
    options: dict = {"bin_ms": 5, "heldout": [1], "evaluated": [2], "behavior_names": "speed"}
    found = [
        SpikeData.from_arrays(x, behavior=y, **options) for y in (flat, [y[:, None] for y in flat])
    ]
    for data in found:
        np.testing.assert_array_equal(data.eval.behavior[0, :, 0], [0, 1, 2, 3, np.nan])
        assert data.behavior_names == ("speed",)


def test_values_of_trials_that_could_be_values_of_bins_are_doubted():
    with pytest.warns(UserWarning, match=r"6 values of every trial; .* give \(7, 6, 1\)"):
        SpikeData.from_arrays(counts(R, T, N), bin_ms=5, behavior=np.zeros((R, T)))
