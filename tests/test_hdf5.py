"""Reading and writing recordings: against files made by hand, nlb_tools and recorded data."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
from helpers.recordings import (
    CONDITIONS,
    N_IN,
    N_OUT,
    R_EVAL,
    R_TRAIN,
    T_FWD,
    T_OBS,
    C,
    assert_same,
    both,
    changed,
    input_arrays,
    ragged,
    store,
    target_arrays,
    toy,
)
from nlb_tools import evaluation

from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError

# Reading


def test_reads_what_stands_in_the_files(tmp_path):
    data = both(tmp_path)
    inputs, targets = input_arrays(), target_arrays()
    for name in ("heldin", "heldout", "heldin_forward", "heldout_forward"):
        for split in ("train", "eval"):
            key = f"{split}_spikes_{name}"
            read = getattr(getattr(data, split), name)
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, (inputs | targets)[key], err_msg=key)
    np.testing.assert_array_equal(data.train.behavior, inputs["train_behavior"])
    np.testing.assert_array_equal(data.eval.behavior, targets["eval_behavior"])
    np.testing.assert_array_equal(data.psth, targets["psth"])
    np.testing.assert_array_equal(data.train.conditions, [0, 1, 2, 0, 1, 1])
    np.testing.assert_array_equal(data.eval.conditions, [1, -1, 0, 1])
    assert data.train.conditions.dtype == np.int32
    assert (data.name, data.bin_ms) == ("mc_maze", 5)
    assert (data.bins_observed, data.bins_forward, data.bins) == (5, 2, 7)
    assert (data.heldin, data.heldout, data.neurons) == (3, 2, 5)
    assert (len(data.train), len(data.eval)) == (6, 4)
    assert data.eval.recorded is None and data.train.rates is None


def test_without_targets_what_is_evaluated_is_unknown(tmp_path):
    data = hdf5.read(store(tmp_path / "area2_bump.h5", input_arrays()))
    assert data.name == "area2_bump" and data.bins_forward == T_FWD
    assert data.eval.heldout is None and data.eval.heldin_forward is None
    assert data.eval.behavior is None and data.psth is None and data.train.conditions is None
    known = data.eval.has_count(data.bins_forward, data.heldout)
    assert known[:, :T_OBS, :N_IN].all() and known.sum() == R_EVAL * T_OBS * N_IN


def test_counts_and_known_put_every_block_in_its_place(tmp_path):
    targets = target_arrays()
    targets["eval_spikes_heldout"][1, 2, 0] = np.nan
    del targets["eval_spikes_heldin_forward"]
    data = both(tmp_path, targets=targets)
    counts = data.eval.counts(data.bins_forward, data.heldout)
    known = data.eval.has_count(data.bins_forward, data.heldout)
    assert counts.shape == known.shape == (R_EVAL, 7, 5)
    arrays = input_arrays() | targets
    for r, t, n in np.ndindex(counts.shape):
        key = "eval_spikes_" + ("heldin" if n < N_IN else "heldout")
        key += "" if t < T_OBS else "_forward"
        place = (r, t if t < T_OBS else t - T_OBS, n if n < N_IN else n - N_IN)
        value = arrays[key][place] if key in arrays else np.nan
        assert known[r, t, n] == (not np.isnan(value))
        assert counts[r, t, n] == (0 if np.isnan(value) else value)


def test_a_file_without_forward_keys_has_no_forward_bins(tmp_path):
    inputs = {k: x for k, x in input_arrays().items() if not k.endswith("_forward")}
    data = both(tmp_path, inputs)  # whose targets do have them
    assert data.bins_forward == 0 and data.bins == T_OBS
    for trials in (data.train, data.eval):
        assert trials.heldin_forward.shape == (len(trials), 0, N_IN)
        assert trials.heldout_forward.shape == (len(trials), 0, N_OUT)
        assert trials.has_count(0, N_OUT).all()
    assert not any("forward" in key for key in hdf5.targets_of(data))


def test_held_out_counts_may_stand_in_the_input_file(tmp_path):
    inputs = input_arrays() | {"eval_spikes_heldout": np.ones((R_EVAL, T_OBS, N_OUT))}
    data = both(tmp_path, inputs)
    assert (data.eval.heldout == 1).all()
    np.testing.assert_array_equal(
        data.eval.heldout_forward, target_arrays()["eval_spikes_heldout_forward"]
    )


def test_targets_that_are_nan_are_not_recorded_and_stay_nan(tmp_path):
    targets = target_arrays()
    targets["eval_spikes_heldout"][2, :3] = np.nan
    targets["eval_spikes_heldout_forward"][0, 1, 1] = np.nan
    data = both(tmp_path, targets=targets)
    assert (data.eval.recorded.sum(), data.eval.recorded.size) == (140 - 7, 140)
    assert not data.eval.recorded[2, :3, N_IN:].any() and not data.eval.recorded[0, 6, 4]
    again = hdf5.targets_of(data)
    for key in ("eval_spikes_heldout", "eval_spikes_heldout_forward"):
        np.testing.assert_array_equal(again[key], targets[key])


def test_behavior_of_whole_trials_and_unknown_behavior(tmp_path):
    inputs, targets = input_arrays(), target_arrays()
    inputs["train_behavior"] = np.arange(R_TRAIN * 5.0).reshape(R_TRAIN, 5)
    inputs["train_behavior"][3] = np.nan
    targets["eval_behavior"] = np.ones((R_EVAL, 5))
    data = both(tmp_path, inputs, targets)
    assert data.train.behavior.shape == (R_TRAIN, 5) and data.train.behavior.dtype == np.float32
    assert np.isnan(data.train.behavior[3]).all() and data.eval.behavior.shape == (R_EVAL, 5)


def test_conditions_of_the_input_file_serve_where_targets_have_none(tmp_path):
    inputs = input_arrays() | {"train_conditions": np.array([2, 1, 0, 2, 1, -1])}
    data = hdf5.read(store(tmp_path / "in.h5", inputs))
    np.testing.assert_array_equal(data.train.conditions, [2, 1, 0, 2, 1, -1])
    inputs["train_cond_idx"] = ragged([[5], [1, 4], [0, 3]])
    inputs["psth"] = np.ones((C, T_OBS, N_IN + N_OUT))
    inputs["eval_cond_idx"] = ragged([[], [], [0]])
    data = hdf5.read(store(tmp_path / "listed.h5", inputs))
    np.testing.assert_array_equal(data.train.conditions, [2, 1, -1, 2, 1, 0])
    both_number = both(tmp_path / "both", inputs)
    np.testing.assert_array_equal(both_number.train.conditions, [0, 1, 2, 0, 1, 1])
    np.testing.assert_array_equal(both_number.eval.conditions, [1, -1, 0, 1])
    np.testing.assert_array_equal(both_number.psth, target_arrays()["psth"])


def test_large_counts_are_uint16(tmp_path):
    inputs = input_arrays()
    inputs["train_spikes_heldout"][1, 1, 1] = 256
    inputs["eval_spikes_heldin"][1, 1, 1] = 65535
    data = hdf5.read(store(tmp_path / "in.h5", inputs))
    assert data.train.heldout.dtype == data.eval.heldin.dtype == np.uint16
    assert data.train.heldin.dtype == np.uint8
    assert data.train.heldout[1, 1, 1] == 256 and data.eval.heldin[1, 1, 1] == 65535
    assert data.train.counts(T_FWD, N_OUT).dtype == np.uint16


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i4", "<i8", "f2", ">f8"])
def test_counts_may_be_stored_as_any_number(tmp_path, dtype):
    inputs = input_arrays()
    inputs["train_spikes_heldin"] = inputs["train_spikes_heldin"].clip(0, 1)
    expected = inputs["train_spikes_heldin"]
    inputs["train_spikes_heldin"] = expected.astype(dtype)
    data = hdf5.read(store(tmp_path / "in.h5", inputs))
    np.testing.assert_array_equal(data.train.heldin, expected)
    assert data.train.heldin.dtype == np.uint8


def test_dead_neurons_are_named(tmp_path):
    inputs = input_arrays()
    inputs["train_spikes_heldin"][..., 2] = inputs["train_spikes_heldin_forward"][..., 2] = 0
    inputs["train_spikes_heldout"][..., 0] = inputs["train_spikes_heldout_forward"][..., 0] = 0
    path = store(tmp_path / "in.h5", inputs)
    with pytest.warns(UserWarning, match=r"in\.h5: 2 of 5 .*training.*: held-in 2, held-out 0$"):
        hdf5.read(path)


def test_a_neuron_that_spikes_in_forward_bins_only_is_not_dead(tmp_path):
    inputs = input_arrays()
    inputs["train_spikes_heldin"][..., 2] = 0
    hdf5.read(store(tmp_path / "in.h5", inputs))  # a warning would be an error


# Groups, names and bin widths


@pytest.mark.parametrize(
    ("group", "asked", "name", "bin_ms"),
    [
        ("mc_rtt", {}, "mc_rtt", 5),
        ("mc_rtt_20", {}, "mc_rtt", 20),
        ("mc_rtt_20", {"name": "mc_rtt"}, "mc_rtt", 20),
        ("mc_rtt_20", {"name": "mc_rtt_20"}, "mc_rtt", 20),
        ("mc_rtt_20", {"name": "mc_rtt", "bin_ms": 20}, "mc_rtt", 20),
        ("mc_rtt", {"bin_ms": 10}, "mc_rtt", 10),
    ],
)
def test_the_target_group_tells_name_and_bin_width(tmp_path, group, asked, name, bin_ms):
    source = store(tmp_path / "in.h5", input_arrays())
    target = store(tmp_path / "out.h5", target_arrays(), group)
    data = hdf5.read(source, target, **asked)
    assert (data.name, data.bin_ms) == (name, bin_ms)


def test_one_target_file_may_hold_many_recordings(tmp_path):
    source = store(tmp_path / "in.h5", input_arrays(), "area2_bump_20")
    other = {k: x[:2] for k, x in target_arrays().items()}
    target = store(tmp_path / "out.h5", other, "mc_maze")
    store(target, other, "area2_bump")
    store(target, target_arrays(), "area2_bump_20")
    for asked in ({}, {"name": "area2_bump", "bin_ms": 20}):
        data = hdf5.read(source, target, **asked)
        assert (data.name, data.bin_ms) == ("area2_bump", 20)
    assert len(hdf5.read_targets(target, "area2_bump_20")["psth"]) == C
    assert len(hdf5.read_targets(target, "area2_bump")["psth"]) == 2


@pytest.mark.parametrize("group", ["v1", "v1_20"])
def test_the_name_in_a_configuration_never_overrides_the_files(tmp_path, group):
    source = store(tmp_path / "in.h5", input_arrays(), name="v1", bin_ms=20.0)
    target = store(tmp_path / "out.h5", target_arrays(), group)
    data = hdf5.read(source, target, expected="mc_maze_large")
    assert (data.name, data.bin_ms) == ("v1", 20)
    assert hdf5.stated_name(source, target, "mc_maze_large") == "v1"
    assert hdf5.read(source, expected="mc_maze_large_20").name == "v1"
    found = hdf5.read_targets(target, "v1", expected="mc_maze_large", bin_ms=20)
    np.testing.assert_array_equal(found["psth"], target_arrays()["psth"])


def test_the_name_in_a_configuration_serves_files_without_one(tmp_path):
    bare = store(tmp_path / "in.h5", input_arrays())
    assert hdf5.read(bare, expected="mc_maze_large").name == "mc_maze_large"
    assert hdf5.read(bare).name == "in"
    other = {k: x[:2] for k, x in target_arrays().items()}
    target = store(tmp_path / "out.h5", other, "mc_maze")
    assert hdf5.stated_name(bare, target, "mc_maze_large") == "mc_maze"
    store(target, target_arrays(), "mc_maze_large")
    assert hdf5.read(bare, target, expected="mc_maze_large").name == "mc_maze_large"
    found = hdf5.read_targets(target, "v1", expected="mc_maze_large", bin_ms=5)
    assert len(found["psth"]) == C
    with pytest.raises(UserError, match="no group v1; present: mc_maze, mc_maze_large"):
        hdf5.read_targets(target, "v1", bin_ms=5)


def test_a_recording_is_the_one_that_earlier_versions_read():
    data = toy()
    units, starts = np.arange(N_IN + N_OUT), np.arange(R_TRAIN) / 2.0
    now = dataclasses.replace(
        data, units=units, train=dataclasses.replace(data.train, starts=starts)
    )
    assert data.matches(data.fingerprint()) and now.matches(data.fingerprint())
    renamed = dataclasses.replace(data, name="mc_maze_large").fingerprint()
    assert now.matches(renamed, "mc_maze_large") and not now.matches(renamed)
    other = changed(data, heldin=data.eval.heldin + 1)
    assert not other.matches(data.fingerprint()) and not data.matches(now.fingerprint())


def test_attributes_tell_name_and_bin_width(tmp_path):
    path = store(tmp_path / "in.h5", input_arrays(), name="reach", bin_ms=12.5)
    data = hdf5.read(path)
    assert (data.name, data.bin_ms) == ("reach", 12.5)
    assert hdf5.read(path, name="other", bin_ms=12.5).name == "other"
    with pytest.raises(UserError, match=r"in\.h5: bin_ms is 12\.5, but 5 is expected"):
        hdf5.read(path, bin_ms=5)


def test_read_targets_gives_what_is_stored(tmp_path):
    arrays = target_arrays() | {
        "train_decode_mask": np.array([[1, 0]] * R_TRAIN),
        "eval_jitter": np.array([0, 1, -2, 0]),
        "of_someone_else": np.array([b"text"]),
    }
    found = hdf5.read_targets(store(tmp_path / "out.h5", arrays, "dmfc_rsg"))
    assert set(found) == set(arrays) - {"of_someone_else"}
    for key in ("psth", "eval_spikes_heldout", "eval_jitter"):
        assert found[key].dtype == arrays[key].dtype
        np.testing.assert_array_equal(found[key], arrays[key])
    assert found["train_decode_mask"].dtype == bool
    rows = found["train_cond_idx"]
    assert rows.dtype == object and [list(row) for row in rows] == CONDITIONS["train"]


def test_read_targets_keeps_conditions_of_equal_size_ragged(tmp_path):
    arrays = target_arrays() | {"eval_cond_idx": np.array([[0, 1], [2, 3]])}
    found = hdf5.read_targets(store(tmp_path / "out.h5", arrays, "mc_maze"))
    assert found["eval_cond_idx"].shape == (2,)
    assert [list(row) for row in found["eval_cond_idx"]] == [[0, 1], [2, 3]]


# Writing


@pytest.mark.parametrize("bin_ms", [5.0, 20.0, 12.5])
@pytest.mark.parametrize("most", [3, 300])
@pytest.mark.parametrize("forward", [0, T_FWD])
def test_round_trip(tmp_path, forward, most, bin_ms):
    data = dataclasses.replace(toy(forward=forward, most=most), bin_ms=bin_ms)
    hdf5.write(data, tmp_path / "in.h5")
    hdf5.write_targets(data, tmp_path / "out.h5")
    again = hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5")
    assert_same(again, data)
    assert again.fingerprint() == data.fingerprint()


def test_round_trip_of_a_bare_recording(tmp_path):
    data = changed(toy(), behavior=None, conditions=None, rates=None)
    train = dataclasses.replace(data.train, behavior=None, conditions=None, rates=None)
    data = dataclasses.replace(data, train=train, psth=None)
    hdf5.write(data, tmp_path / "in.h5")
    hdf5.write_targets(data, tmp_path / "out.h5")
    assert_same(hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5"), data)


def test_round_trip_with_unknown_counts_and_behavior(tmp_path):
    data = toy()
    recorded = np.ones((R_EVAL, 7, 5), bool)
    recorded[0, :2, N_IN:] = False
    recorded[1, 6, 0] = False
    heldout, forward = data.eval.heldout.copy(), data.eval.heldin_forward.copy()
    heldout[0, :2] = forward[1, 1, 0] = 0
    behavior = data.eval.behavior.copy()
    behavior[2] = np.nan
    conditions = np.array([0, -1, 2, 2], np.int32)
    data = changed(
        data,
        recorded=recorded,
        heldout=heldout,
        heldin_forward=forward,
        behavior=behavior,
        conditions=conditions,
    )
    hdf5.write(data, tmp_path / "in.h5")
    hdf5.write_targets(data, tmp_path / "out.h5")
    assert_same(hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5"), data)


def test_the_input_file_holds_no_answers(tmp_path):
    hdf5.write(toy(), tmp_path / "in.h5")
    out = tmp_path / "out.h5"
    hdf5.write_targets(toy(), out)
    with h5py.File(tmp_path / "in.h5") as file:
        assert set(file) == {
            *("train_spikes_heldin", "train_spikes_heldout", "train_behavior", "train_conditions"),
            *("train_spikes_heldin_forward", "train_spikes_heldout_forward", "eval_spikes_heldin"),
        }
        attributes = dict(file.attrs)
    with h5py.File(out) as file:
        assert attributes.pop("pair_id") == file["mc_maze"].attrs["pair_id"]
    assert attributes == {"name": "mc_maze", "bin_ms": 5.0}


def test_targets_of_is_what_write_targets_writes(tmp_path):
    data = toy()
    hdf5.write_targets(data, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["mc_maze"]
        stored = {key: dataset[()] for key, dataset in file["mc_maze"].items()}
    made, read = hdf5.targets_of(data), hdf5.read_targets(tmp_path / "out.h5")
    assert set(made) == set(read) == set(stored)
    for key, array in made.items():
        for other in (stored[key], read[key]):
            if array.dtype == object:
                assert [list(row) for row in other] == [list(row) for row in array]
            else:
                assert other.dtype == array.dtype
                np.testing.assert_array_equal(other, array)
    assert [list(row) for row in made["train_cond_idx"]] == [[0, 3], [1, 4], [2, 5]]


def test_there_are_no_targets_where_counts_are_withheld(tmp_path):
    data = changed(toy(), heldout=None)
    with pytest.raises(UserError, match=r"mc_maze has no held-out counts of its evaluated trials"):
        hdf5.write_targets(data, tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_same_recording_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        hdf5.write(toy(), tmp_path / f"{name}.h5")
        hdf5.write_targets(toy(), tmp_path / f"{name}_target.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    targets = [(tmp_path / f"{name}_target.h5").read_bytes() for name in ("a", "b")]
    assert targets[0] == targets[1]


def test_writing_replaces_a_file(tmp_path):
    path = tmp_path / "in.h5"
    path.write_text("something older")
    hdf5.write(toy(), path)
    assert len(hdf5.read(path).train) == R_TRAIN


# The fingerprint


def test_the_fingerprint_is_the_same_everywhere():
    """A value written down: it must not depend on the process, the machine or the version."""
    zeros = np.zeros((1, 2, 1), np.uint8)
    trials = Trials(zeros, zeros, None, None, None, None, None, None)
    data = SpikeData(trials, trials, "x", 5, None)
    assert data.fingerprint() == GOLDEN
    assert dataclasses.replace(data, bin_ms=5.0).fingerprint() == GOLDEN


GOLDEN = "32711608b6c54712d3a32a508d6b4a640d5396e60f9817b1a791612dc6f5bfa7"


def test_the_fingerprint_changes_with_everything():
    data = toy()
    seen = {data.fingerprint()}
    for field in dataclasses.fields(Trials):
        if field.name == "columns":
            continue
        array = getattr(data.eval, field.name)
        unset = {"recorded": np.ones((R_EVAL, 7, 5), bool), "starts": np.arange(4.0)}
        others = [unset[field.name]] if array is None else [None, array[::-1]]
        if field.name == "heldin":
            others = others[1:]
        for other in others:
            seen.add(changed(data, **{field.name: other}).fingerprint())
    units = {"units": np.arange(5)}
    for other in ({"name": "x"}, {"bin_ms": 10.0}, {"psth": None}, {"psth": data.psth * 2}, units):
        seen.add(dataclasses.replace(data, **other).fingerprint())
    swapped = dataclasses.replace(data, train=data.eval, eval=data.train)
    assert len(seen | {swapped.fingerprint()}) == 1 + (1 + 6 * 2 + 2) + 5 + 1


# nlb_tools


@pytest.mark.parametrize("bin_ms", [5.0, 20.0])
def test_nlb_tools_evaluates_against_written_targets(tmp_path, bin_ms):
    data = dataclasses.replace(toy(trials=30), bin_ms=bin_ms)
    group = "mc_maze" if bin_ms == 5 else "mc_maze_20"
    hdf5.write_targets(data, tmp_path / "out.h5")
    rates = {"train": data.train.rates, "eval": data.eval.rates}
    submission = {}
    for split, x in rates.items():
        submission[f"{split}_rates_heldin"] = x[:, :T_OBS, :N_IN]
        submission[f"{split}_rates_heldout"] = x[:, :T_OBS, N_IN:]
    submission["eval_rates_heldin_forward"] = data.eval.rates[:, T_OBS:, :N_IN]
    submission["eval_rates_heldout_forward"] = data.eval.rates[:, T_OBS:, N_IN:]
    [from_file] = evaluation.evaluate(str(tmp_path / "out.h5"), {group: submission})
    read = hdf5.read_targets(tmp_path / "out.h5", "mc_maze")
    [from_memory] = evaluation.evaluate({group: read}, {group: submission})
    scores = from_file[f"{group}_split"]
    assert scores == from_memory[f"{group}_split"]
    assert set(scores) == {"co-bps", "vel R2", "psth R2", "fp-bps"}
    x, r = data.eval.heldout.astype(float), data.eval.rates[:, :T_OBS, N_IN:].astype(float)
    null = x.mean(axis=(0, 1))
    bits = np.sum(x * np.log2(r / null) - (r - null) / np.log(2)) / x.sum()
    assert scores["co-bps"] == pytest.approx(bits, rel=1e-6)


def test_nlb_tools_own_writer_can_be_read(tmp_path):
    make_tensors = pytest.importorskip("nlb_tools.make_tensors")
    make_tensors.save_to_h5(input_arrays(), str(tmp_path / "in.h5"))
    make_tensors.save_to_h5({"mc_rtt_20": target_arrays()}, str(tmp_path / "out.h5"))
    data = hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5")
    assert (data.name, data.bin_ms) == ("mc_rtt", 20)
    np.testing.assert_array_equal(data.eval.heldout, target_arrays()["eval_spikes_heldout"])
    np.testing.assert_array_equal(data.train.conditions, [0, 1, 2, 0, 1, 1])


# Recorded data


def test_recorded_data(real_data):
    source = real_data / "mc_maze_large_subset_val.h5"
    target = real_data / "mc_maze_large_subset_val_target.h5"
    data = hdf5.read(source, target)
    assert (data.name, data.bin_ms) == ("mc_maze_large", 5)
    assert (len(data.train), len(data.eval)) == (102, 36)
    assert (data.bins_observed, data.bins_forward, data.heldin, data.heldout) == (80, 20, 122, 40)
    with h5py.File(source) as file, h5py.File(target) as answers:
        group = answers["mc_maze_large"]
        np.testing.assert_array_equal(data.train.heldin, file["train_spikes_heldin"])
        np.testing.assert_array_equal(data.train.behavior, file["train_behavior"])
        np.testing.assert_array_equal(data.eval.heldout, group["eval_spikes_heldout"])
        np.testing.assert_array_equal(data.eval.behavior, group["eval_behavior"])
        for condition, rows in enumerate(group["eval_cond_idx"]):
            assert set(np.flatnonzero(data.eval.conditions == condition)) == set(rows)
    again = hdf5.read_targets(target, "mc_maze_large")
    made = hdf5.targets_of(data)
    assert set(made) == set(again)
    for key in set(again) - {"eval_cond_idx", "train_cond_idx"}:
        np.testing.assert_array_equal(made[key], again[key], err_msg=key)
    assert data.eval.has_count(20, 40).all() and data.eval.counts(20, 40).dtype == np.uint8


def test_recorded_test_trials_have_no_targets(real_data):
    data = hdf5.read(real_data / "mc_maze_large_subset_test.h5")
    assert data.eval.heldout is None and len(data.eval) == 27 and len(data.train) == 138
    wrong = real_data / "mc_maze_large_subset_val_target.h5"
    with pytest.raises(UserError, match=r"36 eval trials.*has 27"):
        hdf5.read(real_data / "mc_maze_large_subset_test.h5", wrong)
