"""Selected members of a population, as a run directory of their own.

Trained further, they continue as they would have in the old run. The new directory does not depend
on the old one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from stndt_jax import files
from stndt_jax.config import own_files
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, log, recording, records
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import restore


def of_config(config: Config, members: Sequence[int]) -> Config:
    """The configuration of some members; each keeps its seed and hyperparameters."""
    given = {"seed": tuple(int(s) for s in configs.hyper(config).seed), **config.members}
    kept = {name: tuple(values[k] for k in members) for name, values in given.items()}
    return dataclasses.replace(config, population=len(members), members=kept)


def cut(source: Path, members: Sequence[int], out: Path) -> None:
    """Writes a run directory with some members of another, which is not changed.

    Args:
      source: a run directory; its recording is not needed.
      members: their numbers, in their new order.
      out: the new directory, empty or missing.

    Raises:
      UserError: ``source`` is no run directory or has no such members, or ``out`` is not empty.
    """
    config, run, _, at, whole = restore.read(source)
    wrong = [k for k in members if not 0 <= k < config.population]
    if wrong or not members or len(set(members)) < len(members):
        raise UserError(
            f"members {', '.join(map(str, members)) or '(none)'} of {source}: list each once, from "
            f"0 to {config.population - 1}"
        )
    if out.exists() and not (out.is_dir() and all(map(files.is_temporary, out.iterdir()))):
        raise UserError(f"{out} is not empty; choose another directory")
    kept = jax.tree.map(lambda leaf: leaf[np.asarray(members)], whole)
    origin = {"source": source.name, "members": list(members)}
    sessions = [*run["sessions"], directory.session() | {"how": "cut", "cut": origin}]
    # Without config.json, which is moved last, the directory is no run.
    with files.filling(out, last="config.json") as folder:
        Checkpoints(folder / "checkpoints").save(at, kept)
        smaller = recording.copy(of_config(config, members), source, folder)
        stored = own_files.contracted(configs.to_mapping(smaller), folder)
        records.write(folder / "run.json", run | {"config": stored, "sessions": sessions})
        _metrics(source / "metrics.jsonl", folder / "metrics.jsonl", config.population, members)
        if (source / "init.json").exists():
            files.write_bytes(folder / "init.json", (source / "init.json").read_bytes())
        directory.write_config(folder, smaller)


def _metrics(source: Path, out: Path, population: int, members: Sequence[int]) -> None:
    """Copies the readable rows, with the values of the selected members."""
    if not source.exists():
        return
    rows, _ = log.read_rows(source)
    for row in rows:
        for name, values in row.items():
            if isinstance(values, list) and len(values) == population:
                row[name] = [values[k] for k in members]
    files.write_text(out, "".join(json.dumps(row) + "\n" for row in rows))
