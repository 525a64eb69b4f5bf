"""From the command line of a search to the plan that its workers carry out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax

from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.parallel import compile_cache
from stndt_jax.runs import directory, recording
from stndt_jax.search import space as spaces
from stndt_jax.search import worker
from stndt_jax.search.space import Space
from stndt_jax.search.worker import Plan
from stndt_jax.training import batches, memory

# The sampler learns between populations only, so that there should be several.
ROUNDS = 8


def make(
    folder: Path, settings: list[str], *, trials: int, population: str = "auto", **options: Any
) -> tuple[Plan, SpikeData]:
    """Checks a search, creates its directory and reads the recording.

    Args:
      folder: the search directory.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE`` flags; keys set here are not searched.
      trials: how many trials to finish.
      population: trials that train together, or ``auto``.
      options: further attributes of :class:`~stndt_jax.search.worker.Plan`.

    Raises:
      UserError: configuration, search space and recording do not fit together.
    """
    settings = loading.named(settings)
    loaded = loading.load(settings)
    space = spaces.check(loading.search_space(settings), loaded)
    space = spaces.without(space, loading.keys(settings))
    config = worker.base(loaded)
    data = recording.read(config)
    dims = data.dims
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
    """Trials in a population: the given number, or what :func:`auto` finds."""
    if text == "auto":
        return auto(config, space, data, trials)
    if not text.isdecimal() or not 1 <= int(text) <= 2**16:
        raise UserError(f"--population is {text!r}; give auto, or a number from 1 to {2**16}")
    return int(text)


def auto(config: Config, space: Space, data: SpikeData, trials: int) -> int:
    """Trials in a population: an eighth of all, or as many as fit into the memory of the devices.

    Memory is estimated for the largest model of the search space. On CPUs, where members train one
    after the other, at most eight: larger populations would only save compilation.
    """
    rounds = max(1, -(-trials // ROUNDS))
    if jax.devices()[0].platform == "cpu":
        return min(rounds, ROUNDS)
    values = configs.to_mapping(config)
    for key, choice in space.shared.items():
        section, leaf = key.split(".")
        if key == "model.width":
            values[section][leaf] = max(choice.values, key=lambda width: width or data.neurons)
        elif all(isinstance(value, int) for value in choice.values):
            values[section][leaf] = max(choice.values)
    train, valid, _ = batches.split(config, data)
    most = memory.members(configs.from_mapping(values), data.dims, train, valid)
    devices = jax.device_count()
    return min(most, -(-rounds // devices) * devices)


def _compile_once(folder: Path) -> None:
    """Caches compiled programs, so that populations of the same shape compile once."""
    # The user may have named a directory for them.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compile_cache.keep_compiled(folder / "compiled", min_seconds=1.0)
