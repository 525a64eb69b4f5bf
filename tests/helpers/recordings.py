"""Recordings in files, made by hand: what the tests of reading and writing start from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax.data import hdf5, synthetic
from stndt_jax.data.trials import SpikeData, Trials

R_TRAIN, R_EVAL, T_OBS, T_FWD, N_IN, N_OUT, C = 6, 4, 5, 2, 3, 2, 3
CONDITIONS = {"train": [[0, 3], [1, 4, 5], [2]], "eval": [[2], [0, 3], []]}

Arrays = dict[str, np.ndarray]


def input_arrays() -> Arrays:
    """What an input file holds, as nlb_tools stores it: counts as float32."""
    rng = np.random.default_rng(0)

    def counts(*shape: int) -> np.ndarray:
        x = rng.poisson(1.0, shape).astype(np.float32)
        x[0, 0] = 1  # no dead neurons
        return x

    return {
        "train_spikes_heldin": counts(R_TRAIN, T_OBS, N_IN),
        "train_spikes_heldout": counts(R_TRAIN, T_OBS, N_OUT),
        "train_spikes_heldin_forward": counts(R_TRAIN, T_FWD, N_IN),
        "train_spikes_heldout_forward": counts(R_TRAIN, T_FWD, N_OUT),
        "train_behavior": rng.normal(size=(R_TRAIN, T_OBS, 2)).astype(np.float32),
        "eval_spikes_heldin": counts(R_EVAL, T_OBS, N_IN),
    }


def target_arrays() -> Arrays:
    """What a target file holds; the training behavior is the input file's."""
    rng = np.random.default_rng(1)
    arrays = {
        "eval_spikes_heldout": (R_EVAL, T_OBS, N_OUT),
        "eval_spikes_heldin_forward": (R_EVAL, T_FWD, N_IN),
        "eval_spikes_heldout_forward": (R_EVAL, T_FWD, N_OUT),
    }
    found: Arrays = {k: rng.poisson(1.0, s).astype(np.float32) for k, s in arrays.items()}
    found["train_behavior"] = input_arrays()["train_behavior"]
    found["eval_behavior"] = rng.normal(size=(R_EVAL, T_OBS, 2)).astype(np.float32)
    found["psth"] = rng.random((C, T_OBS, N_IN + N_OUT))
    for split, rows in CONDITIONS.items():
        found[f"{split}_cond_idx"] = ragged(rows)
    return found


def ragged(rows: list[list[int]]) -> np.ndarray:
    array = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        array[i] = np.array(row, np.int64)
    return array


def store(path: Path, arrays: Arrays, group: str = "/", **attributes: object) -> Path:
    with h5py.File(path, "a") as file:
        target = file.require_group(group)
        target.attrs.update(attributes)
        for key, array in arrays.items():
            if array.dtype == object:
                target.create_dataset(key, data=array, dtype=h5py.vlen_dtype(np.int64))
            else:
                target[key] = array
    return path


def both(tmp_path: Path, inputs: Arrays | None = None, targets: Arrays | None = None, **more):
    tmp_path.mkdir(exist_ok=True)
    source = store(tmp_path / "in.h5", input_arrays() if inputs is None else inputs)
    target = store(tmp_path / "out.h5", target_arrays() if targets is None else targets, "mc_maze")
    return hdf5.read(source, target, **more)


def toy(trials: int = R_TRAIN, forward: int = T_FWD, most: int = 3) -> SpikeData:
    """A recording with everything a recording can have."""
    rng = np.random.default_rng(2)

    def split(count: int) -> Trials:
        def block(bins: int, neurons: int) -> np.ndarray:
            x = rng.integers(0, most + 1, (count, bins, neurons))
            x[:1, :1] = most  # no dead neurons, and one count that sets the type
            return x.astype(np.uint8 if most < 256 else np.uint16)

        return Trials(
            heldin=block(T_OBS, N_IN),
            heldout=block(T_OBS, N_OUT),
            heldin_forward=block(forward, N_IN) if forward else np.zeros((count, 0, N_IN), "u1"),
            heldout_forward=block(forward, N_OUT) if forward else np.zeros((count, 0, N_OUT), "u1"),
            behavior=rng.normal(size=(count, T_OBS, 2)).astype(np.float32),
            conditions=(np.arange(count) % C).astype(np.int32),
            rates=rng.random((count, T_OBS + forward, N_IN + N_OUT)).astype(np.float32) + 0.1,
            recorded=None,
        )

    psth = rng.random((C, T_OBS, N_IN + N_OUT))
    return SpikeData(split(trials), split(R_EVAL), "mc_maze", 5.0, psth)


def changed(data: SpikeData, **fields: Any) -> SpikeData:
    """The recording with other evaluated trials."""
    return dataclasses.replace(data, eval=dataclasses.replace(data.eval, **fields))


def assert_same(a: SpikeData, b: SpikeData) -> None:
    assert (a.name, a.bin_ms) == (b.name, b.bin_ms)
    pairs = {"psth": (a.psth, b.psth)}
    for split in ("train", "eval"):
        for field in dataclasses.fields(Trials):
            if field.name == "columns":
                continue
            values = (getattr(getattr(d, split), field.name) for d in (a, b))
            pairs[f"{split}.{field.name}"] = tuple(values)
    for what, (x, y) in pairs.items():
        assert (x is None) == (y is None), what
        if x is not None and y is not None:
            assert x.dtype == y.dtype and x.shape == y.shape, what
            np.testing.assert_array_equal(x, y, err_msg=what)
    for split in ("train", "eval"):
        np.testing.assert_equal(a.trial_table(split), b.trial_table(split))
    np.testing.assert_equal(a.unit_table(), b.unit_table())
    for name in ("behavior_names", "behavior_unit", "condition_names"):
        assert getattr(a, name) == getattr(b, name)


def small_reach(folder: Path, seed: int = 1) -> Path:
    """A folder with the files of a recording on which a model trains in seconds."""
    data = synthetic.make(
        "reach", seed=seed, trials=32, eval_trials=8, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False,
    )  # fmt: skip
    hdf5.write(data, folder / "reach.h5")
    hdf5.write_targets(data, folder / "reach_target.h5")
    return folder
