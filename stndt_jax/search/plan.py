"""From a configuration and its search space to what a search's workers do."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import jax

from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate
from stndt_jax.runs import directory
from stndt_jax.search import space as spaces
from stndt_jax.search import worker
from stndt_jax.search.space import Space
from stndt_jax.search.worker import Plan
from stndt_jax.training import batches, memory

# A search learns between populations only, so there should be some.
ROUNDS = 8


def make(
    folder: Path, settings: list[str], *, trials: int, population: str = "auto", **options: Any
) -> tuple[Plan, SpikeData]:
    """A checked plan, its directory made, and the recording.

    Args:
      folder: the search directory.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE`` ones; what they set is not searched.
      trials: how many are to be finished.
      population: trials that train together, or ``auto``.
      options: others of ``search.Plan``.

    Raises:
      UserError: something in it does not fit.
    """
    loaded = loading.load(settings)
    space = spaces.check(loading.search_space(settings), loaded)
    space = spaces.without(space, loading.keys(settings))
    config = worker.base(loaded)
    data = evaluate.read_data(config)
    dims = batches.dims_of(data)
    space = spaces.fit(space, config, dims)
    worker.check_selects(config, data)
    size = _size(population, config, space, data, trials)
    directory.make(folder)
    _compile_once(folder)
    plan = Plan(
        folder=folder.absolute(), config=config, space=space, trials=trials, size=size, **options
    )
    return plan, data


def _size(text: str, config: Config, space: Space, data: SpikeData, trials: int) -> int:
    """Members of a population: as many as were asked for, or as suit search and machine."""
    if text == "auto":
        return auto(config, space, data, trials)
    if not text.isdecimal() or not 1 <= int(text) <= 2**16:
        raise UserError(f"--population is {text!r}; give auto, or a number from 1 to {2**16}")
    return int(text)


def auto(config: Config, space: Space, data: SpikeData, trials: int) -> int:
    """An eighth of the trials, and no more than the largest model of the space leaves room for.

    On CPUs members train one after the other: many at once save nothing but compiling.
    """
    rounds = max(1, -(-trials // ROUNDS))
    if jax.devices()[0].platform == "cpu":
        return min(rounds, ROUNDS)
    values = configs.to_mapping(config)
    for key, choice in space.shared.items():
        section, leaf = key.split(".")
        if all(isinstance(value, int) for value in choice.values):
            values[section][leaf] = max(choice.values)
    train, valid, _ = batches.split(config, data)
    room = memory.members(configs.from_mapping(values), batches.dims_of(data), train, valid)
    devices = jax.device_count()
    return min(room, -(-rounds // devices) * devices)


def _compile_once(folder: Path) -> None:
    """Keeps compiled programs, so that the next population of the same shape starts at once."""
    # Where the user has named a folder for this, it is used.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # A program is of one kind of machine.
        path = folder / "compiled" / socket.gethostname()
        jax.config.update("jax_compilation_cache_dir", str(path.absolute()))
