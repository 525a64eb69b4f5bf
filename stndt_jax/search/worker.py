"""Training the populations of a search: claim trials, train them, report their scores.

A search directory holds

``study.journal``        Optuna's trials, unless they are in a database
``trials/NNNN/``         the run directory of each population; ``population.json`` lists its trials
``claims/NNNN/lock``     held by the worker that trains the population
``search.json``, ``trials.csv``, figures: the results, written by every worker when it ends

Any number of workers may share the directory, and any of them may die at any moment. A worker
first looks for populations whose trials are running in the study although no worker holds their
lock, and resumes them from their last checkpoint, or completes their creation where that was
interrupted. So no trial is lost, and none is trained twice. The members of a population that are
pruned cost nothing from then on (on accelerators the rest continues in a smaller program); new
trials start with the next population.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import Diverged, UserError
from stndt_jax.runs import directory, log, recording, records
from stndt_jax.runs.lock import Lock, holder, turn, wait_until_free
from stndt_jax.search import pruning
from stndt_jax.search import space as spaces
from stndt_jax.search import study as studies
from stndt_jax.search.space import Space
from stndt_jax.search.study import Study, Trial
from stndt_jax.training import loop as training

POLL_S = 1.0
WAITING = "waiting for the trials that other workers train"
_FILE = "population.json"


@dataclass(frozen=True)
class Plan:
    """What every worker of a search has to know.

    Attributes:
      folder: the search directory.
      config: the configuration that the search starts from.
      space: the hyperparameters it varies.
      trials: how many trials to finish, by all workers together.
      size: trials in a population.
      pruner: one of ``pruning.PRUNERS``.
      sampler: one of ``study.SAMPLERS``.
      storage: URL of a database; empty for the journal in the directory.
      name: of the study in the storage.
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
        """Opens the study."""
        space = {**self.space.shared, **self.space.own}
        return Study(
            self.folder, url=self.storage, name=self.name, sampler=self.sampler, space=space
        )


def base(config: Config) -> Config:
    """The configuration of a search: absolute paths, one member.

    Raises:
      UserError: it sets values for single members.
    """
    if config.members:
        name = next(iter(config.members))
        raise UserError(
            f"config.members.{name} is set, but a search samples the members' values; leave it out"
        )
    data = dataclasses.replace(
        config.data,
        path=str(Path(config.data.path).absolute()) if config.data.path else "",
        targets=str(Path(config.data.targets).absolute()) if config.data.targets else "",
    )
    return dataclasses.replace(config, data=data, population=1)


def check_selects(config: Config, data: SpikeData) -> None:
    """Refuses a search without trials to validate on.

    Raises:
      UserError: there are none.
    """
    if data.eval.heldout is None and config.data.validation_fraction == 0:
        raise UserError(
            "config.data.validation_fraction is 0 and the held-out counts of the evaluated trials "
            "are unknown, so no trial can be scored; give a fraction, for example .2, or "
            "config.data.targets"
        )


@dataclass(frozen=True)
class Claim:
    """A population that only this worker trains, until it releases it."""

    folder: Path
    lock: Lock

    def release(self) -> None:
        """Lets other workers claim it."""
        self.lock.__exit__()


class Search:
    """A search as one worker sees it."""

    def __init__(self, plan: Plan, data: SpikeData) -> None:
        """Opens the search or creates it.

        Raises:
          UserError: the directory or the study holds another search.
        """
        self.plan, self.study = plan, plan.study()
        settings = {
            "config": configs.to_mapping(plan.config),
            "space": plan.space.plain(),
            "data": data.fingerprint(),
        }
        _check_same(self.study.settings(settings), plan, data)
        for name in ("trials", "claims"):
            (plan.folder / name).mkdir(exist_ok=True)

    def claim(self) -> Claim | None:
        """A population to train; None if all are being trained and no more trials are needed.

        First a population whose worker has died, then a new one.
        """
        with turn(self.plan.folder / "turn"):
            self.study.reap()
            for run in self.study.running_here():
                claim = self._lock(run)
                if claim is None:
                    continue
                # Its worker may have ended the trials just before it released the lock.
                if trials := self.study.running_here().get(run):
                    return self._filled(claim, len(trials))
                claim.release()
            if self._missing() <= 0:
                return None
            claim = self._lock(self._new_run())
            assert claim is not None  # only the worker whose turn it is creates runs
            return self._filled(claim, 0)

    def _lock(self, run: str) -> Claim | None:
        """A claim on a run, unless a living process claims or trains it.

        Only an actor whose driver has died trains a run without a claim.
        """
        folder = self.plan.folder / "claims" / run
        folder.mkdir(exist_ok=True)
        lock = Lock(folder, wait_s=0.0)
        try:
            lock.__enter__()
        except UserError:
            return None
        claim = Claim(self.plan.folder / "trials" / run, lock)
        if holder(claim.folder) is not None:
            claim.release()
            return None
        return claim

    def _missing(self) -> int:
        """How many trials are still to be created."""
        return self.plan.trials - sum(t.state != "lost" for t in self.study.trials())

    def _new_run(self) -> str:
        on_disk = [path.name for path in (self.plan.folder / "trials").iterdir()]
        numbers = [int(name) for name in (*on_disk, *self.study.runs_here()) if name.isdecimal()]
        return f"{max(numbers, default=-1) + 1:04d}"

    def _filled(self, claim: Claim, created: int) -> Claim:
        """The claim, its trials created and written to ``population.json``.

        Args:
          claim: on a run that may lack trials, because it is new or its worker died.
          created: how many of its trials the study has.
        """
        if (claim.folder / _FILE).exists():
            return claim
        try:
            self._ask(claim, max(created, min(self.plan.size, created + self._missing())))
        except BaseException:
            claim.release()
            raise
        return claim

    def _ask(self, claim: Claim, size: int) -> None:
        config, space = self.plan.config, self.plan.space
        first = spaces.of_config(config, space)
        trials = self.study.ask(claim.folder.name, size, space, config.seed, first)
        seeds = [(config.seed + t.number) % 2**31 for t in trials]
        population = spaces.population(config, space, [t.params for t in trials], seeds)
        claim.folder.mkdir(exist_ok=True)
        about = {
            "trials": [{"number": t.number, "params": t.params} for t in trials],
            "config": configs.to_mapping(population),
        }
        records.write(claim.folder / _FILE, about)

    def tell(self, claim: Claim) -> list[Trial]:
        """Ends the trials of a trained population with their scores.

        Returns:
          Those trials.
        """
        claim.lock.check()
        numbers = read_population(claim.folder)[0]
        pruned = pruning.pruned(pruning.decided(claim.folder))
        for k, (number, value) in enumerate(zip(numbers, scores(claim.folder), strict=True)):
            self.study.tell(number, value, pruned=k in pruned)
        return [t for t in self.study.trials() if t.number in numbers]

    def give_up(self, claim: Claim, reason: str) -> None:
        """Ends the trials of a population that cannot be trained; others are created instead."""
        claim.lock.check()
        for number in read_population(claim.folder)[0]:
            self.study.give_up(number, reason)

    def finished(self) -> int:
        """How many trials have ended, whichever worker trained them."""
        return sum(t.state not in ("running", "lost") for t in self.study.trials())

    def done(self) -> bool:
        """Whether enough trials have ended."""
        return self.finished() >= self.plan.trials


def _check_same(begun: dict[str, Any], plan: Plan, data: SpikeData) -> None:
    """Refuses to join a search of something else.

    Args:
      begun: the settings of the study.
      plan: of this worker.
      data: this worker's recording.

    Raises:
      UserError: configuration, search space or recording differ.
    """
    old = configs.from_mapping(configs.with_later(begun["config"]))
    changed = directory.differences(old, plan.config)
    changed = [one for one in changed if one.split(":")[0] not in configs.FREE]
    space = plan.space.plain()
    changed += [
        f"search space of {name}: {begun['space'].get(name)} -> {space.get(name)}"
        for name in {**begun["space"], **space}
        if begun["space"].get(name) != space.get(name)
    ]
    if not data.matches(begun["data"], old.data.name):
        changed.append(f"data: fingerprint {begun['data'][:12]} -> {data.fingerprint()[:12]}")
    if changed:
        raise UserError(
            f"the study {plan.name} in {plan.storage or plan.folder} is another search "
            f"({'; '.join(changed)}); repeat its settings to join it, or choose another directory"
            f"{' or --study' if plan.storage else ''}"
        )


def read_population(run: Path) -> tuple[list[int], Config]:
    """The numbers of a run's trials, and its configuration.

    Raises:
      UserError: ``population.json`` is damaged.
    """
    found = records.read(run / _FILE, "restore it from a backup")
    try:
        numbers = [int(trial["number"]) for trial in found["trials"]]
        return numbers, configs.from_mapping(configs.with_later(found["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / _FILE} is damaged ({error}); restore it from a backup") from error


def train_run(run: Path, plan: Plan) -> None:
    """Trains a population to its end, from its last checkpoint if there is one.

    Another worker, also on another machine, may have trained it until it died.

    Raises:
      UserError, Interrupted: as ``training.loop.train``.
    """
    numbers, config = read_population(run)
    data = recording.read(config)
    pruner = None
    if plan.pruner != "none":
        train = config.train
        at = pruning.epochs(plan.pruner, train.epochs, train.validate_every)
        pruner = pruning.Pruner(plan.pruner, at, run, plan.study(), numbers)
    wait_until_free(run)
    try:
        training.train(config, data, run, quiet=plan.quiet, pruner=pruner)
    except Diverged:
        # The trials have failed; the search continues.
        return


def scores(run: Path) -> list[float | None]:
    """The best validation co-bps of each member; None without a finite one."""
    population = read_population(run)[1].population
    path = run / "metrics.jsonl"
    rows = log.read_metrics(path) if path.exists() else []
    return list(rows[-1]["best_cobps"]) if rows else [None] * population


def out_of_memory(error: BaseException) -> bool:
    """Whether the host or the device had too little memory for a population."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def work(search: Search, say: Callable[[str], None] = print) -> None:
    """Claims and trains populations in this process until enough trials have ended.

    Args:
      search: the search.
      say: called with each line of progress.

    Raises:
      UserError, Interrupted: as ``training.loop.train``; the same command resumes.
    """
    waiting = False
    with search.study.heartbeat(), progress.task("trials", search.plan.trials) as shown:
        while not search.done():
            shown.at(search.finished())
            claim = search.claim()
            if claim is None:
                if not waiting:
                    say(WAITING)
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
                    search.give_up(claim, "out of memory")
                raise
            finally:
                claim.release()
            say(outcome(search, trials))


def describe(search: Search, claim: Claim) -> str:
    """A claimed population, in words."""
    numbers, config = read_population(claim.folder)
    shared = ", ".join(f"{key} {_value(config, key)}" for key in search.plan.space.shared)
    which = f"trial {numbers[0]}"
    if len(numbers) > 1:
        which = f"trials {numbers[0]} to {numbers[-1]}"
    verb = "resuming" if (claim.folder / "config.json").exists() else "training"
    return f"{verb} {which} in {claim.folder}{f' ({shared})' if shared else ''}"


def _value(config: Config, key: str) -> Any:
    section, leaf = key.split(".")
    return getattr(getattr(config, section), leaf)


def outcome(search: Search, trials: list[Trial]) -> str:
    """How the trials of a population ended and how far the search is, in words."""
    best = studies.best(search.study.trials())
    so_far = f"best co-bps {best.value:.4f} (trial {best.number})" if best else "no score yet"
    states = [t.state for t in trials]
    parts = [f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed") if s in states]
    ended = f"{search.finished()} of {counted(search.plan.trials, 'trial')} ended"
    return f"{', '.join(parts)}; {ended}, {so_far}"
