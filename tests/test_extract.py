"""Chosen members of a population are a run like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.recordings import small_reach

from stndt_jax import files
from stndt_jax.cli import main
from stndt_jax.config import loading
from stndt_jax.ensembles import extract
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate
from stndt_jax.runs import directory, recording
from stndt_jax.training import loop, restore

RATES = (1e-3, 2e-3, 5e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members with seeds and learning rates of their own, half trained."""
    folder = small_reach(tmp_path_factory.mktemp("data"))
    settings = {
        "data.path": folder / "reach.h5",
        "data.targets": folder / "reach_target.h5",
        "model.layers": 1,
        "contrast.enabled": False,
        "train.epochs": 4,
        "population": 3,
        "members.learning_rate": RATES,
    }
    loaded = loading.load(["--config=tiny", *(f"--config.{k}={v}" for k, v in settings.items())])
    path = tmp_path_factory.mktemp("runs") / "three"
    loop.train(loaded, recording.read(loaded), path, quiet=True)
    return path


def _further(path: Path) -> evaluate.TrainedRun:
    """Two epochs more, told by nothing but the directory."""
    words = ["--extend", "--config.train.epochs=6"]
    assert main.main(["train", f"--workdir={path}", *words]) == 0
    return restore.load(path)


def test_members_keep_all_that_is_theirs(run: Path, tmp_path: Path) -> None:
    extract.cut(run, [2, 0], tmp_path / "two")
    whole, two = restore.load(run), restore.load(tmp_path / "two")
    assert two.config.population == 2
    for name, leaf in two.hyper._asdict().items():
        np.testing.assert_array_equal(leaf, getattr(whole.hyper, name)[np.array([2, 0])])
    np.testing.assert_array_equal(
        two.hyper.learning_rate, np.array([RATES[2], RATES[0]], np.float32)
    )
    assert list(two.hyper.seed) == [2, 0]
    pairs = zip(jax.tree.leaves(whole.members), jax.tree.leaves(two.members), strict=True)
    for old, new in pairs:
        assert np.asarray(old)[[2, 0]].tobytes() == np.asarray(new).tobytes()
    rows = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (run, tmp_path / "two")
    ]
    assert len(rows[0]) == len(rows[1]) > 0
    for old, new in zip(*rows, strict=True):
        assert new["epoch"] == old["epoch"]
        assert new["best_cobps"] == [old["best_cobps"][2], old["best_cobps"][0]]


@pytest.mark.long
def test_a_member_goes_on_as_it_would_have(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["cut", str(run), "--members=2", f"--out={tmp_path / 'one'}"]) == 0
    assert "1 of the members" in capsys.readouterr().out
    shutil.copytree(run, tmp_path / "three")
    whole, one = _further(tmp_path / "three"), _further(tmp_path / "one")
    old = jax.tree.leaves(whole.members.state.params)
    # Where a gradient is nearly nothing, its rounding is a good part of one of Adam's steps.
    for before, after in zip(old, jax.tree.leaves(one.members.state.params), strict=True):
        np.testing.assert_allclose(after[0], before[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("members", "said"), [([3], "from 0 to 2"), ([0, 0], "once"), ([], "none")]
)
def test_members_that_are_not_there(
    run: Path, tmp_path: Path, members: list[int], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        extract.cut(run, members, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(run: Path) -> None:
    with pytest.raises(UserError, match="not empty"):
        extract.cut(run, [0], run)


def test_a_run_from_before_a_key_existed_is_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "old")
    values = json.loads((run / "config.json").read_text())
    values["parallel"] = {"devices": values["parallel"]["devices"]}
    del values["train"]["restarts"]
    files.write_json(tmp_path / "old" / "config.json", values)
    read = directory.read_config(tmp_path / "old")
    assert (read.parallel.data, read.parallel.engine) == (1, "mesh")
    assert read.train.restarts == 3
    assert directory.differences(read, directory.read_config(run)) == []
    del values["train"]["epochs"]
    files.write_json(tmp_path / "old" / "config.json", values)
    with pytest.raises(UserError, match=r"config\.train\.epochs is missing"):
        directory.read_config(tmp_path / "old")
