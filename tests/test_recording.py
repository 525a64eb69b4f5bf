"""The recording of a run, as its configuration names it and as its directory keeps it."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import own_files, schema
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, recording


def config() -> schema.Config:
    return schema.as_config(tiny.get_config())


def data(seed: int = 0) -> SpikeData:
    counts = np.random.default_rng(seed).poisson(0.7, (24, 6, 6))
    return SpikeData.from_arrays(counts, bin_ms=5, heldout=[1, 4], seed=1)


def test_files_of_a_run_are_named_relative_to_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for path, stored in (
        (str(run / "data.h5"), "{run}/data.h5"),
        (str(tmp_path / "data.h5"), str(tmp_path / "data.h5")),
        ("data.h5", "data.h5"),
        ("", ""),
    ):
        values = own_files.contracted({"data": {"path": path, "name": "x"}, "seed": 1}, run)
        assert values == {"data": {"path": stored, "name": "x"}, "seed": 1}
        assert own_files.expanded(values, run)["data"]["path"] == path
    moved = own_files.expanded({"data": {"path": "{run}/data.h5"}}, tmp_path / "moved")
    assert moved["data"]["path"] == str(tmp_path / "moved" / "data.h5")
    assert own_files.expanded({"data": 3}, run) == {"data": 3}


def test_a_copy_is_recognised_though_writing_changes_the_recording(tmp_path: Path) -> None:
    """Evaluated trials whose held-out counts are withheld, a neuron that never spikes."""
    whole, given = data(), config()
    hidden = dataclasses.replace(whole.eval, heldout=None)
    spikes = np.array([1, 1, 1, 0], np.uint8)
    silent = dataclasses.replace(whole.train, heldin=whole.train.heldin * spikes)
    withheld = dataclasses.replace(whole, train=silent, eval=hidden)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named, copy = recording.of_data(given, withheld, tmp_path)
        directory.open_run(tmp_path, named, copy)
        again, same = recording.of_data(given, withheld, tmp_path)
        directory.open_run(tmp_path, again, same)
    assert named.data.targets == "" and copy.eval.heldout is None
    assert copy.fingerprint() == same.fingerprint()
    with pytest.raises(UserError, match="trained on other data"):
        recording.of_data(given, whole, tmp_path)


def test_a_cut_run_gets_the_copy_of_its_source(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    named, _ = recording.of_data(config(), data(), source)
    found = recording.copy(named, source, out)
    assert found.data.path == str(out / "data.h5") and found.data.targets == str(out / "targets.h5")
    assert recording.is_own(found, out) and not recording.is_own(named, out)
    assert recording.read(found).fingerprint() == recording.read(named).fingerprint()
    # Files elsewhere stay where they are.
    (tmp_path / "elsewhere").mkdir()
    assert recording.copy(found, source, tmp_path / "elsewhere") == found
    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_a_file_the_key_is_named() -> None:
    with pytest.raises(UserError, match=r"config\.data\.path is empty"):
        recording.read(config())
