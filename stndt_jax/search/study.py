"""The trials of a search, in Optuna's storage; the only importer of Optuna.

Storage is a journal in the search directory, or a database for directories on several machines. A
trial carries the *place* (the directory its worker keeps runs in), the *run* there and the number
of its *member*, all written as it is created: whatever dies when, every trial that is running
says where its remains are.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.runs.lock import turn
from stndt_jax.search.space import Choice, Dimension, Params, Space

SAMPLERS = ("tpe", "random", "qmc")
JOURNAL = "study.journal"
# How often a place with a database says that it is alive, and how long it may be silent.
BEAT_S = 30.0
LOST_S = 600.0
_LOST = "lost"  # user attribute of a trial whose place is gone


class Trial(NamedTuple):
    """One trial, as others may see it."""

    number: int
    state: str  # running, complete, pruned, failed or lost
    value: float | None
    params: Params
    run: str
    member: int
    place: str
    reported: dict[int, float]


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _storage(folder: Path, url: str) -> BaseStorage:
    if url:
        try:
            return RDBStorage(url)
        except Exception as error:
            name = type(error).__name__
            raise UserError(
                f"--storage={url} cannot be used ({name}: {str(error).splitlines()[0]}); give a "
                f"URL of SQLAlchemy, as postgresql://user@host/name, and install its driver"
            ) from error
    path = folder / JOURNAL
    _mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def reachable(url: str) -> Iterator[None]:
    """While open, a database that goes away is told of in one sentence.

    Raises:
      UserError: it did.
    """
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"--storage={url} went away ({cause}); what was trained is kept: once it is back, the "
            f"same command goes on"
        ) from error


def _mend(path: Path) -> None:
    """Cuts off a last line that was never finished: a full disk or a kill tore it."""
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


class Study:
    """A study, opened by one worker."""

    def __init__(
        self, folder: Path, *, url: str = "", name: str = "stndt", sampler: str = "tpe"
    ) -> None:
        """Opens the study, or begins it.

        Args:
          folder: the search directory, which is there.
          url: of a database; empty for the journal in the directory.
          name: of the study in it.
          sampler: one of ``SAMPLERS``.
        """
        _quiet()
        self.url, self.name, self._sampler = url, name, sampler
        self._store = _storage(folder, url)
        self._study = optuna.create_study(
            storage=self._store, study_name=name, direction="maximize", load_if_exists=True
        )
        self.place = _place(folder)

    def settings(self, mine: dict[str, Any]) -> dict[str, Any]:
        """What the study was begun with; ``mine``, where this begins it."""
        if "settings" not in self._study.user_attrs:
            self._study.set_user_attr("settings", json.dumps(mine))
        return json.loads(self._study.user_attrs["settings"])

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return [_seen(t) for t in self._study.get_trials(deepcopy=False)]

    def ask(
        self, run: str, size: int, space: Space, seed: int, first: Params | None = None
    ) -> list[Trial]:
        """The trials of a new run, or those of one whose asking was cut off, completed.

        Only one worker of a place may ask at a time. Trials are drawn one after the other, so
        that each sees those before it as running; what they share is drawn with the first.

        Args:
          run: name of the run.
          size: number of trials.
          space: what to draw from.
          seed: of the draws, together with a trial's number.
          first: values of the study's first trial that are not drawn.
        """
        there = {t.member: t for t in self.trials() if self._is_mine(t) and t.run == run}
        asked: list[Trial] = []
        for member in range(max([size, *(k + 1 for k in there)])):
            if member not in there:
                about = {"place": self.place, "run": run, "member": member}
                self._study.add_trial(
                    optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=about)
                )
                there |= {
                    t.member: t
                    for t in self.trials()
                    if self._is_mine(t) and t.run == run and t.member == member
                }
            fixed = {key: asked[0].params[key] for key in space.shared} if asked else {}
            if there[member].number == 0:
                fixed |= first or {}
            asked.append(self._draw(there[member], space, fixed, seed))
        return asked

    def _draw(self, trial: Trial, space: Space, fixed: Params, seed: int) -> Trial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = _sampler(self._sampler, seed, trial.number)
            if fixed:
                sampler = optuna.samplers.PartialFixedSampler(fixed, sampler)
            # A new object, because one remembers the trials it has seen.
            study = optuna.load_study(study_name=self.name, storage=self._store, sampler=sampler)
        drawn = optuna.trial.Trial(study, self._identity(trial.number))
        # What was drawn before the asking was cut off is given again as it was.
        params = {
            name: _suggest(drawn, name, one) for name, one in {**space.shared, **space.own}.items()
        }
        return trial._replace(params=params)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Notes the best validation score of a running trial by an epoch, once."""
        identity = self._identity(number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._store.set_trial_intermediate_value(identity, epoch, value)

    def tell(self, number: int, value: float | None, *, pruned: bool = False) -> bool:
        """Ends a trial, unless it has ended already; one without a value has failed.

        Returns:
          Whether it was this call that ended it.
        """
        good = value is not None and math.isfinite(value)
        if not good:
            return self._end(number, TrialState.FAIL, None)
        return self._end(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, value)

    def lose(self, number: int, why: str) -> bool:
        """Gives a trial up: it counts for nothing, and another is asked in its place."""
        identity = self._identity(number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._store.set_trial_user_attr(identity, _LOST, why)
        return self._end(number, TrialState.FAIL, None)

    def _end(self, number: int, state: TrialState, value: float | None) -> bool:
        identity = self._identity(number)
        values = None if value is None else [value]
        try:
            return self._store.set_trial_state_values(identity, state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _identity(self, number: int) -> int:
        study = self._store.get_study_id_from_name(self.name)
        return self._store.get_trial_id_from_study_id_trial_number(study, number)

    def _is_mine(self, trial: Trial) -> bool:
        return trial.place == self.place

    def running_here(self) -> dict[str, list[Trial]]:
        """The running trials of this place, by run, in the order of the members."""
        found: dict[str, list[Trial]] = {}
        for trial in sorted(self.trials(), key=lambda t: t.member):
            if trial.state == "running" and self._is_mine(trial):
                found.setdefault(trial.run, []).append(trial)
        return dict(sorted(found.items()))

    def runs_here(self) -> list[str]:
        """The runs of this place, whatever has become of their trials."""
        return sorted({t.run for t in self.trials() if self._is_mine(t)})

    def reap(self) -> list[int]:
        """Gives up the trials of places that have been silent for long.

        Only a database is shared by several places, so only there anybody beats.

        Returns:
          Their numbers.
        """
        beats = {
            key.removeprefix("beat "): float(when)
            for key, when in self._study.user_attrs.items()
            if key.startswith("beat ")
        }
        now = time.time()
        return [
            trial.number
            for trial in self.trials()
            if trial.state == "running"
            and not self._is_mine(trial)
            and now - beats.get(trial.place, 0.0) > LOST_S
            and self.lose(trial.number, f"its place {trial.place} was silent")
        ]

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """While open, says every half minute that this place is alive, to other places."""
        if not self.url:
            yield
            return
        done = threading.Event()

        def beat() -> None:
            while True:
                # A database that is away for a moment is none of training's business.
                with contextlib.suppress(Exception):
                    self._study.set_user_attr(f"beat {self.place}", time.time())
                if done.wait(BEAT_S):
                    return

        self._study.set_user_attr(f"beat {self.place}", time.time())
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def importances(self) -> dict[str, float]:
        """Share of the variance of the score that each parameter explains (fANOVA).

        Empty where too few trials are complete, or all are alike.
        """
        complete = [t for t in self.trials() if t.state == "complete"]
        if len(complete) < 4 or len({t.value for t in complete}) < 2:
            return {}
        # The forest of trees, and which trials it is grown from, are drawn: from a seed.
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)


def _seen(trial: FrozenTrial) -> Trial:
    about = trial.user_attrs
    names = {
        TrialState.RUNNING: "running",
        TrialState.WAITING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "lost" if _LOST in about else "failed",
    }
    return Trial(
        trial.number,
        names[trial.state],
        trial.values[0] if trial.values else None,
        dict(trial.params),
        str(about.get("run", "")),
        int(about.get("member", 0)),
        str(about.get("place", "")),
        dict(trial.intermediate_values),
    )


def _sampler(kind: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A sampler whose draws depend on the trial's number, so that no restart repeats them."""
    own = (seed * 1_000_003 + number) % 2**32
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if kind == "qmc":
        # One sequence for all: its next point is kept in the storage.
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


def _place(folder: Path) -> str:
    """The name of a search directory, which it keeps wherever it is moved."""
    path = folder / "place"
    # Workers that start at the same moment must agree on one name.
    with turn(folder / "turn"):
        if not path.exists():
            files.write_text(path, uuid.uuid4().hex[:12])
    return path.read_text().strip()


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the highest score, pruned ones included."""
    scored = [t for t in trials if t.value is not None and t.state in ("complete", "pruned")]
    return max(scored, key=lambda t: (t.value or -math.inf, -t.number)) if scored else None
