"""From a benchmark's NWB files to a report beside the published scores, in stages.

``data/``       the recordings of the two phases of the benchmark
``search/``     the search, on the recording of the validation phase
``ensemble/``   the best n models by validation co-bps, scored on the validation phase
``test/``       the same models trained again on training and validation trials, each for as many
                epochs as gave its best weights; their mean rate is the submission file
``report.md``   the scores
``done/``       the result of each finished stage

Started again, it skips the finished stages and resumes the one that was interrupted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax.data import hdf5, nlb
from stndt_jax.ensembles import build, retrain
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate
from stndt_jax.report import reproduction
from stndt_jax.runs import directory, ensemble_directory, records
from stndt_jax.search import run as search

BIN_MS = 5


class Budget(NamedTuple):
    """The size of the search, and settings in addition to those of a data set."""

    trials: int
    population: str
    config: str  # a shipped configuration; empty for the published one of the data set
    settings: tuple[str, ...]


BUDGETS = {
    "paper": Budget(120, "auto", "", ()),
    "small": Budget(
        8,
        "4",
        "mc_maze_large",
        (
            *("--config.train.epochs=60", "--config.train.validate_every=5"),
            *("--config.train.batch=16", "--config.optimizer.warmup_epochs=4"),
            "--config.model.feedforward=64",
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What to reproduce, from which files, with which budget.

    Attributes:
      name: of the data set.
      nwb: directory of its NWB files.
      folder: directory for everything that is written.
      budget: name of one of ``BUDGETS``.
      trials: of the search.
      population: trials that train together, or ``auto``.
      settings: ``--config.KEY=VALUE`` of the user's own.
      say: called with each line of progress.
    """

    name: str
    nwb: Path
    folder: Path
    budget: str
    trials: int
    population: str
    settings: tuple[str, ...]
    say: Callable[[str], None] = print

    def file(self, phase: str, targets: bool = False) -> Path:
        """The input or target file of a phase."""
        stem = f"{hdf5.group_name(self.name, BIN_MS)}_{phase}"
        return self.folder / "data" / f"{stem}{'_target' if targets else ''}.h5"


def task(
    name: str,
    nwb: Path,
    folder: Path,
    *,
    budget: str,
    trials: int = 0,
    population: str = "",
    settings: Sequence[str] = (),
) -> Task:
    """A checked task.

    Args:
      name: of the data set.
      nwb: directory of its NWB files.
      folder: directory for everything that is written.
      budget: name of one of ``BUDGETS``.
      trials: of the search; 0 for those of the budget.
      population: trials that train together, or ``auto``; empty for that of the budget.
      settings: ``--config.KEY=VALUE`` of the user's own.

    Raises:
      UserError: the data set is unknown, or the settings choose a configuration or a recording.
    """
    nlb.check_name(name)
    for word in settings:
        if re.match(r"--config(=|\.data\.)", word):
            raise UserError(
                f"{word} cannot be set: configuration and recording are those of {name}"
            )
    size = BUDGETS[budget]
    return Task(
        name=name,
        nwb=nwb,
        folder=folder,
        budget=budget,
        trials=trials or size.trials,
        population=population or size.population,
        settings=tuple(settings),
    )


def run(task: Task) -> Path:
    """Runs the stages that are not finished, and writes the report.

    Returns:
      The report's path.

    Raises:
      UserError: from a stage, or the directory holds another task.
    """
    directory.make(task.folder)
    for name in ("done", "data"):
        (task.folder / name).mkdir(exist_ok=True)
    _same_task(task)
    stages: list[tuple[str, Callable[[Task], dict[str, Any]]]] = [
        ("prepare", _prepare),
        ("search", _search),
        ("ensemble", _ensemble),
        ("score", _score),
        ("retrain", _retrain),
        ("submit", _submit),
    ]
    done: dict[str, dict[str, Any]] = {}
    for name, stage in stages:
        marker = task.folder / "done" / f"{name}.json"
        if marker.exists():
            task.say(f"{name}: done")
        else:
            task.say(f"{name}: running")
            records.write(marker, stage(task))
        done[name] = records.read(marker, f"remove {marker} to run the stage again")
    report = task.folder / "report.md"
    reproduction.write(
        report,
        name=task.name,
        budget=task.budget,
        settings=[word for word in _settings(task) if ".data." not in word],
        trials=task.trials,
        as_published=task.budget == "paper"
        and task.trials == BUDGETS["paper"].trials
        and not task.settings,
        done=done,
    )
    return report


def _same_task(task: Task) -> None:
    """Refuses a directory that holds another task, and marks a new one."""
    path = task.folder / "task.json"
    mine = {
        "data_set": task.name,
        "budget": task.budget,
        "trials": task.trials,
        "settings": list(task.settings),
    }
    if not path.exists():
        records.write(path, mine)
    old = records.read(path, "restore it, or choose another --workdir")
    if changed := [
        f"{key}: {old.get(key)} -> {mine[key]}" for key in mine if old[key] != mine[key]
    ]:
        raise UserError(
            f"{task.folder} holds another reproduction ({'; '.join(changed)}); repeat its flags to "
            f"resume it, or choose another --workdir"
        )


def _settings(task: Task) -> list[str]:
    """The settings of the search: the budget's, then the data set's, then the user's."""
    budget = BUDGETS[task.budget]
    words = [
        f"--config={budget.config or task.name + ':paper'}",
        *budget.settings,
        f"--config.data.name={task.name}",
        *task.settings,
    ]
    return list({word.partition("=")[0]: word for word in words}.values())


def _prepare(task: Task) -> dict[str, Any]:
    """Makes the recordings of both phases, or of the first only if there is no test file."""
    why = ""
    for phase in nlb.PHASES:
        try:
            nlb.find(task.name, task.nwb, phase)
        except UserError as error:
            if phase == "val":
                raise
            why = str(error)
            continue
        tensors = nlb.prepare(task.name, task.nwb, bin_ms=BIN_MS, phase=phase)
        tensors.write(task.file(phase), task.file(phase, targets=True))
    data = hdf5.read(task.file("val"), task.file("val", targets=True), name=task.name)
    return {
        "test_phase": not why,
        "why": why,
        "train_trials": len(data.train),
        "validation_trials": len(data.eval),
        "bins": [data.bins_observed, data.bins_forward],
        "neurons": [data.heldin, data.heldout],
        "fingerprint": data.fingerprint(),
    }


def _search(task: Task) -> dict[str, Any]:
    settings = [
        *_settings(task),
        f"--config.data.path={task.file('val')}",
        f"--config.data.targets={task.file('val', targets=True)}",
    ]
    found = search.search(
        task.folder / "search",
        settings,
        trials=task.trials,
        population=task.population,
        say=task.say,
    )
    return {key: found[key] for key in ("best", "importance")}


def _ensemble(task: Task) -> dict[str, Any]:
    out = task.folder / "ensemble"
    if not ensemble_directory.is_ensemble(out):
        build.build([task.folder / "search" / "trials"], out, say=task.say)
    found = ensemble_directory.read(out)
    task.say(build.table(found))
    return {
        "size": found["size"],
        "candidates": len(found["candidates"]),
        "validation_co_bps": found["validation_co_bps"],
    }


def _score(task: Task) -> dict[str, Any]:
    scores = evaluate.evaluate(task.folder / "ensemble").scores
    task.say(evaluate.table(scores))
    return {key: scores[key] for key in ("best_member", "ensemble")}


def _retrain(task: Task) -> dict[str, Any]:
    """Trains the selected models again, from scratch, on all trials with known counts."""
    if not task.file("test").exists():
        return {}
    chosen, path = task.folder / "ensemble", str(task.file("test"))
    return retrain.retrain(chosen, path, task.folder / "test", say=task.say)


def _submit(task: Task) -> dict[str, Any]:
    """The mean rate of the retrained models, with their weights in the ensemble."""
    if not task.file("test").exists():
        return {}
    out = task.folder / "test"
    evaluate.evaluate(out)
    return {"file": str(out / "submission.h5")}
