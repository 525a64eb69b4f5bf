"""Where runs and ensembles are.

A run directory is what ``stndt train`` leaves. An ensemble directory holds

``ensemble.json``  the members, their weights, and how they were chosen
``parts/00, ...``  run directories with nothing but chosen members, of one architecture each

and whatever is taken of a run directory is taken of an ensemble directory too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax import files
from stndt_jax.config.schema import Config
from stndt_jax.errors import UserError
from stndt_jax.runs import directory

FILE = "ensemble.json"
_AGAIN = "choose the ensemble again with stndt ensemble"
# Any of these makes a directory a run's, be it a damaged one.
_OF_RUNS = ("config.json", "run.json", "checkpoints")


class EnsembleMember(NamedTuple):
    """A member of an ensemble: which part holds it, as which member, and its weight."""

    part: Path
    member: int
    weight: float


def is_ensemble(path: Path) -> bool:
    """Whether a directory holds an ensemble."""
    return (path / FILE).is_file()


def is_run(path: Path) -> bool:
    """Whether a directory holds a run, whole or damaged."""
    return not is_ensemble(path) and any((path / name).exists() for name in _OF_RUNS)


def find(folder: Path) -> Iterator[Path]:
    """The runs and ensembles at or below a folder, in the order of their names.

    What lies inside of one, such as the parts of an ensemble, is not listed by itself. Links to
    folders are not followed.
    """
    for path, inner, _ in os.walk(folder):
        here = Path(path)
        if is_ensemble(here) or is_run(here):
            inner.clear()
            yield here
        inner.sort()


def read_ensemble(path: Path) -> dict[str, Any]:
    """The ``ensemble.json`` of an ensemble directory.

    Raises:
      UserError: it is missing or damaged.
    """
    found = files.read_json(path / FILE, _AGAIN)
    rows = found.get("members") if isinstance(found, dict) else None
    fine = isinstance(rows, list) and rows and all(_is_member(row) for row in rows)
    if not fine:
        raise UserError(f"{path / FILE} does not say what the ensemble is made of; {_AGAIN}")
    return found


def _is_member(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("part"), str)
        and Path(row["part"]).name == row["part"]
        and type(row.get("member")) is int
        and isinstance(row.get("weight"), (int, float))
        and 0 < row["weight"] <= 1
    )


def ensemble_members(path: Path) -> list[EnsembleMember]:
    """The members of an ensemble directory and their weights, which add up to one.

    Raises:
      UserError: as :func:`read_ensemble`.
    """
    rows = read_ensemble(path)["members"]
    total = sum(row["weight"] for row in rows)
    return [
        EnsembleMember(path / "parts" / row["part"], row["member"], row["weight"] / total)
        for row in rows
    ]


def read_config(path: Path) -> Config:
    """The configuration of a run, or of the first part of an ensemble.

    Raises:
      UserError: its file is missing or damaged.
    """
    return directory.read_config(ensemble_members(path)[0].part if is_ensemble(path) else path)
