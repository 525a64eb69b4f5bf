"""Models of a few weights that were never trained, and recordings of a few trials for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.training import batches, population, setup, step
from stndt_jax.training.restore import TrainedModel, TrainedRun

FACTORS: dict[str, dict[str, Any]] = {
    "model": {"width": 6, "input": "standardised", "smooth": 1.5, "rate_start": "mean"},
    "mask": {"token": "learned"},
}
"""Changes that make a model with six factors."""
SETTINGS = {
    f"{section}.{key}": value for section, inner in FACTORS.items() for key, value in inner.items()
}
"""The same as settings of a command, ``--config.KEY=VALUE``."""


def recording(seed: int = 0, *, gaps: bool = False, forward: int = 2) -> SpikeData:
    """11 and 7 trials of 6 observed bins, 4 held-in and 2 held-out neurons."""
    rng = np.random.default_rng(seed)
    T, n, m = 6, 4, 2

    def split(trials: int) -> Trials:
        counts = rng.poisson(1.0, (trials, T + forward, n + m)).astype(np.uint8)
        valid = None
        if gaps:
            valid = np.ones(counts.shape, bool)
            valid[1::2, :2] = False
            counts[~valid] = 0
        return Trials(
            heldin=counts[:, :T, :n],
            heldout=counts[:, :T, n:],
            heldin_forward=counts[:, T:, :n],
            heldout_forward=counts[:, T:, n:],
            behavior=rng.normal(size=(trials, T, 2)).astype(np.float32),
            conditions=(np.arange(trials) % 3).astype(np.int32),
            rates=None,
            recorded=valid,
        )

    psth = rng.random((3, T, n + m))
    return SpikeData(split(11), split(7), "small", 10.0, psth)


def models(
    data: SpikeData, members: int = 1, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> list[TrainedModel]:
    """Members of a run that was never trained, all of the same weight."""
    values = tiny.get_config().to_dict()
    values |= {"population": members}
    values["model"] |= {"layers": 2, "heads": 2, "feedforward": 4, "full_context": False}
    values["model"] |= {"context_forward": 2, "context_backward": 3}
    values["train"] |= {"batch": 4}
    values["contrast"] |= {"enabled": False}
    for section, inner in (changes or {}).items():
        values[section] |= inner
    read = schema.from_mapping(values)
    dims = data.dims
    arch = step.arch(read, dims, 3)
    hyper = jax.tree.map(jnp.asarray, schema.hyper(read))
    statistics = None
    if setup.starts_from_data(read):
        statistics = batches.statistics(batches.batch_of(data.train, dims), dims)
    drawn = population.make_init(arch)(hyper, statistics)
    trained = TrainedRun(Path("runs/small"), read, data, arch, hyper, drawn, 1.0)
    return [TrainedModel(trained, k, 1 / members) for k in range(members)]
