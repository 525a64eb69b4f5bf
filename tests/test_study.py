"""Trials in storage: shared and own values, askings cut off, ends told once, places that die."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from stndt_jax.errors import UserError
from stndt_jax.search import study
from stndt_jax.search.space import Choice, Range, Space
from stndt_jax.search.study import Study

SPACE = Space(
    {"dropout": Range(0.1, 0.5, False, False), "context_forward": Range(1, 9, False, True)},
    {"model.layers": Choice((1, 2, 3))},
)


@pytest.mark.parametrize("sampler", study.SAMPLERS)
def test_trials_share_what_is_static_and_differ_in_the_rest(tmp_path: Path, sampler: str) -> None:
    opened = Study(tmp_path, sampler=sampler)
    layers = set()
    for run in range(4):
        trials = opened.ask(f"{run}", 3, SPACE, seed=0)
        assert [t.number for t in trials] == [3 * run + k for k in range(3)]
        assert len({t.params["model.layers"] for t in trials}) == 1
        layers.add(trials[0].params["model.layers"])
        for k, trial in enumerate(trials):
            assert 0.1 <= trial.params["dropout"] <= 0.5
            assert trial.params["context_forward"] in range(1, 10)
            opened.tell(trial.number, trial.params["dropout"] + 0.01 * k)
    every = [t.params["dropout"] for t in opened.trials()]
    assert len(set(every)) == 12
    assert len(layers) > 1
    best = study.best(opened.trials())
    assert best is not None and best.value == max(t.value or 0 for t in opened.trials())


def test_tpe_learns(tmp_path: Path) -> None:
    """Of a score that grows with the dropout, later populations have more of it."""
    opened = Study(tmp_path)
    means = []
    for run in range(8):
        trials = opened.ask(f"{run}", 4, SPACE, seed=1)
        means.append(sum(t.params["dropout"] for t in trials) / 4)
        for trial in trials:
            opened.tell(trial.number, trial.params["dropout"])
    assert sum(means[-3:]) / 3 > sum(means[:3]) / 3 + 0.05


class Killed(BaseException):
    pass


@pytest.mark.parametrize("calls", range(1, 10))
def test_an_asking_that_was_cut_off_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Whichever of the three draws of each of three trials was the last."""
    draw, left = study._suggest, iter(range(calls))

    def dying(*args: object) -> object:
        if next(left, None) is None:
            raise Killed
        return draw(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "_suggest", dying)
    try:
        Study(tmp_path).ask("0000", 3, SPACE, seed=0)
    except Killed:
        assert calls < 9
    before = {t.number: t.params for t in Study(tmp_path).trials()}
    monkeypatch.setattr(study, "_suggest", draw)
    trials = Study(tmp_path).ask("0000", 3, SPACE, seed=0)
    assert [t.number for t in trials] == [0, 1, 2] == [t.number for t in Study(tmp_path).trials()]
    assert len({t.params["model.layers"] for t in trials}) == 1
    for number, params in before.items():
        assert params.items() <= trials[number].params.items()


def test_an_end_is_told_once(tmp_path: Path) -> None:
    one, other = Study(tmp_path), Study(tmp_path)
    one.ask("0000", 4, SPACE, seed=0)
    assert one.tell(0, 0.5)
    assert not other.tell(0, 0.9)
    assert not other.give_up(0, "too late")
    assert other.tell(1, 0.25, pruned=True)
    assert other.tell(2, None)
    assert other.give_up(3, "no memory")
    assert [(t.state, t.value) for t in one.trials()] == [
        ("complete", 0.5), ("pruned", 0.25), ("failed", None), ("lost", None),
    ]  # fmt: skip
    assert one.running_here() == {}


def test_scores_on_the_way_are_kept_once(tmp_path: Path) -> None:
    opened = Study(tmp_path)
    opened.ask("0000", 1, SPACE, seed=0)
    opened.report(0, 10, 0.5)
    assert Study(tmp_path).trials()[0].reported == {10: 0.5}
    opened.tell(0, 0.7)
    opened.report(0, 20, 0.6)
    assert Study(tmp_path).trials()[0].reported == {10: 0.5}


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    Study(tmp_path).ask("0000", 2, SPACE, seed=0)
    with (tmp_path / study.JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 6, "trial_')
    with pytest.warns(UserWarning, match=r"1 unusable part moved to study.journal.damaged-1"):
        opened = Study(tmp_path)
    assert opened.tell(0, 0.5)
    assert [t.state for t in Study(tmp_path).trials()] == ["complete", "running"]


def test_a_silent_place_is_given_up_and_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    mine, theirs = Study(here, url=url), Study(there, url=url)
    assert mine.directory != theirs.directory
    assert Study(here, url=url).directory == mine.directory
    monkeypatch.setattr(study, "HEARTBEAT_S", 0.01)
    with theirs.heartbeat():
        theirs.ask("0000", 2, SPACE, seed=0)
        assert mine.running_here() == {}
        assert mine.reap() == []
    assert theirs.tell(0, 0.5)
    assert mine.reap() == []
    now = time.time() + study.SILENT_S + 1
    monkeypatch.setattr(study.time, "time", lambda: now)
    assert mine.reap() == [1]
    # It was not dead after all: what it says of the trial comes too late.
    assert not theirs.tell(1, 0.9)
    assert [t.state for t in mine.trials()] == ["complete", "lost"]


def test_a_database_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--storage=nonsense cannot be used"):
        Study(tmp_path, url="nonsense")


def test_a_database_that_goes_away_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    opened = Study(tmp_path, url=f"sqlite:///{path}")
    opened.ask("0000", 1, SPACE, seed=0)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE trials")
    with (
        pytest.raises(
            UserError,
            match=r"the database --storage=sqlite:.* cannot be reached any more \(.*no such table",
        ),
        study.database_errors(opened.url),
    ):
        opened.tell(0, 0.5)


def test_importance_needs_trials(tmp_path: Path) -> None:
    opened = Study(tmp_path)
    assert opened.importances() == {}
    for trial in opened.ask("0000", 12, SPACE, seed=0):
        opened.tell(trial.number, trial.params["dropout"])
    shares = opened.importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) == "dropout"


def test_the_first_trial_is_as_it_is_told(tmp_path: Path) -> None:
    opened = Study(tmp_path)
    name = "dropout"
    low = 0.1
    first, second = opened.ask("0000", 2, SPACE, seed=0, first={name: low})
    assert first.params[name] == low != second.params[name]
    (third,) = opened.ask("0001", 1, SPACE, seed=0, first={name: low})
    assert third.params[name] != low


def test_workers_that_start_at_once_agree_on_the_name_of_the_directory(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        gate = threading.Barrier(4)
        found: list[str] = []

        def name(
            folder: Path = folder, gate: threading.Barrier = gate, found: list[str] = found
        ) -> None:
            gate.wait()
            found.append(study._identifier(folder))

        threads = [threading.Thread(target=name) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4 and len(set(found)) == 1
        assert sorted(path.name for path in folder.iterdir()) == ["place", "turn"]
