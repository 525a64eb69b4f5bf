"""A search whose populations a pool of workers trains; this process samples trials and scores them.

The pool may be a Ray cluster (:mod:`stndt_jax.search.ray_executor`) or anything else with the
methods of :class:`Pool`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from stndt_jax.console import progress
from stndt_jax.errors import Interrupted, UserError
from stndt_jax.search import worker
from stndt_jax.search.worker import Claim, Plan, Search

# How a job can fail, besides with a user's mistake, which is a sentence of its own.
LOST, MEMORY = "lost", "out of memory"
# A population is given up when so many workers have died while training it.
MOST_DEATHS = 3


@runtime_checkable
class Pool(Protocol):
    """Workers that train run directories; a worker that dies is replaced."""

    def free(self) -> int:
        """The number of idle workers."""

    def start(self, run: Path, plan: Plan) -> None:
        """Starts an idle worker on a run directory."""

    def ended(self, seconds: float) -> list[tuple[Path, str | None]]:
        """The runs that have ended, each with None or how it failed; waits up to some seconds."""


def train(run: Path, plan: Plan) -> str | None:
    """The job of a pool's worker.

    Returns:
      None, or how training failed: ``MEMORY`` or a sentence for the user. A string, since it
      travels between processes.
    """
    try:
        worker.train_run(run, plan)
    except (UserError, Interrupted) as error:
        return str(error)
    except (MemoryError, RuntimeError) as error:
        if worker.out_of_memory(error):
            return MEMORY
        raise
    return None


def work(search: Search, pool: Pool, say: Callable[[str], None] = print) -> None:
    """Claims populations and hands them to a pool until enough trials have ended.

    A population whose worker dies is released, claimed again and resumed from its last checkpoint.

    Args:
      search: the search.
      pool: trains the populations.
      say: called with each line of progress.

    Raises:
      UserError: a worker met a user's mistake, or had too little memory for a population.
    """
    busy: dict[Path, Claim] = {}
    deaths: Counter[Path] = Counter()
    waiting = ""
    try:
        with search.study.heartbeat(), progress.task("trials", search.plan.trials) as shown:
            while not search.done():
                shown.at(search.finished())
                while pool.free() and (claim := search.claim()):
                    say(worker.describe(search, claim))
                    busy[claim.folder] = claim
                    pool.start(claim.folder, search.plan)
                if not busy:
                    reason = (
                        worker.WAITING
                        if pool.free()
                        else "waiting for the cluster to start a worker"
                    )
                    if reason != waiting:
                        say(reason)
                    waiting = reason
                    time.sleep(worker.POLL_S)
                    continue
                waiting = ""
                for run, failure in pool.ended(worker.POLL_S):
                    claim = busy.pop(run)
                    try:
                        say(_outcome(search, claim, failure, deaths))
                    finally:
                        claim.release()
    finally:
        for claim in busy.values():
            claim.release()


def _outcome(search: Search, claim: Claim, failure: str | None, deaths: Counter[Path]) -> str:
    """Records how the training of a population ended; returns it in words.

    Args:
      search: the search.
      claim: on the population.
      failure: None if it was trained, else how that failed.
      deaths: how many workers have died while training each run; counted up.

    Raises:
      UserError: the search cannot continue.
    """
    if failure is None:
        return worker.outcome(search, search.tell(claim))
    if failure == MEMORY:
        search.give_up(claim, failure)
        raise UserError(
            f"a worker had not enough memory for {claim.folder}; give a smaller --population"
        )
    if failure != LOST:
        raise UserError(failure)
    deaths[claim.folder] += 1
    if deaths[claim.folder] < MOST_DEATHS:
        return f"a worker died while training {claim.folder}; another resumes it"
    search.give_up(claim, f"{MOST_DEATHS} workers died while training it")
    return f"{claim.folder} is given up: {MOST_DEATHS} workers died while training it"
