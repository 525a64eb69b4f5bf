"""Scores of other methods, kept beside a run's own and shown together.

``others.json`` in a run directory: method -> its scores, under the names of ``scoring.score``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.errors import UserError

Scores = Mapping[str, float]
_FILE = "others.json"
# Those that compare methods; what concerns the data alone is left to scores.json.
_COLUMNS = ("co-bps", "vel R2", "tp corr", "psth R2", "fp-bps", "rate R2")
_OURS = ("ensemble", "best member")


def read(run: Path) -> dict[str, dict[str, float]]:
    """The other methods of a run directory; none where none was scored."""
    path = run / _FILE
    return files.read_json(path) if path.exists() else {}


def add(run: Path, name: str, scores: Scores) -> None:
    """Puts a method's scores beside a run's own, in place of earlier ones of its name.

    Raises:
      UserError: the name is one of the run's own, or the file cannot be written.
    """
    if name in _OURS:
        raise UserError(f"--name {name} is what the run's own scores are called; choose another")
    files.write_json(run / _FILE, {**read(run), name: dict(scores)})


def beside(run: Path) -> dict[str, Scores]:
    """The run's own scores, where it has been evaluated, then those of the other methods."""
    path = run / "scores.json"
    own = files.read_json(path) if path.exists() else {}
    many = len(own.get("members", [])) > 1
    names = {"ensemble": "ensemble" if many else "this run", "best member": "best member"}
    found = {names[key]: own[key] for key in (_OURS if many else _OURS[:1]) if key in own}
    return {**found, **read(run)}


def table(methods: Mapping[str, Scores]) -> str:
    """Methods down, scores across."""
    columns = [name for name in _COLUMNS if any(name in found for found in methods.values())]
    rows = [
        [method, *(tables.number(found.get(name)) for name in columns)]
        for method, found in methods.items()
    ]
    return tables.table(["method", *columns], rows)
