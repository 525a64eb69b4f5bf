"""A search whose populations are trained by others: one process asks and tells, a pool trains."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from stndt_jax.errors import Interrupted, UserError
from stndt_jax.search import worker as room
from stndt_jax.search.worker import Claim, Plan, Search

# How a pool's job may end, other than with None (well) and a sentence (a mistake).
LOST, MEMORY = "lost", "out of memory"
# Deaths of workers at one population, after which it is the population's fault.
MOST_DEATHS = 3


@runtime_checkable
class Pool(Protocol):
    """Workers that train run directories; each one that dies is replaced."""

    def free(self) -> int:
        """How many workers have nothing to do."""

    def start(self, run: Path, plan: Plan) -> None:
        """Lets a free worker train a run."""

    def ended(self, seconds: float) -> list[tuple[Path, str | None]]:
        """Runs whose training has ended, waiting up to some seconds for one; and how."""


def train(run: Path, plan: Plan) -> str | None:
    """What a pool's worker does: trains a run and says how it ended, in words that travel."""
    try:
        room.train_run(run, plan)
    except (UserError, Interrupted) as error:
        return str(error)
    except (MemoryError, RuntimeError) as error:
        if room.out_of_memory(error):
            return MEMORY
        raise
    return None


def work(search: Search, pool: Pool, say: Callable[[str], None] = print) -> None:
    """Claims, lets train and tells, until as many trials as were wanted have ended.

    A population whose worker dies is given up for whoever claims it next, and goes on from its last
    checkpoint.

    Raises:
      UserError: a worker met a mistake, or the devices are too small for a population.
    """
    busy: dict[Path, Claim] = {}
    deaths: Counter[Path] = Counter()
    try:
        with search.study.beating():
            while not search.done():
                while pool.free() and (claim := search.claim()):
                    say(room.describe(search, claim))
                    busy[claim.folder] = claim
                    pool.start(claim.folder, search.plan)
                if not busy:
                    time.sleep(room.POLL_S)
                for run, how in pool.ended(room.POLL_S) if busy else []:
                    claim = busy.pop(run)
                    try:
                        _ended(search, claim, how, deaths, say)
                    finally:
                        claim.release()
    finally:
        for claim in busy.values():
            claim.release()


def _ended(
    search: Search,
    claim: Claim,
    how: str | None,
    deaths: Counter[Path],
    say: Callable[[str], None],
) -> None:
    if how is None:
        say(room.told(search, search.tell(claim)))
    elif how == MEMORY:
        search.lose(claim, how)
        raise UserError(
            f"a worker had not enough memory for {claim.folder}; give a smaller --population"
        )
    elif how == LOST:
        deaths[claim.folder] += 1
        if deaths[claim.folder] >= MOST_DEATHS:
            search.lose(claim, f"{MOST_DEATHS} workers died of it")
            say(f"{claim.folder} is given up: {MOST_DEATHS} workers have died at work on it")
        else:
            say(f"a worker has died at work on {claim.folder}; another goes on with it")
    else:
        raise UserError(how)
