"""A search: populations of trials asked for, trained together, told together.

A search directory holds

``study.journal``        Optuna's trials, unless a database does
``trials/NNNN/``         a run directory for each population, with ``population.json``: its trials
``claims/NNNN/lock``     which worker is at it
``search.json``, ``trials.csv``, figures: results, written by every worker that ends

Any number of workers may share it, and any of them may die at any moment. Who has his turn looks
first for trials that are running in the study while nobody is at work on them: he goes on with
them from the last checkpoint, or with asking for them where that was cut off. So a trial is never
asked again and never told twice. Members that are pruned cost nothing from then on (on accelerators
the others go on in a smaller program); their places are filled again when the next population
begins, which is at once when nobody is left in this one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stndt_jax import files
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import Diverged, UserError
from stndt_jax.evaluation import evaluate
from stndt_jax.runs import directory, log
from stndt_jax.runs.lock import Lock, turn, wait_until_free
from stndt_jax.search import pruning
from stndt_jax.search import space as spaces
from stndt_jax.search.space import Space
from stndt_jax.search.study import Study, Trial
from stndt_jax.training import loop as training

POLL_S = 1.0
_FILE = "population.json"


@dataclass(frozen=True)
class Plan:
    """What a worker is to do.

    Attributes:
      folder: the search directory.
      config: what the search keeps as it is.
      space: what it changes.
      trials: how many are to be finished, by all workers together.
      size: trials in a population.
      pruner: one of ``pruning.PRUNERS``.
      sampler: one of ``study.SAMPLERS``.
      storage: URL of a database; empty for the journal in the directory.
      name: of the study.
      quiet: print nothing of the training.
    """

    folder: Path
    config: Config
    space: Space
    trials: int
    size: int
    pruner: str = "none"
    sampler: str = "tpe"
    storage: str = ""
    name: str = "stndt"
    quiet: bool = False

    def study(self) -> Study:
        """The study, opened anew."""
        return Study(self.folder, url=self.storage, name=self.name, sampler=self.sampler)


def base(config: Config) -> Config:
    """A configuration for a search: paths that hold anywhere, no members of its own.

    Raises:
      UserError: it names members, or no trial selects.
    """
    if config.members:
        name = next(iter(config.members))
        raise UserError(f"config.members.{name} is set, but a search chooses the members' values")
    data = dataclasses.replace(
        config.data,
        path=str(Path(config.data.path).absolute()),
        targets=str(Path(config.data.targets).absolute()) if config.data.targets else "",
    )
    return dataclasses.replace(config, data=data, population=1)


def check_selects(config: Config, data: SpikeData) -> None:
    """Refuses a search in which nothing tells a good trial from a bad one.

    Raises:
      UserError: no trial selects.
    """
    if data.eval.heldout is None and config.data.validation_fraction == 0:
        raise UserError(
            "config.data.validation_fraction is 0 and the held-out counts of the evaluated trials "
            "are unknown, so no trial can select; give a fraction, for example .2, or "
            "config.data.targets"
        )


class Search:
    """One worker's part in a search; a driver's, where others train."""

    def __init__(self, plan: Plan, data: SpikeData) -> None:
        """Opens or begins the search.

        Raises:
          UserError: the directory or the study is of another search.
        """
        self.plan, self.study = plan, plan.study()
        mine = {
            "config": configs.to_mapping(plan.config),
            "space": plan.space.plain(),
            "data": data.fingerprint(),
        }
        _same(self.study.settings(mine), plan, data.fingerprint())
        for name in ("trials", "claims"):
            (plan.folder / name).mkdir(exist_ok=True)

    def claim(self) -> Claim | None:
        """Trials to train: somebody's who has died, else new ones; None if there are none now."""
        with turn(self.plan.folder / "turn"):
            self.study.reap()
            for run in self.study.running_here():
                if claim := self._take(run):
                    # Whoever had it may have told the last of it a moment ago.
                    if trials := self.study.running_here().get(run):
                        self._complete(claim, len(trials))
                        return claim
                    claim.release()
            if self._left() <= 0:
                return None
            claim = self._take(self._new_name())
            assert claim is not None  # nobody else has his turn
            self._complete(claim, 0)
            return claim

    def _complete(self, claim: Claim, asked: int) -> None:
        """Asks for the trials of a run that are still to be asked for."""
        if (claim.folder / _FILE).exists():
            return
        try:
            self._ask(claim, max(asked, min(self.plan.size, asked + self._left())))
        except BaseException:
            claim.release()
            raise

    def _take(self, run: str) -> Claim | None:
        """A claim on a run, unless somebody who is alive has one."""
        place = self.plan.folder / "claims" / run
        place.mkdir(exist_ok=True)
        lock = Lock(place)
        try:
            lock.__enter__()
        except UserError:
            return None
        return Claim(self.plan.folder / "trials" / run, lock)

    def _left(self) -> int:
        """How many trials may still be asked for."""
        return self.plan.trials - sum(t.state != "lost" for t in self.study.trials())

    def _new_name(self) -> str:
        there = [path.name for path in (self.plan.folder / "trials").iterdir()]
        numbers = [int(name) for name in (*there, *self.study.runs_here()) if name.isdecimal()]
        return f"{max(numbers, default=-1) + 1:04d}"

    def _ask(self, claim: Claim, size: int) -> None:
        config, space = self.plan.config, self.plan.space
        first = spaces.of_config(config, space)
        trials = self.study.ask(claim.folder.name, size, space, config.seed, first)
        seeds = [(config.seed + t.number) % 2**31 for t in trials]
        full = spaces.population(config, space, [t.params for t in trials], seeds)
        claim.folder.mkdir(exist_ok=True)
        about = {
            "trials": [{"number": t.number, "params": t.params} for t in trials],
            "config": configs.to_mapping(full),
        }
        files.write_json(claim.folder / _FILE, about)

    def tell(self, claim: Claim) -> list[Trial]:
        """Tells the study how the trials of a trained run ended.

        Returns:
          Those trials.
        """
        numbers = read_population(claim.folder)[0]
        out = pruning.pruned(pruning.decided(claim.folder))
        for k, (number, value) in enumerate(zip(numbers, scores(claim.folder), strict=True)):
            self.study.tell(number, value, pruned=k in out)
        return [t for t in self.study.trials() if t.number in numbers]

    def lose(self, claim: Claim, why: str) -> None:
        """Gives up the trials of a run that cannot be trained."""
        for number in read_population(claim.folder)[0]:
            self.study.lose(number, why)

    def finished(self) -> int:
        """How many trials have ended, whoever trained them."""
        return sum(t.state not in ("running", "lost") for t in self.study.trials())

    def done(self) -> bool:
        """Whether as many trials as were wanted have ended."""
        return self.finished() >= self.plan.trials


@dataclass(frozen=True)
class Claim:
    """A run that this worker alone is at."""

    folder: Path
    lock: Lock

    def release(self) -> None:
        """Leaves it to others."""
        self.lock.__exit__()


def _same(begun: dict[str, Any], plan: Plan, fingerprint: str) -> None:
    """Refuses to join a search of something else."""
    old = configs.from_mapping(configs.with_later(begun["config"]))
    changed = directory.differences(old, plan.config)
    changed = [one for one in changed if one.split(":")[0] not in configs.FREE]
    space = plan.space.plain()
    changed += [
        f"search space of {name}: {begun['space'].get(name)} -> {space.get(name)}"
        for name in {**begun["space"], **space}
        if begun["space"].get(name) != space.get(name)
    ]
    if begun["data"] != fingerprint:
        changed.append(f"data: fingerprint {begun['data'][:12]} -> {fingerprint[:12]}")
    if changed:
        raise UserError(
            f"the study {plan.name} of {plan.storage or plan.folder} is another search "
            f"({'; '.join(changed)}); repeat its settings to join it, or choose another --workdir"
            f"{' or --study' if plan.storage else ''}"
        )


def read_population(run: Path) -> tuple[list[int], Config]:
    """The trials of a run, and its configuration."""
    found = files.read_json(run / _FILE, "restore it from a backup")
    try:
        numbers = [int(trial["number"]) for trial in found["trials"]]
        return numbers, configs.from_mapping(configs.with_later(found["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / _FILE} is damaged ({error}); restore it from a backup") from error


def train_run(run: Path, plan: Plan) -> None:
    """Trains the population of a run directory to its end, from wherever it is.

    It may have been begun by another worker, on another machine, that has died.

    Raises:
      Interrupted: as ``train.train``, as do mistakes and a full disk.
    """
    numbers, config = read_population(run)
    data = evaluate.read_data(config)
    pruner = None
    if plan.pruner != "none":
        train = config.train
        at = pruning.epochs(plan.pruner, train.epochs, train.validate_every)
        pruner = pruning.Pruner(plan.pruner, at, run, plan.study(), numbers)
    wait_until_free(run)
    try:
        training.train(config, data, run, quiet=plan.quiet, pruner=pruner)
    except Diverged:
        # The trials have failed, the search has not.
        return


def scores(run: Path) -> list[float | None]:
    """The best validation co-bps of each member; None where none was finite."""
    population = read_population(run)[1].population
    path = run / "metrics.jsonl"
    rows = log.read_metrics(path) if path.exists() else []
    return list(rows[-1]["best_cobps"]) if rows else [None] * population


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine, or its accelerator, was too small for a population."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def work(search: Search, say: Callable[[str], None] = print) -> None:
    """Claims and trains, here, until as many trials as were wanted have ended.

    Raises:
      UserError, Interrupted: as ``train.train``; the same command goes on.
    """
    waiting = False
    with search.study.beating():
        while not search.done():
            claim = search.claim()
            if claim is None:
                if not waiting:
                    say("all trials are asked for; waiting for those of other workers")
                waiting = True
                time.sleep(POLL_S)
                continue
            waiting = False
            try:
                say(describe(search, claim))
                train_run(claim.folder, search.plan)
                trials = search.tell(claim)
            except (MemoryError, RuntimeError) as error:
                if out_of_memory(error):
                    search.lose(claim, "out of memory")
                raise
            finally:
                claim.release()
            say(told(search, trials))


def describe(search: Search, claim: Claim) -> str:
    """A claimed population in words."""
    numbers, config = read_population(claim.folder)
    shared = ", ".join(f"{key} {_value(config, key)}" for key in search.plan.space.shared)
    going = "going on with" if (claim.folder / "config.json").exists() else "beginning"
    return (
        f"{going} trials {numbers[0]} to {numbers[-1]} in {claim.folder}"
        f"{f' ({shared})' if shared else ''}"
    )


def _value(config: Config, key: str) -> Any:
    section, leaf = key.split(".")
    return getattr(getattr(config, section), leaf)


def told(search: Search, trials: list[Trial]) -> str:
    """How a population ended, and the search so far, in words."""
    from stndt_jax.search import study

    best = study.best(search.study.trials())
    so_far = f"best co-bps {best.value:.4f} (trial {best.number})" if best else "no score yet"
    states = [t.state for t in trials]
    parts = [f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed") if s in states]
    return f"{', '.join(parts)}; {search.finished()} of {search.plan.trials} trials ended, {so_far}"
