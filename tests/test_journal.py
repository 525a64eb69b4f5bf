"""The journal of a study: every damage repaired, no trial lost, none invented.

Training is replaced by a function of the hyperparameters; ``tools/robustness/journal.py`` trains.
"""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from pathlib import Path

import pytest
from journal import ASKED, DAMAGES, LEFT, SILENT, TRAINED, Lines, earlier
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from stndt_jax.errors import UserError
from stndt_jax.runs import records
from stndt_jax.search.space import Choice, Range, Space
from stndt_jax.search.study import JOURNAL, Study, Trial

SPACE = Space(
    {"dropout": Range(0.1, 0.5, False, False), "context_forward": Range(1, 9, False, True)},
    {"model.layers": Choice((1, 2))},
)


def _opened(folder: Path) -> Study:
    return Study(folder, space={**SPACE.shared, **SPACE.own})


def _populate(folder: Path, opened: Study, trials: int) -> None:
    """Creates populations of two until there are so many trials."""
    while (begun := sum(t.state != "lost" for t in opened.trials())) < trials:
        run = f"{len(list((folder / 'trials').iterdir())):04d}"
        asked = opened.ask(run, min(2, trials - begun), SPACE, seed=0)
        (folder / "trials" / run).mkdir()
        about = [{"number": t.number, "params": t.params} for t in asked]
        records.write(folder / "trials" / run / "population.json", {"trials": about})


def _tell(folder: Path, opened: Study) -> None:
    """Ends the trials that are running, as a worker that adopts them does."""
    for run in opened.running_here():
        found = records.read(folder / "trials" / run / "population.json")["trials"]
        for one in found:
            opened.tell(one["number"], one["params"]["dropout"])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trials that have ended, and two that a dead worker left."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "trials").mkdir()
    opened = _opened(folder)
    opened.settings({"config": 1})
    _populate(folder, opened, TRAINED)
    _tell(folder, opened)
    _populate(folder, opened, TRAINED + LEFT)
    return folder


def _same(trial: Trial) -> tuple[object, ...]:
    return trial.number, trial.run, trial.member, trial.params


@pytest.mark.parametrize("old", [False, True], ids=["new", "earlier"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_repaired(
    original: Path, tmp_path: Path, damage: str, old: bool
) -> None:
    if old and damage == "a bit of a score flipped":
        pytest.skip("without a checksum, this is another score")
    folder = tmp_path / "search"
    before = {t.number: t for t in _opened(original).trials()}
    shutil.copytree(original, folder)
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    content = DAMAGES[damage]([earlier(line) for line in lines] if old else lines)
    (folder / JOURNAL).unlink()
    if content is not None:
        (folder / JOURNAL).write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = _opened(folder)
        assert opened.settings({"config": 2}) == {"config": 1}
    assert bool(caught) == (damage not in SILENT)
    _tell(folder, opened)
    _populate(folder, opened, ASKED)
    _tell(folder, opened)
    # What was repaired is whole, for Optuna's own reader too.
    again = {t.number: t for t in _opened(folder).trials() if t.state != "lost"}
    assert again == {t.number: t for t in opened.trials() if t.state != "lost"}
    theirs = JournalStorage(JournalFileBackend(str(folder / JOURNAL))).get_all_trials(0)
    assert [t.params for t in theirs] == [t.params for t in opened.trials()]
    assert len(again) == ASKED
    for number, trial in before.items():
        assert _same(again[number]) == _same(trial)
    for trial in again.values():
        assert trial.state == "complete" and trial.value == trial.params["dropout"]


def test_what_is_removed_is_set_aside(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    for number in (1, 2):
        with (folder / JOURNAL).open("ab") as file:
            file.write(f"garbage {number}".encode())
        with pytest.warns(UserWarning, match=rf"1 unusable part moved to .*damaged-{number}"):
            _opened(folder)
        aside = folder / f"{JOURNAL}.damaged-{number}"
        assert aside.read_bytes() == f"garbage {number}\n".encode()


@pytest.mark.parametrize("damage", ["torn", "removed", "creation"])
def test_a_journal_damaged_beside_a_living_worker(
    original: Path, tmp_path: Path, damage: str
) -> None:
    """Another worker tears a line on a full disk, or somebody edits or removes the file."""
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    one, other = _opened(folder), _opened(folder)
    path = folder / JOURNAL
    if damage == "torn":
        with path.open("ab") as file:
            file.write(b'{"op_code":6,"worker_id":"full","tri')
    elif damage == "removed":
        path.unlink()
    else:
        content = DAMAGES["creation of a trial missing"](path.read_bytes().splitlines(True))
        path.write_bytes(content or b"")
    with pytest.warns(UserWarning, match=r"study.journal (was damaged|is missing)"):
        assert one.tell(4, 0.25)
    assert other.tell(5, 0.5)
    for opened in (one, other, _opened(folder)):
        found = {t.number: t.value for t in opened.trials()}
        assert len(found) == 6 and (found[4], found[5]) == (0.25, 0.5)


def test_a_full_disk_leaves_the_journal_whole(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    one, other = _opened(folder), _opened(folder)
    before = (folder / JOURNAL).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr("os.fsync", full)
        one.tell(4, 0.25)
    assert (folder / JOURNAL).read_bytes() == before
    assert other.tell(5, 0.5)
    assert one.tell(4, 0.25)
    assert len(_opened(folder).trials()) == 6


def test_workers_append_at_once(tmp_path: Path) -> None:
    """Every record is there, whole, and every trial has its own number."""
    studies = [_opened(tmp_path) for _ in range(4)]

    def append(k: int) -> None:
        for n in range(10):
            studies[k].ask(f"{k}{n}", 1, SPACE, seed=k)

    threads = [threading.Thread(target=append, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines: Lines = (tmp_path / JOURNAL).read_bytes().splitlines()
    created = [json.loads(line) for line in lines if json.loads(line)["op_code"] == 4]
    assert [one["trial_id"] for one in created] == list(range(40))
    assert len({t.run for t in _opened(tmp_path).trials()}) == 40


def test_a_lock_that_optuna_left_is_no_hindrance(original: Path, tmp_path: Path) -> None:
    """Earlier versions used Optuna's symbolic link, which a killed process leaves behind."""
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    (folder / f"{JOURNAL}.lock").symlink_to(folder / JOURNAL)
    assert _opened(folder).tell(4, 0.5)


def test_trials_that_nothing_tells_of_are_refused(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    (folder / JOURNAL).write_bytes(b"")
    for path in folder.glob("trials/*/population.json"):
        path.rename(path.with_name("config.json"))
    with pytest.raises(UserError, match=r"holds no record, and no population.json"):
        _opened(folder)


def test_one_trial_in_two_runs_is_refused(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    shutil.copytree(folder / "trials" / "0001", folder / "trials" / "0009")
    with pytest.raises(UserError, match=r"trials/0001 and trials/0009 .* both have trial 2"):
        _opened(folder)


def test_several_studies_in_a_journal_are_not_guessed(tmp_path: Path) -> None:
    for name in ("one", "other"):
        opened = Study(tmp_path, name=name)
        opened.ask("0000", 2, SPACE, seed=0)
        assert [t.number for t in opened.trials()] == [0, 1]
    assert len(Study(tmp_path, name="one").trials()) == 2
    path = tmp_path / JOURNAL
    whole = path.read_bytes().splitlines(True)
    for damage in ("creation of a trial missing", "creation of the study missing"):
        path.write_bytes(DAMAGES[damage](list(whole)) or b"")
        with pytest.raises(UserError, match=r"several studies in it; restore study.journal"):
            Study(tmp_path, name="one")


def test_a_range_that_nobody_knows_is_asked_for(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    (folder / JOURNAL).unlink()
    with pytest.raises(UserError, match=r"range of .* is not known; start stndt search"):
        Study(folder)
    with pytest.warns(UserWarning, match="is missing or empty: 6 trials restored"):
        assert len(_opened(folder).trials()) == 6


def test_the_directory_is_known_by_its_trials(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(original, folder)
    name = (folder / "place").read_text()
    for content in (None, ""):
        (folder / "place").unlink()
        if content is not None:
            (folder / "place").write_text(content)
        assert _opened(folder).directory == name
        assert sum(len(trials) for trials in _opened(folder).running_here().values()) == LEFT


def test_a_journal_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match=r"study.journal cannot be read \(Is a directory\)"):
        Study(tmp_path)
