"""A search as its workers see it: killed at any moment, joined, refused, told once.

Training is replaced by a function of the hyperparameters, but for the tests marked slow.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers.recordings import small_reach

from stndt_jax import files as whole_files
from stndt_jax.cli import main
from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import Diverged, UserError
from stndt_jax.runs import lock, recording
from stndt_jax.runs.lock import Lock
from stndt_jax.search import pruning
from stndt_jax.search import space as spaces
from stndt_jax.search import worker as search
from stndt_jax.search.journal import Journal
from stndt_jax.search.study import Study
from stndt_jax.search.worker import Plan, Search
from stndt_jax.training import loop as training
from stndt_jax.training import restore

SPACE = {"dropout": ("uniform", 0.1, 0.5), "model.layers": ("choice", 1, 2)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_reach(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config(files: Path) -> Config:
    return search.base(
        loading.load(
            [
                "--config=tiny",
                f"--config.data.path={files / 'reach.h5'}",
                f"--config.data.targets={files / 'reach_target.h5'}",
                *("--config.contrast.enabled=false", "--config.train.epochs=8"),
                *("--config.model.layers=1", "--config.parallel.devices=1"),
            ]
        )
    )


@pytest.fixture(scope="module")
def data(config: Config) -> SpikeData:
    return recording.read(config)


def _plan(folder: Path, config: Config, **options: Any) -> Plan:
    folder.mkdir(exist_ok=True)
    given = {"trials": 5, "size": 2, "quiet": True, **options}
    return Plan(folder=folder, config=config, space=spaces.check(SPACE, config), **given)


def _trained(config: Config, data: SpikeData, path: Path, **_: Any) -> list[str]:
    """In place of training: the score of a member is its dropout."""
    whole_files.write_json(path / "config.json", configs.to_mapping(config))
    row = {"epoch": 8, "best_cobps": list(config.members["dropout"])}
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return ["finished"] * config.population


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train", _trained)
    monkeypatch.setattr(search, "POLL_S", 0.01)


def _silent(_: str) -> None:
    pass


def _check(folder: Path, trials: int) -> None:
    """None lost, none double: in the study, and between the study and the run directories."""
    found = Study(folder).trials()
    ended = [t for t in found if t.state == "complete"]
    assert len(ended) == len(found) == trials
    assert Counter((t.run, t.member) for t in found).most_common(1)[0][1] == 1
    on_disk = {}
    for run in sorted((folder / "trials").iterdir()):
        numbers, config = search.read_population(run)
        assert config.population == len(numbers)
        for k, number in enumerate(numbers):
            assert number not in on_disk
            on_disk[number] = (run.name, k, config.members["dropout"][k], config.model.layers)
            assert config.members["seed"][k] == config.seed + number
    assert on_disk == {
        t.number: (t.run, t.member, t.params["dropout"], t.params["model.layers"]) for t in found
    }
    for t in found:
        assert t.value == pytest.approx(t.params["dropout"])


def test_a_search_from_begin_to_end(
    tmp_path: Path, config: Config, data: SpikeData, quick: None
) -> None:
    said: list[str] = []
    search.work(Search(_plan(tmp_path, config), data), said.append)
    _check(tmp_path, 5)
    assert sorted(p.name for p in (tmp_path / "trials").iterdir()) == ["0000", "0001", "0002"]
    assert "5 of 5 trials ended" in said[-1]
    assert not list((tmp_path / "claims").rglob("lock"))
    # More are wanted later; fewer is nothing to do.
    search.work(Search(_plan(tmp_path, config, trials=3), data), _silent)
    search.work(Search(_plan(tmp_path, config, trials=7), data), _silent)
    _check(tmp_path, 7)


class Killed(BaseException):
    pass


def _dying(write: Callable, calls: list[int], at: int, after: bool) -> Callable:
    """``write``, which dies when it is called for the time number ``at``, before or after it."""

    def dying(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == at and not after:
            raise Killed
        result = write(*args)
        if calls[0] == at:
            raise Killed
        return result

    return dying


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write(
    tmp_path: Path, config: Config, data: SpikeData, quick: None, after: bool
) -> None:
    """Every write to the study and of a population's file is the last one of some worker."""
    at, survived = 0, False
    while not survived:
        at += 1
        folder, calls = tmp_path / f"{at}", [0]
        plan = _plan(folder, config, trials=3)
        with pytest.MonkeyPatch.context() as patch:
            for place, name in ((Journal, "append_logs"), (whole_files, "write_json")):
                patch.setattr(place, name, _dying(getattr(place, name), calls, at, after))
            try:
                search.work(Search(plan, data), _silent)
                survived = True
            except Killed:
                # What the kernel does for a process that is really killed.
                for lock in (folder / "claims").rglob("lock"):
                    lock.unlink()
        search.work(Search(plan, data), _silent)
        _check(folder, 3)
    assert at > 15


def test_many_workers_share_a_search(
    tmp_path: Path, config: Config, data: SpikeData, quick: None
) -> None:
    plan = _plan(tmp_path, config, trials=11)
    failures: list[Exception] = []

    def worker() -> None:
        try:
            search.work(Search(plan, data), _silent)
        except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    _check(tmp_path, 11)


def test_trials_of_the_living_are_left_to_them(
    tmp_path: Path, config: Config, data: SpikeData, quick: None
) -> None:
    one, other = (Search(_plan(tmp_path, config, trials=4), data) for _ in range(2))
    first = one.claim()
    second = other.claim()
    assert first is not None and second is not None
    assert [p.name for p in (first.folder, second.folder)] == ["0000", "0001"]
    assert one.claim() is None and not one.done()
    # Its process dies: the kernel knows, and so does the next who looks.
    first.release()
    adopted = other.claim()
    assert adopted is not None and adopted.folder == first.folder
    for claim in (adopted, second):
        search.train_run(claim.folder, other.plan)
        other.tell(claim)
        claim.release()
    assert one.done()
    _check(tmp_path, 4)


def test_the_dead_on_another_host_are_waited_for(tmp_path: Path, config: Config) -> None:
    # The server of a network file system keeps the lock of a dead client for a while.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_LEASE_S", 20.0)
        dead = Lock(tmp_path)
        dead.__enter__()
        release = threading.Timer(0.7, dead.__exit__)
        release.start()
        lock.wait_until_free(tmp_path)
        release.join()
        patch.setattr(lock, "_LEASE_S", 0.3)
        with Lock(tmp_path), pytest.raises(UserError, match="is using"):
            lock.wait_until_free(tmp_path)


def test_a_run_that_an_orphan_trains_is_left_to_it(
    tmp_path: Path, config: Config, data: SpikeData, quick: None
) -> None:
    """A driver has died, but one of its actors trains on."""
    driver = Search(_plan(tmp_path, config, trials=4), data)
    claim = driver.claim()
    assert claim is not None
    claim.release()
    with Lock(claim.folder):
        other = driver.claim()
        assert other is not None and other.folder.name == "0001"
        assert driver.claim() is None and not driver.done()
        other.release()
    again = driver.claim()
    assert again is not None and again.folder == claim.folder
    again.release()


def test_another_search_is_refused_with_the_difference(
    tmp_path: Path, config: Config, data: SpikeData, quick: None
) -> None:
    Search(_plan(tmp_path, config), data)
    changed = configs.from_mapping(
        {
            **configs.to_mapping(config),
            "train": {**configs.to_mapping(config)["train"], "epochs": 9},
        }
    )
    with pytest.raises(UserError, match=r"train.epochs: 8 -> 9"):
        Search(_plan(tmp_path, changed), data)
    other = spaces.check({**SPACE, "dropout": ("uniform", 0.1, 0.4)}, config)
    plan = Plan(tmp_path, config, other, 5, 2)
    with pytest.raises(UserError, match=r"search space of dropout: .*0.5.* -> .*0.4"):
        Search(plan, data)


def test_failed_trials_are_told_and_counted(
    tmp_path: Path, config: Config, data: SpikeData, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(config: Config, data: SpikeData, path: Path, **_: Any) -> list[str]:
        row = {"epoch": 8, "best_cobps": [None] * config.population}
        (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        raise Diverged("every member diverged")

    monkeypatch.setattr(training, "train", diverging)
    search.work(Search(_plan(tmp_path, config, trials=2), data), _silent)
    assert [t.state for t in Study(tmp_path).trials()] == ["failed", "failed"]


def test_too_large_a_population_is_not_tried_for_ever(
    tmp_path: Path, config: Config, data: SpikeData, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(*_: Any, **__: Any) -> list[str]:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", large)
        with pytest.raises(RuntimeError):
            search.work(Search(_plan(tmp_path, config, trials=2, size=2), data), _silent)
    search.work(Search(_plan(tmp_path, config, trials=2, size=1), data), _silent)
    states = Counter(t.state for t in Study(tmp_path).trials())
    assert states == {"lost": 2, "complete": 2}


def test_nothing_to_select_by_is_refused(config: Config, data: SpikeData) -> None:
    blind = dataclasses.replace(data, eval=dataclasses.replace(data.eval, heldout=None))
    none = dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation_fraction=0.0)
    )
    search.check_selects(config, blind)
    search.check_selects(none, data)
    with pytest.raises(UserError, match="no trial can be scored"):
        search.check_selects(none, blind)


def test_members_of_the_users_own_are_refused(config: Config) -> None:
    values = {**configs.to_mapping(config), "members": {"dropout": [0.1]}}
    with pytest.raises(UserError, match=r"config.members.dropout is set"):
        search.base(configs.from_mapping(values))


def test_from_the_command_line(
    tmp_path: Path, files: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        *("search", "--config=tiny", f"--config.data.path={files / 'reach.h5'}"),
        f"--config.data.targets={files / 'reach_target.h5'}",
        *("--config.model.layers=1", f"--workdir={tmp_path / 's'}", "--trials=3"),
    ]
    assert main.main([*argv, "--population=2"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "s" / "search.json").read_text())
    best = max(found["trials"], key=lambda t: t["value"])
    assert found["best"] == best
    assert f"best co-bps {best['value']:.4f}: trial {best['number']}" in said
    assert "next: stndt ensemble" in said
    assert "model.layers" not in best["params"]
    header, *rows = (tmp_path / "s" / "trials.csv").read_text().splitlines()
    assert header.startswith("number,state,value,run,member,")
    assert len(rows) == 3
    assert (tmp_path / "s" / "history.svg").exists()
    assert main.main([*argv, "--population=many"]) == 2
    assert "--population is 'many'" in capsys.readouterr().err
    assert main.main(["search", "--config=tiny"]) == 2
    assert "--workdir is missing" in capsys.readouterr().err


@pytest.mark.long
def test_pruned_members_train_no_more_and_a_killed_run_prunes_the_same(
    tmp_path: Path, config: Config, data: SpikeData
) -> None:
    """Real training: interrupted between validations, it ends as the run left alone."""
    full = spaces.population(
        config,
        spaces.check({"learning_rate": ("log", 1e-4, 1e-2)}, config),
        [{"learning_rate": rate} for rate in (1e-4, 1e-2, 3e-3)],
        [1, 2, 3],
    )

    class StoppedError(Exception):
        pass

    def pruner(run: Path, until: int) -> training.Pruner:
        run.mkdir(exist_ok=True)
        keep = pruning.Pruner("halving", [2, 4], run, Study(tmp_path), [0, 1, 2])

        def pruned(epoch: int, best_K: np.ndarray) -> np.ndarray:
            if epoch == until:
                raise StoppedError
            return keep(epoch, best_K)

        return pruned

    Study(tmp_path).ask("0000", 3, spaces.check(SPACE, config), seed=0)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    training.train(full, data, alone, quiet=True, pruner=pruner(alone, 99))
    with pytest.raises(StoppedError):
        training.train(full, data, killed, quiet=True, pruner=pruner(killed, 6))
    training.train(full, data, killed, quiet=True, pruner=pruner(killed, 99))
    out = pruning.decided(alone)
    assert len(out["2"]) == 1 and len(out["4"]) == 1
    assert pruning.decided(killed) == out
    rows = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
    for k in out["2"]:
        assert rows[0]["valid_cobps"][k] is not None
        assert all(row["valid_cobps"][k] is None for row in rows[1:])
    assert (alone / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    states = [restore.load(path).members for path in (alone, killed)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_search_without_a_recording_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("auto", "mc_maze_large"):
        argv = ["search", f"--config={name}", f"--workdir={tmp_path / 's'}"]
        assert main.main(argv) == 2
        assert "no recording is given: config.data.path is empty" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
