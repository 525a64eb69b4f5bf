"""The loop: cut anywhere, killed, signalled, and the run is the same run."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import small_models
from helpers.recordings import small_reach

from stndt_jax.config import loading
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import Diverged, Interrupted, UserError
from stndt_jax.runs import directory, listing, log, recording
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.lock import Lock, LockLost
from stndt_jax.training import loop, restore


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_reach(tmp_path_factory.mktemp("data"))


def _config(files: Path, **keys: object) -> Config:
    settings = {
        "data.path": files / "reach.h5",
        "data.targets": files / "reach_target.h5",
        "model.layers": 1,
        "contrast.enabled": False,
        "train.epochs": 6,
        "population": 2,
        **small_models.SETTINGS,
    }
    settings |= {name.replace("__", "."): value for name, value in keys.items()}
    return loading.load(["--config=tiny", *(f"--config.{k}={v}" for k, v in settings.items())])


def _data(config: Config) -> SpikeData:
    return recording.read(config)


def _train(config: Config, path: Path, *, extend: bool = False) -> list[str]:
    return loop.train(config, _data(config), path, quiet=True, extend=extend)


@pytest.fixture(scope="module")
def alone(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("runs") / "alone"
    assert _train(_config(files), path) == ["finished"] * 2
    return path


def _state(path: Path) -> bytes:
    trained = restore.load(path)
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trained.members))


def test_a_run_directory_says_what_was_done(alone: Path) -> None:
    run = json.loads((alone / "run.json").read_text())
    (session,) = run["sessions"]
    assert session["how"] == "finished"
    assert {"began", "ended", "command", "host", "devices", "versions", "commit"} <= set(session)
    assert run["config"] == json.loads((alone / "config.json").read_text())
    assert not (alone / "lock").exists()


@pytest.mark.slow
def test_terminated_and_started_again_is_the_same_run(
    files: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps come one by one, so that chunks end in the middle of epochs.
    chunks = 0

    def one(*_: object) -> int:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            signal.raise_signal(signal.SIGTERM)
        return 1

    monkeypatch.setattr(loop, "_next_size", one)
    config, path = _config(files), tmp_path / "run"
    with pytest.raises(Interrupted, match="saved; the same command continues") as caught:
        _train(config, path)
    assert caught.value.exit_code == 143
    assert not (path / "lock").exists()
    assert _train(config, path) == ["finished"] * 2
    assert (path / "metrics.jsonl").read_bytes() == (alone / "metrics.jsonl").read_bytes()
    assert _state(path) == _state(alone)
    said = (path / "log.txt").read_text()
    assert "continuing from the checkpoint at epoch 1.5 of 6" in said
    assert "4 + 2 neurons read in to 6 factors" in said
    sessions = json.loads((path / "run.json").read_text())["sessions"]
    assert ["stopped at epoch" in session["how"] for session in sessions] == [True, False]


@pytest.mark.parametrize("begun", [False, True])
def test_terminated_while_compiling(
    files: Path, alone: Path, tmp_path: Path, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = _config(files), tmp_path / "run"
    if begun:
        shutil.copytree(alone, path)
        config = _config(files, train__epochs=8)
    start = loop._Run._start

    def signalled(run: loop._Run) -> Any:
        found = start(run)
        signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(loop._Run, "_start", signalled)
    words = "the checkpoint at epoch 6 of 8 is kept" if begun else "nothing was trained yet"
    with pytest.raises(Interrupted, match=f"stopped while compiling: .*{words}") as caught:
        _train(config, path, extend=begun)
    assert caught.value.exit_code == 143 and not (path / "lock").exists()
    (row,) = listing.table(path)
    assert row["how"] == f"interrupted: {caught.value}"
    assert str(caught.value) in (path / "log.txt").read_text()
    monkeypatch.undo()
    assert _train(config, path, extend=begun) == ["finished"] * 2


def test_scores_are_said_though_the_last_checkpoint_cannot_be_written(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(Checkpoints, "save", full)
    config = _config(files)
    with pytest.raises(UserError, match="the disk is full"):
        loop.train(config, _data(config), tmp_path / "run")
    assert "member 1 finished, best co-bps" in capsys.readouterr().err


def test_another_configuration_is_refused_with_the_difference(files: Path, alone: Path) -> None:
    with pytest.raises(UserError, match=r"optimizer.learning_rate: 0.003 -> 0.5"):
        _train(_config(files, optimizer__learning_rate=0.5), alone)
    with pytest.raises(UserError, match=r"train.epochs: 6 -> 8.*--extend"):
        _train(_config(files, train__epochs=8), alone)
    with pytest.raises(UserError, match=r"train.epochs: 6 -> 4"):
        _train(_config(files, train__epochs=4), alone, extend=True)
    # Nothing of it was written.
    assert json.loads((alone / "config.json").read_text())["train"]["epochs"] == 6


def test_other_data_are_refused(files: Path, alone: Path, tmp_path: Path) -> None:
    small_reach(tmp_path, seed=2)
    with pytest.raises(UserError, match="another recording"):
        _train(_config(tmp_path), alone)


def test_a_run_without_its_config_is_not_taken_for_a_new_one(files: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(UserError, match=r"without config.json"):
        _train(_config(files), tmp_path)


def test_a_directory_in_use_is_refused(files: Path, tmp_path: Path) -> None:
    with Lock(tmp_path), pytest.raises(UserError, match="is using"):
        _train(_config(files), tmp_path)


def test_who_loses_the_lock_writes_nothing_more(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = log.RunLog.metrics

    def metrics(self: log.RunLog, row: dict[str, Any], words: str) -> None:
        real(self, row, words)
        (tmp_path / "lock").write_text('{"host": "h", "pid": 1, "token": "other"}')

    monkeypatch.setattr(log.RunLog, "metrics", metrics)
    with pytest.raises(LockLost, match="is now that of process 1 on h"):
        _train(_config(files), tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not list(tmp_path.glob("checkpoints/*"))
    assert "ended" not in directory.read_run(tmp_path)["sessions"][-1]
    assert b"other" in (tmp_path / "lock").read_bytes()


def test_an_old_run_is_set_aside_not_deleted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in range(2):
        run.mkdir()
        (run / "run.json").touch()
        old = directory.set_aside(run)
        assert old is not None and (old / "run.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.old1", "run.old2"]
    assert directory.set_aside(run) is None


@pytest.mark.long
def test_a_longer_schedule_goes_on(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    _train(_config(files, population=1, train__epochs=2), path)
    assert _train(_config(files, population=1, train__epochs=4), path, extend=True) == ["finished"]
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [2, 4]
    assert json.loads((path / "config.json").read_text())["train"]["epochs"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["freeze", "stop", "restart"])
def test_divergence(files: Path, tmp_path: Path, how: str) -> None:
    config = _config(
        files,
        train__on_divergence=how,
        train__restarts=2,
        optimizer__warmup_epochs=0.0,
        members__learning_rate="(1e-3, 1e30)",
    )
    path = tmp_path / "run"
    if how == "stop":
        with pytest.raises(Diverged, match="member 1 diverged") as caught:
            _train(config, path)
        assert caught.value.exit_code == 3
        return
    assert _train(config, path) == ["finished", "diverged"]
    said = (path / "log.txt").read_text()
    assert "member 1 diverged and is frozen" in said
    assert ("at 0.25 of its learning rate" in said) == (how == "restart")
    params = restore.load(path).members.state.params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.long
def test_a_lone_member_begins_again(files: Path, tmp_path: Path) -> None:
    """It diverges between two validations, and no other member keeps the run going till then."""
    config = _config(
        files,
        population=1,
        train__on_divergence="restart",
        train__restarts=40,
        train__epochs=80,
        optimizer__schedule="constant",
        optimizer__learning_rate=1e4,
        optimizer__warmup_epochs=0.0,
        train__patience=1000,
    )
    path = tmp_path / "run"
    assert _train(config, path) == ["finished"]
    restarts = [row["restarts"][0] for row in log.read_metrics(path / "metrics.jsonl")]
    assert restarts[-1] > 1
    assert restarts == sorted(restarts)


@pytest.mark.long
def test_all_diverged(files: Path, tmp_path: Path) -> None:
    config = _config(
        files, population=1, optimizer__learning_rate=1e30, optimizer__warmup_epochs=0.0
    )
    with pytest.raises(Diverged, match=r"every member diverged.*lower") as caught:
        _train(config, tmp_path / "run")
    assert caught.value.exit_code == 3
