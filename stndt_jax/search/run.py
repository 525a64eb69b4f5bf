"""A whole search: from a configuration and its search space to ``search.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError
from stndt_jax.search import plan as plans
from stndt_jax.search import results, study, worker
from stndt_jax.search.worker import Search


def search(
    folder: Path,
    settings: list[str],
    *,
    trials: int,
    population: str = "auto",
    executor: str = "local",
    ray_address: str = "",
    workers: int = 0,
    say: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Searches for good hyperparameters, or resumes a search, and writes the results.

    Args:
      folder: the search directory.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE`` flags; keys set here are not searched.
      trials: how many trials to finish, by all workers of the directory together.
      population: trials that train together, or ``auto``.
      executor: ``local`` trains in this process, ``ray`` on a Ray cluster.
      ray_address: of a running cluster; empty to start one on this machine.
      workers: of the cluster; 0 for one per GPU, or one if there is no GPU.
      say: called with each line of progress.
      options: further attributes of :class:`~stndt_jax.search.worker.Plan`.

    Returns:
      The content of ``search.json``.

    Raises:
      UserError: the flags do not fit together, training failed, or no trial got a score.
      Interrupted: by a signal. The same call resumes.
    """
    with study.database_errors(options.get("storage", "")):
        plan, data = plans.make(folder, settings, trials=trials, population=population, **options)
        opened = Search(plan, data)
        say(
            f"{opened.finished()} of {counted(plan.trials, 'trial')} ended; populations of "
            f"{plan.size}; searching {', '.join([*plan.space.shared, *plan.space.own])}"
        )
        if executor == "ray":
            from stndt_jax.search import executor as executors
            from stndt_jax.search import ray_executor

            with ray_executor.pool(ray_address, workers) as pool:
                executors.work(opened, pool, say)
        else:
            worker.work(opened, say)
        found = results.write(folder, opened.study)
    say(f"wrote {folder / results.RESULTS} and {folder / results.TABLE}")
    if found["best"] is None:
        raise UserError(
            f"no trial of {folder} has a score; log.txt in each directory below "
            f"{folder / 'trials'} says why"
        )
    return found
