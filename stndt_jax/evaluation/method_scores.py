"""Scores of other methods, kept beside a run's own and shown together.

``others.json`` in a run directory has, under ``methods``, the scores of each method by its name,
with the keys of ``scoring.score``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stndt_jax.console import tables
from stndt_jax.errors import UserError
from stndt_jax.runs import records
from stndt_jax.runs.score_names import label

Scores = Mapping[str, float]
_FILE = "others.json"
_AGAIN = "remove it, then score the other methods again with stndt baseline"
# Scores that differ between methods; oracle_co_bps, for example, is a property of the recording.
_COLUMNS = ("co_bps", "vel_r2", "tp_corr", "psth_r2", "fp_bps", "rate_r2")
_OURS = ("ensemble", "best member")


def read(run: Path) -> dict[str, dict[str, float]]:
    """The scores of other methods in a run directory, by method; empty if none was scored."""
    path = run / _FILE
    if not path.exists():
        return {}
    methods = records.read(path, _AGAIN, under="methods").get("methods")
    if not isinstance(methods, dict):
        raise UserError(f"{path} is damaged: it holds no methods; {_AGAIN}")
    return methods


def add(run: Path, name: str, scores: Scores) -> None:
    """Adds a method's scores to a run directory, replacing earlier ones of the same name.

    Raises:
      UserError: the name is one of the run's own, or the file cannot be written.
    """
    if name in _OURS:
        raise UserError(f"--name {name} is what the run's own scores are called; choose another")
    records.write(run / _FILE, {"methods": {**read(run), name: dict(scores)}})


def beside(run: Path) -> dict[str, Scores]:
    """The run's own scores, if it has been evaluated, then those of the other methods."""
    path = run / "scores.json"
    own = records.read(path) if path.exists() else {}
    many = len(own.get("members", [])) > 1
    names = {"ensemble": "ensemble", "best_member": "best member"}
    if not many:
        names = {"ensemble": "this run"}
    found = {name: own[key] for key, name in names.items() if key in own}
    return {**found, **read(run)}


def table(methods: Mapping[str, Scores]) -> str:
    """Methods down, scores across."""
    columns = [name for name in _COLUMNS if any(name in found for found in methods.values())]
    rows = [
        [method, *(tables.number(found.get(name)) for name in columns)]
        for method, found in methods.items()
    ]
    return tables.table(["method", *map(label, columns)], rows)
