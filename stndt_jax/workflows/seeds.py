"""One setting, many seeds: how much of a score is luck."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.console import tables
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import bootstrap
from stndt_jax.runs import log, records
from stndt_jax.runs.score_names import label
from stndt_jax.training import batches, loop

FILE = "seeds.json"


def setting(config: Config, n: int) -> Config:
    """A configuration with ``n`` seeds, counted from its own.

    The trials that select are drawn by ``config.seed`` and stay the same for all.

    Raises:
      UserError: its members differ in more than the seed.
    """
    if config.members:
        raise UserError(
            f"config.members.{next(iter(config.members))} is given, but stndt seeds trains one "
            f"setting with many seeds; leave config.members out, or use stndt train"
        )
    if config.seed + n > 2**31:
        raise UserError(f"config.seed is {config.seed}; too large for {n} seeds")
    return dataclasses.replace(config, population=n)


def run(config: Config, data: SpikeData, path: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Trains a population of seeds, or goes on with it, and writes ``seeds.json``.

    Args:
      config: as :func:`setting` gives it.
      data: what to train on.
      path: the run directory.
      quiet: print nothing.

    Returns:
      What the file says.

    Raises:
      UserError: no trial selects, so that there is no score, or as ``train.train``.
    """
    configs.check_dims(config, batches.dims_of(data))
    if batches.split(config, data)[1] is None:
        raise UserError(
            "no trial is left to score the seeds on; set config.data.validation_fraction above 0"
        )
    loop.train(config, data, path, quiet=quiet)
    last = log.read_metrics(path / "metrics.jsonl")[-1]
    found = summary(configs.hyper(config).seed.tolist(), last["best_cobps"])
    records.write(path / FILE, found)
    return found


def summary(seeds: list[int], cobps: list[float | None]) -> dict[str, Any]:
    """Mean, spread and 95% intervals of the mean, over the seeds that have a score.

    Args:
      seeds: of the members.
      cobps: the best validation co-bps of each; None or NaN where it never had one.
    """
    scores = [value if value is not None and np.isfinite(value) else None for value in cobps]
    values = np.array([value for value in scores if value is not None])
    found: dict[str, Any] = {
        "validation_co_bps": {
            "n": len(values),
            "without_score": len(scores) - len(values),
        },
        "seeds": dict(zip(map(str, seeds), scores, strict=True)),
    }
    if len(values):
        found["validation_co_bps"] |= {
            "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
            "lowest": float(values.min()),
            "median": float(np.median(values)),
            "highest": float(values.max()),
            **bootstrap.of_mean(values),
        }
    return found


def table(found: dict[str, Any]) -> str:
    """The summary in lines of text."""
    scores = found["validation_co_bps"]
    lines = [f"validation co-bps of {scores['n']} seeds"]
    rows = [
        [name, tables.number(scores[name])]
        for name in ("mean", "sd", "lowest", "median", "highest")
        if scores.get(name) is not None
    ]
    for name in ("t_interval", "bootstrap_interval"):
        if name in scores:
            low, high = map(tables.number, scores[name])
            rows.append([f"{label(name)} of the mean, 95%", f"{low} to {high}"])
    if rows:
        lines.append(tables.table(["", ""], rows))
    if scores["without_score"]:
        lines.append(f"{scores['without_score']} more have no score, because they diverged")
    return "\n".join(lines)
