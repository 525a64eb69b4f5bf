"""The trials of a search, in Optuna's storage.

The storage is a journal in the search directory (:mod:`stndt_jax.search.journal`), or a database
that several search directories, on machines without a common file system, share. A trial is
created together with the search *directory* it belongs to, the *run* (a population's run directory
in there) and its number as a *member* of that population. So a running trial whose worker has died
can always be found on disk and resumed.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.runs import records
from stndt_jax.runs.lock import turn
from stndt_jax.search.journal import DIRECTORY, LOST, MEMBER, RUN, Journal
from stndt_jax.search.space import Choice, Dimension, Params, Space

SAMPLERS = ("tpe", "random", "qmc")
JOURNAL = "study.journal"
# The settings of a search once more, in case the journal loses them.
_COPY = "study.json"
# A directory that shares a database reports every HEARTBEAT_S seconds that it is alive; after
# SILENT_S seconds without a report its running trials are lost.
HEARTBEAT_S = 30.0
SILENT_S = 600.0

# User attributes of the study: its settings, and heartbeats.
_SETTINGS, _HEARTBEAT = "settings", "beat "


class Trial(NamedTuple):
    """One trial of a study.

    Attributes:
      number: from 0, in the order of creation.
      state: running, complete, pruned, failed (no finite score) or lost (given up; does not
        count).
      value: the score; None while running, and if failed or lost.
      params: the sampled hyperparameters.
      run: name of the run directory that trains it.
      member: its number in that run's population.
      directory: identifier of the search directory that holds the run.
      reported: epoch -> best score so far, where a pruner compared it.
    """

    number: int
    state: str
    value: float | None
    params: Params
    run: str
    member: int
    directory: str
    reported: dict[int, float]


class Study:
    """A study as one worker sees it; any number of workers may open the same one."""

    def __init__(
        self,
        folder: Path,
        *,
        url: str = "",
        name: str = "stndt",
        sampler: str = "tpe",
        space: Mapping[str, Dimension] | None = None,
    ) -> None:
        """Opens the study, or creates it.

        Args:
          folder: the search directory, which exists.
          url: of a database; empty for the journal in the directory.
          name: of the study in the storage.
          sampler: one of ``SAMPLERS``.
          space: ranges of all hyperparameters, to restore a damaged journal.

        Raises:
          UserError: the database cannot be used, or the journal neither read nor restored.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.url, self.name, self._sampler, self._folder = url, name, sampler, folder
        self._journal = None if url else Journal(folder / JOURNAL, name, space)
        self._opened = _open_database(url) if self._journal is None else _replayed(self._journal)
        try:
            self._opened.get_study_id_from_name(name)
        except KeyError:
            optuna.create_study(
                storage=self._opened, study_name=name, direction="maximize", load_if_exists=True
            )
        known = [] if url else [t.directory for t in self.trials() if t.directory]
        self.directory = _identifier(folder, known[0] if known else "")

    @property
    def _storage(self) -> BaseStorage:
        """The storage, read anew if the journal had to be repaired."""
        if self._journal is not None and self._journal.changed():
            self._opened = _replayed(self._journal)
        return self._opened

    @property
    def _study_id(self) -> int:
        return self._storage.get_study_id_from_name(self.name)

    def settings(self, new: dict[str, Any]) -> dict[str, Any]:
        """The settings the study was created with; a new study gets ``new``."""
        found = self._storage.get_study_user_attrs(self._study_id).get(_SETTINGS)
        copy = self._folder / _COPY
        if found is None:
            kept = not self.url and copy.exists()
            if kept:
                new = records.read(copy, f"move {copy.name} away")["settings"]
            if kept or self.trials():
                warnings.warn(
                    f"the study {self.name} in {self._folder} has lost the settings of the search; "
                    f"those of {copy.name if kept else 'this command'} are used from now on",
                    stacklevel=2,
                )
            found = json.dumps(new)
            self._storage.set_study_user_attr(self._study_id, _SETTINGS, found)
        if not self.url and not copy.exists():
            records.write(copy, {"settings": json.loads(found)})
        return dict(json.loads(found))

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return [_trial(t) for t in self._storage.get_all_trials(self._study_id, deepcopy=False)]

    def running_here(self) -> dict[str, list[Trial]]:
        """The running trials of this directory: run -> trials, in the order of the members."""
        found: dict[str, list[Trial]] = {}
        for trial in sorted(self.trials(), key=lambda t: t.member):
            if trial.state == "running" and trial.directory == self.directory:
                found.setdefault(trial.run, []).append(trial)
        return dict(sorted(found.items()))

    def runs_here(self) -> list[str]:
        """The runs of this directory, whatever the state of their trials."""
        return sorted({t.run for t in self.trials() if t.directory == self.directory})

    def ask(
        self, run: str, size: int, space: Space, seed: int, first: Params | None = None
    ) -> list[Trial]:
        """Creates the trials of a run, or completes them where a worker died while creating them.

        Only one worker of a directory may ask at a time. Trials are sampled one after the other,
        so that the sampler knows of the earlier ones; shared hyperparameters are sampled with the
        first.

        Args:
          run: name of the run.
          size: number of trials.
          space: hyperparameters to sample.
          seed: of the sampler, together with a trial's number.
          first: values of the study's first trial, which are not sampled.

        Returns:
          The trials, in the order of the members.
        """
        present = {
            t.member: t for t in self.trials() if t.directory == self.directory and t.run == run
        }
        asked: list[Trial] = []
        for member in range(max([size, *(member + 1 for member in present)])):
            trial = present.get(member) or self._create(run, member)
            fixed = {key: asked[0].params[key] for key in space.shared} if asked else {}
            if trial.number == 0:
                fixed |= first or {}
            asked.append(self._sample(trial, space, fixed, seed))
        return asked

    def _create(self, run: str, member: int) -> Trial:
        """A running trial without hyperparameters."""
        about = {DIRECTORY: self.directory, RUN: run, MEMBER: member}
        template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=about)
        storage = self._storage
        return _trial(storage.get_trial(storage.create_new_trial(self._study_id, template)))

    def _sample(self, trial: Trial, space: Space, fixed: Params, seed: int) -> Trial:
        """The trial with its hyperparameters; those it already has stay as they are."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = _sampler(self._sampler, seed, trial.number)
            if fixed:
                sampler = optuna.samplers.PartialFixedSampler(fixed, sampler)
            # A new study object, because one caches the trials it has read.
            study = optuna.load_study(study_name=self.name, storage=self._storage, sampler=sampler)
        asked = optuna.trial.Trial(study, self._id(trial.number))
        dimensions = {**space.shared, **space.own}
        return trial._replace(
            params={name: _suggest(asked, name, one) for name, one in dimensions.items()}
        )

    def report(self, number: int, epoch: int, value: float) -> None:
        """Records the best validation score of a running trial up to an epoch; the first counts."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._id(number), epoch, value)

    def tell(self, number: int, value: float | None, *, pruned: bool = False) -> bool:
        """Ends a trial with its score, unless it has already ended.

        Args:
          number: of the trial.
          value: its score; without a finite one it has failed.
          pruned: whether it was stopped early.

        Returns:
          Whether this call ended it.
        """
        if value is None or not math.isfinite(value):
            return self._end(number, TrialState.FAIL)
        return self._end(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, value)

    def give_up(self, number: int, reason: str) -> bool:
        """Ends a trial as lost: it does not count, so another is created instead."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(self._id(number), LOST, reason)
        return self._end(number, TrialState.FAIL)

    def _end(self, number: int, state: TrialState, value: float | None = None) -> bool:
        values = None if value is None else [value]
        try:
            return self._storage.set_trial_state_values(self._id(number), state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _id(self, number: int) -> int:
        """The storage's identifier of a trial.

        Raises:
          UserError: there is no such trial.
        """
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        except KeyError:
            raise UserError(
                f"trial {number} of the study {self.name} in {self._folder} is lost; start the "
                f"same command again to continue"
            ) from None

    def reap(self) -> list[int]:
        """Gives up the running trials of other directories that no longer report.

        Only directories that share a database have others beside them.

        Returns:
          Numbers of the trials.
        """
        heartbeats = {
            key.removeprefix(_HEARTBEAT): float(when)
            for key, when in self._storage.get_study_user_attrs(self._study_id).items()
            if key.startswith(_HEARTBEAT)
        }
        now = time.time()
        return [
            trial.number
            for trial in self.trials()
            if trial.state == "running"
            and trial.directory != self.directory
            and now - heartbeats.get(trial.directory, 0.0) > SILENT_S
            and self.give_up(trial.number, f"its directory {trial.directory} stopped reporting")
        ]

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """While open, a thread reports to the database that this directory is alive."""
        if not self.url:
            yield
            return
        done = threading.Event()

        def report() -> None:
            key = f"{_HEARTBEAT}{self.directory}"
            self._storage.set_study_user_attr(self._study_id, key, time.time())

        def repeat() -> None:
            while not done.wait(HEARTBEAT_S):
                # Training goes on while the database is away.
                with contextlib.suppress(Exception):
                    report()

        report()
        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def importances(self) -> dict[str, float]:
        """Fraction of the variance of the score that each hyperparameter explains (fANOVA).

        Empty if fewer than four trials are complete, or all have the same score.
        """
        complete = [t for t in self.trials() if t.state == "complete"]
        if len(complete) < 4 or len({t.value for t in complete}) < 2:
            return {}
        # Its random forest is seeded, so that the numbers can be repeated.
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        study = optuna.load_study(study_name=self.name, storage=self._storage)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, among complete and pruned ones; the earliest of equals."""
    scored = [t for t in trials if t.value is not None and t.state in ("complete", "pruned")]
    return max(scored, key=lambda t: (t.value or -math.inf, -t.number)) if scored else None


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns the loss of the database, while open, into one sentence.

    Raises:
      UserError: the database could not be reached.
    """
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"the database --storage={url} cannot be reached any more ({cause}); trained trials "
            f"are kept: start the same command again once it is back"
        ) from error


def _open_database(url: str) -> BaseStorage:
    try:
        # A connection for each operation: none is left open, as Python 3.13 would complain.
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    except Exception as error:
        name = type(error).__name__
        raise UserError(
            f"--storage={url} cannot be used ({name}: {str(error).splitlines()[0]}); give an "
            f"SQLAlchemy URL, such as postgresql://user@host/name, and install its driver"
        ) from error


def _replayed(journal: Journal) -> BaseStorage:
    try:
        return JournalStorage(journal)
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{journal.path} is damaged ({type(error).__name__}: {error}); move it away: its "
            f"trials will be restored from their run directories"
        ) from error


def _trial(trial: FrozenTrial) -> Trial:
    about = trial.user_attrs
    states = {
        TrialState.RUNNING: "running",
        TrialState.WAITING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "lost" if LOST in about else "failed",
    }
    return Trial(
        number=trial.number,
        state=states[trial.state],
        value=trial.values[0] if trial.values else None,
        params=dict(trial.params),
        run=str(about.get(RUN, "")),
        member=int(about.get(MEMBER, 0)),
        directory=str(about.get(DIRECTORY, "")),
        reported=dict(trial.intermediate_values),
    )


def _sampler(kind: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A sampler seeded by the trial's number, so that a restarted search repeats no trial."""
    own = (seed * 1_000_003 + number) % 2**32
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if kind == "qmc":
        # One sequence for all trials; the storage holds its position.
        return optuna.samplers.QMCSampler(
            seed=seed,
            scramble=True,
            independent_sampler=optuna.samplers.RandomSampler(seed=own),
            warn_independent_sampling=False,
        )
    return optuna.samplers.TPESampler(seed=own, constant_liar=True)


def _suggest(trial: optuna.trial.Trial, name: str, one: Dimension) -> Any:
    if isinstance(one, Choice):
        return trial.suggest_categorical(name, one.values)
    if one.whole:
        return trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def _identifier(folder: Path, known: str = "") -> str:
    """The random identifier of a search directory, kept in a file of its own.

    Args:
      folder: the search directory.
      known: its identifier, if the trials in its journal have one.
    """
    path = folder / "place"
    # Workers that start at the same moment must agree on one.
    with turn(folder / "turn"):
        found = path.read_text(errors="replace").strip() if path.exists() else ""
        if found and known in ("", found):
            return found
        files.write_text(path, known or uuid.uuid4().hex[:12])
        return path.read_text().strip()
