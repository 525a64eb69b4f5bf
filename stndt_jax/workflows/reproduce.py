"""From NWB files to a report beside the published table, in stages that are each done once.

``data/``       the recording in the benchmark's two phases
``search/``     the search, on the validation phase
``ensemble/``   the best n models by validation co-bps, scored on the validation phase
``test/``       the same settings trained on training and validation trials, for as many epochs as
                gave each model's best weights, and their mean rate: the submission file
``report.md``   what came of it
``done/``       a file for each stage that is done

Started again, it goes on in the stage that it was in, and in there where that stage was.
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
from stndt_jax.search import plan as search_plan
from stndt_jax.search import results, worker

BIN_MS = 5


class Budget(NamedTuple):
    """How much is spent: the search's size, and settings beside those of a data set."""

    trials: int
    population: str
    config: str  # a shipped configuration; empty for that of the data set
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
    """What to reproduce, from where and with how much.

    Attributes:
      name: of the data set.
      nwb: folder of its NWB files.
      folder: where everything goes.
      budget: name of one of ``BUDGETS``.
      trials: of the search.
      population: trials that train together, or ``auto``.
      settings: ``--config.KEY=VALUE`` of the user's own.
      say: is told what happens.
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
      folder: where everything goes.
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
    """Does what is left to do, and writes the report.

    Returns:
      The report's path.

    Raises:
      UserError: a stage met a mistake, or the folder is of another task.
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
            task.say(f"{name}: begins")
            records.write(marker, stage(task))
        done[name] = records.read(marker, f"remove {marker}, and the stage is done again")
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
            f"go on with it, or choose another --workdir"
        )


def _settings(task: Task) -> list[str]:
    """The search's configuration; the user's own settings win."""
    budget = BUDGETS[task.budget]
    words = [
        f"--config={budget.config or task.name}",
        *budget.settings,
        f"--config.data.name={task.name}",
        *task.settings,
    ]
    return list({word.partition("=")[0]: word for word in words}.values())


def _prepare(task: Task) -> dict[str, Any]:
    """Makes the files of both phases; of the first alone, where there is no test file."""
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
    plan, data = search_plan.make(
        task.folder / "search", settings, trials=task.trials, population=task.population
    )
    working = worker.Search(plan, data)
    worker.work(working, task.say)
    found = results.write(plan.folder, working.study)
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
    """Trains the chosen models again, from scratch, on all trials whose counts are known."""
    if not task.file("test").exists():
        return {}
    chosen, path = task.folder / "ensemble", str(task.file("test"))
    return retrain.retrain(chosen, path, task.folder / "test", say=task.say)


def _submit(task: Task) -> dict[str, Any]:
    """The mean rate of the retrained models, each with the weight it was chosen with."""
    if not task.file("test").exists():
        return {}
    out = task.folder / "test"
    evaluate.evaluate(out)
    return {"file": str(out / "submission.h5")}
