"""Scores of other methods, kept beside a run's own and shown together.

``others.json`` in a run directory has, under ``methods``, the scores of each method by its name,
with the keys of ``scoring.score``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax.console import progress, tables
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError, is_number
from stndt_jax.evaluation import external_rates
from stndt_jax.runs import ensemble_directory, records
from stndt_jax.runs.score_names import INTERVAL, SCORES, label
from stndt_jax.types import NDArray

Scores = Mapping[str, float]
_FILE = "others.json"
_AGAIN = "remove it, then score the other methods again with stndt baseline"
# Scores that differ between methods; oracle_co_bps, for example, is a property of the recording.
_COLUMNS = ("co_bps", "vel_r2", "tp_corr", "psth_r2", "fp_bps", "rate_r2")
_OURS = ("ensemble", "best member", "this run")


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
      UserError: the name is empty or one of the run's own, or the file cannot be written.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"the name of the method is {name!r}; give a text that is not empty")
    if name in _OURS:
        raise UserError(f"{name} is what the run's own scores are called; choose another")
    records.write(run / _FILE, {"methods": {**read(run), name: dict(scores)}})


def checked(name: str, scores: Any) -> dict[str, Any]:
    """Scores by name, as plain numbers; an interval as two of them.

    Raises:
      UserError: there is none, or one is unknown or not finite.
    """
    if not isinstance(scores, Mapping) or not scores:
        raise UserError(f"the scores of {name} are {scores!r}; give numbers by name of the score")
    found: dict[str, Any] = {}
    for key, value in scores.items():
        score = str(key).removesuffix(INTERVAL)
        if score not in SCORES:
            raise UserError(f"{name}: {key!r} is no score; choose from {', '.join(SCORES)}")
        pair = score != key and isinstance(value, list | tuple) and len(value) == 2
        if not all(map(is_number, value if pair else [value])):
            raise UserError(f"{name}: {key} is {value!r}; give a finite number")
        found[key] = [float(end) for end in value] if pair else float(value)
    return found


class Recording(NamedTuple):
    """What rates are inferred from and scored against.

    Attributes:
      data: the recording.
      targets: under the benchmark's keys; None where they are unknown.
      files: paths of the recording and of the target file, empty where there is none.
    """

    data: SpikeData
    targets: dict[str, NDArray] | None
    files: tuple[str, str]


def recording(data: str, targets: str, run: str) -> Recording:
    """Reads a recording and its targets.

    Args:
      data: path of the recording; empty for the run's.
      targets: path of the target file; empty for the run's, or for those in the recording.
      run: run directory; may be empty.

    Raises:
      UserError: no recording is named, or a file cannot be read.
    """
    expected, bin_ms = None, None
    if run:
        config = ensemble_directory.read_config(Path(run))
        data, targets = data or config.data.path, targets or config.data.targets
        expected, bin_ms = config.data.name or None, config.data.bin_ms or None
    if not data:
        raise UserError("--data is missing; name the recording, for example --data=mc_maze.h5")
    read = hdf5.read(data, targets or None, expected=expected, bin_ms=bin_ms)
    if targets:
        found = hdf5.read_targets(targets, read.name, expected=expected, bin_ms=read.bin_ms)
        return Recording(read, found, (data, targets))
    known = read.eval.heldout is not None
    return Recording(read, hdf5.targets_of(read) if known else None, (data, ""))


def compare(
    name: str,
    rates: Mapping[str, NDArray],
    targets: Mapping[str, NDArray] | None,
    run: str = "",
    *,
    say: Callable[[str], None] = print,
) -> None:
    """Scores a method's rates; says the scores, beside a run's own if there is one.

    Args:
      name: of the method.
      rates: under the benchmark's keys, expected counts per bin.
      targets: to score against; None where they are unknown.
      run: run directory that keeps the scores; empty for none.
      say: called with the scores, before they are written.

    Raises:
      UserError: as :func:`stndt_jax.evaluation.external_rates.score` and :func:`add`.
    """
    if targets is None:
        say("no targets are known for these trials: nothing was scored")
        return
    with progress.task("scoring"):
        scores = external_rates.score(rates, targets)
    if run and (sentence := note(own(Path(run)))):
        say(sentence)
    say(table({**(beside(Path(run)) if run else {}), name: scores}))
    if run:
        add(Path(run), name, scores)
        say(f"wrote {Path(run) / _FILE}")


def beside(run: Path) -> dict[str, Scores]:
    """The run's own scores, if it has been evaluated, then those of the other methods."""
    scores = own(run)
    many = len(scores.get("members", [])) > 1
    names = {"ensemble": "ensemble", "best_member": "best member"}
    if not many:
        names = {"ensemble": "this run"}
    found = {name: scores[key] for key, name in names.items() if key in scores}
    return {**found, **read(run)}


def own(run: Path) -> dict[str, Any]:
    """The content of a run's ``scores.json``; empty if it was not evaluated."""
    path = run / "scores.json"
    return records.read(path) if path.exists() else {}


def note(scores: Mapping[str, Any]) -> str:
    """A sentence if the content of ``scores.json`` is of other data than the run was trained on."""
    if scores.get("data_differs") is not True:
        return ""
    return (
        f"these are scores on other data ({scores.get('data')}) than the run was trained on: "
        f"the recording or its targets are different"
    )


def table(methods: Mapping[str, Scores]) -> str:
    """Methods down, scores across."""
    columns = [name for name in _COLUMNS if any(name in found for found in methods.values())]
    rows = [
        [method, *(tables.number(found.get(name)) for name in columns)]
        for method, found in methods.items()
    ]
    return tables.table(["method", *map(label, columns)], rows)
