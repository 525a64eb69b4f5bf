"""What the newest checkpoint of a run directory holds, read without the recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax.config.schema import Config
from stndt_jax.runs import directory
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import population, step
from stndt_jax.types import Dims


class Stored(NamedTuple):
    """A run: its configuration, ``run.json``, sizes, and its members after so many steps."""

    config: Config
    run: dict[str, Any]
    dims: Dims
    at: int
    members: population.Member


def read(path: Path) -> Stored:
    """Reads a run directory.

    Raises:
      UserError: it is no run directory, or holds no whole checkpoint.
    """
    config, run = directory.read_config(path), directory.read_run(path)
    dims = Dims(*(run["sizes"][n] for n in ("bins_observed", "bins_forward", "heldin", "heldout")))
    # No shape depends on the steps of an epoch.
    like, _ = population.abstract(config, step.arch(config, dims, 1))
    return Stored(config, run, dims, *Checkpoints(path / "checkpoints", repair=False).load(like))
