"""The files of an ensemble directory, and how ensembles and runs are told apart and found.

``ensemble.json``  the members, their weights, and how they were chosen
``parts/00, ...``  run directories that hold only chosen members, one for each run chosen from

Whatever takes a run directory takes an ensemble directory as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax.config.schema import Config
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, records

FILE = "ensemble.json"
_AGAIN = "choose the ensemble again with stndt ensemble"
# Any of these makes a directory a run directory, even a damaged one.
_OF_RUNS = ("config.json", "run.json", "checkpoints")


class EnsembleMember(NamedTuple):
    """A member of an ensemble.

    Attributes:
      part: the run directory that holds it.
      member: its number in that run.
      weight: its weight in the mean rate.
    """

    part: Path
    member: int
    weight: float


def is_ensemble(path: Path) -> bool:
    """Whether a directory holds an ensemble."""
    return (path / FILE).is_file()


def is_run(path: Path) -> bool:
    """Whether a directory holds a run, complete or damaged."""
    return not is_ensemble(path) and any((path / name).exists() for name in _OF_RUNS)


def find(folder: Path) -> Iterator[Path]:
    """The runs and ensembles at or below a directory, ordered by name.

    Runs inside of others, such as the parts of an ensemble, are left out. Links to directories are
    not followed.
    """
    for path, inner, _ in os.walk(folder):
        here = Path(path)
        if is_ensemble(here) or is_run(here):
            inner.clear()
            yield here
        inner.sort()


def read(path: Path) -> dict[str, Any]:
    """The ``ensemble.json`` of an ensemble directory.

    Raises:
      UserError: it is missing or damaged.
    """
    found = records.read(path / FILE, _AGAIN)
    rows = found.get("members")
    fine = isinstance(rows, list) and rows and all(_is_member(row) for row in rows)
    if not fine:
        raise UserError(f"{path / FILE} is damaged: it lists no valid members; {_AGAIN}")
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


def members(path: Path) -> list[EnsembleMember]:
    """The members of an ensemble directory; their weights sum to 1.

    Raises:
      UserError: as :func:`read`.
    """
    rows = read(path)["members"]
    total = sum(row["weight"] for row in rows)
    return [
        EnsembleMember(path / "parts" / row["part"], row["member"], row["weight"] / total)
        for row in rows
    ]


def trained_on(path: Path) -> tuple[str, str]:
    """The fingerprint and the name of the recording that a run or an ensemble was trained on.

    Either is empty if it is unknown.

    Raises:
      UserError: the file that holds it is missing or damaged.
    """
    found = read(path) if is_ensemble(path) else directory.read_run(path)
    return str(found.get("data_fingerprint", "")), str(found.get("data", ""))


def read_config(path: Path) -> Config:
    """The configuration of a run, or of the first part of an ensemble.

    Raises:
      UserError: its file is missing or damaged.
    """
    return directory.read_config(members(path)[0].part if is_ensemble(path) else path)
