"""One configuration trained with many seeds: how much its score varies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import bootstrap
from stndt_jax.runs import log, records
from stndt_jax.runs.score_names import label
from stndt_jax.training import batches, loop

FILE = "seeds.json"


def setting(config: Config, n: int) -> Config:
    """A configuration whose population differs in the seed only.

    The seeds are ``config.seed``, ``config.seed + 1``, ... All members are validated on the same
    trials, which ``config.seed`` selects.

    Args:
      config: of one model.
      n: number of seeds.

    Raises:
      UserError: its members differ in more than the seed.
    """
    if config.members:
        raise UserError(
            f"config.members.{next(iter(config.members))} is given, but stndt seeds varies the "
            f"seed only; leave config.members out, or use stndt train"
        )
    if config.seed + n > 2**31:
        raise UserError(
            f"config.seed is {config.seed}, too large for {n} seeds; give a smaller one"
        )
    return dataclasses.replace(config, population=n)


def run(config: Config, data: SpikeData, path: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Trains a population of seeds, or resumes that, and writes ``seeds.json``.

    Args:
      config: from :func:`setting`.
      data: the recording.
      path: the run directory.
      quiet: print nothing.

    Returns:
      The content of the file, from :func:`summary`.

    Raises:
      UserError: there are no trials to validate on, or as ``training.loop.train``.
    """
    configs.check_dims(config, data.dims)
    if batches.split(config, data)[1] is None:
        raise UserError(
            "there are no trials to score the seeds on; set config.data.validation_fraction above 0"
        )
    loop.train(config, data, path, quiet=quiet)
    last = log.read_metrics(path / "metrics.jsonl")[-1]
    found = summary(configs.hyper(config).seed.tolist(), last["best_cobps"])
    records.write(path / FILE, found)
    return found


def summary(seeds: list[int], cobps: list[float | None]) -> dict[str, Any]:
    """Mean, standard deviation and 95% intervals of the mean, over the seeds that have a score.

    Args:
      seeds: of the members.
      cobps: best validation co-bps of each member; None or NaN where it has none.
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
    """The summary as text, one value per line."""
    scores = found["validation_co_bps"]
    lines = [f"validation co-bps of {counted(scores['n'], 'seed')}"]
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
