"""The recording of a run, as its configuration names it and as its directory keeps it."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax import api
from stndt_jax.config import own_files, schema
from stndt_jax.data import hdf5, synthetic
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


@pytest.mark.parametrize("expected", ["mc_maze_large", "v1", ""])
def test_a_configuration_does_not_rename_a_recording(tmp_path: Path, expected: str) -> None:
    own = dataclasses.replace(data(), name="v1")
    hdf5.write(own, tmp_path / "x.h5")
    hdf5.write_targets(own, tmp_path / "x_target.h5")
    named = dataclasses.replace(
        config().data,
        path=str(tmp_path / "x.h5"),
        targets=str(tmp_path / "x_target.h5"),
        name=expected,
    )
    found = recording.read(dataclasses.replace(config(), data=named))
    assert found.name == "v1" and found.fingerprint() == own.fingerprint()
    (tmp_path / "run").mkdir()
    directory.open_run(tmp_path / "run", dataclasses.replace(config(), data=named), found)
    # An earlier version would have named it as the configuration does.
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"] == "v1"
    earlier = dataclasses.replace(own, name=expected or "v1").fingerprint()
    run["data_fingerprint"] = earlier
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    directory.open_run(tmp_path / "run", dataclasses.replace(config(), data=named), found)


def test_a_name_asked_for_in_python_is_kept_by_the_run(tmp_path: Path) -> None:
    own = dataclasses.replace(data(), name="v1")
    hdf5.write(own, tmp_path / "x.h5")
    assert api.load_data(tmp_path / "x.h5", name="v1").source is not None
    renamed = api.load_data(tmp_path / "x.h5", name="mine")
    assert renamed.name == "mine"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named, found = recording.of_data(config(), renamed, tmp_path / "run")
        assert found.name == recording.read(named).name == "mine"
    assert named.data.path == str(tmp_path / "run" / "data.h5")


def begun(tmp_path: Path) -> tuple[Path, schema.Config, SpikeData]:
    """A run that was begun on a recording without its targets, which lie beside it."""
    hdf5.write(data(), tmp_path / "x.h5")
    hdf5.write_targets(data(), tmp_path / "x_target.h5")
    named = dataclasses.replace(config().data, path=str(tmp_path / "x.h5"), targets="")
    given = dataclasses.replace(config(), data=named)
    read, run = recording.read(given), tmp_path / "run"
    run.mkdir()
    directory.open_run(run, given, read)
    return run, given, read


def test_other_data_than_those_of_the_run_are_recognised(tmp_path: Path) -> None:
    run, given, read = begun(tmp_path)
    targets = str(tmp_path / "x_target.h5")
    assert recording.difference(run, given, read) == ""
    scored = recording.read(given, "", targets)
    assert scored.fingerprint() != read.fingerprint()
    assert recording.difference(run, given, scored, "", targets) == ""
    (tmp_path / "moved.h5").write_bytes((tmp_path / "x.h5").read_bytes())
    moved = str(tmp_path / "moved.h5")
    at = dataclasses.replace(recording.read(given, moved), name="moved")
    assert at.fingerprint() != read.fingerprint()
    assert recording.difference(run, given, at, moved) == ""
    scored = recording.read(given, moved, targets)
    assert recording.difference(run, given, scored, moved, targets) == ""
    hdf5.write(data(seed=1), tmp_path / "other.h5")
    path = str(tmp_path / "other.h5")
    sentence = recording.difference(run, given, recording.read(given, path), path)
    assert path in sentence and str(run) in sentence and read.fingerprint()[:12] in sentence


def test_a_recording_that_changes_is_noticed(tmp_path: Path) -> None:
    _, given, read = begun(tmp_path)
    path = tmp_path / "x.h5"
    watch = recording.Watch(given, read)
    assert watch.changed() == ""
    before = path.read_bytes()
    path.unlink()
    assert f"{path} can no longer be read" in watch.changed()
    path.write_bytes(before)  # the same content at another time
    assert watch.changed() == ""
    hdf5.write(data(seed=1), path)
    assert f"{path} has changed since training began" in watch.changed()


def test_without_a_file_the_key_is_named() -> None:
    with pytest.raises(UserError, match=r"config\.data\.path is empty"):
        recording.read(config())


def test_targets_of_another_recording(tmp_path: Path) -> None:
    """Equal shapes, other trials: by the common identifier, in files of before by behaviour."""
    config = {}
    for seed in (0, 1):
        data = synthetic.make("reach", seed=seed)
        hdf5.write(data, tmp_path / f"{seed}.h5")
        hdf5.write_targets(data, tmp_path / f"{seed}_target.h5")
        config[seed] = (tmp_path / f"{seed}.h5", tmp_path / f"{seed}_target.h5")
    assert hdf5.other_targets(*config[0]) == ""
    crossed = (config[0][0], config[1][1])
    for _ in range(2):
        assert "belong to another recording" in hdf5.other_targets(*crossed)
        with pytest.warns(UserWarning, match="belong to another recording"):
            hdf5.read(*crossed)
        with h5py.File(crossed[1], "a") as file:
            for group in file.values():
                group.attrs.pop("pair_id", None)
    # Without either, nothing is known.
    with h5py.File(crossed[1], "a") as file:
        for group in file.values():
            del group["train_behavior"]
    assert hdf5.other_targets(*crossed) == ""
