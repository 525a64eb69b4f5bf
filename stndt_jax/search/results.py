"""The results of a search: its trials as JSON, as CSV and as figures."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.runs import records
from stndt_jax.runs.lock import turn
from stndt_jax.search import study
from stndt_jax.search.study import Study, Trial

RESULTS, TABLE = "search.json", "trials.csv"


def write(folder: Path, opened: Study) -> dict[str, Any]:
    """Writes ``search.json``, ``trials.csv`` and, if matplotlib is installed, the figures.

    Args:
      folder: the search directory.
      opened: its study.

    Returns:
      The content of ``search.json``.
    """
    # All workers end when the last trial does, and all write.
    with turn(folder / "turn"):
        return _write(folder, opened)


def _write(folder: Path, opened: Study) -> dict[str, Any]:
    trials = opened.trials()
    best = study.best(trials)
    found: dict[str, Any] = {
        "study": opened.name,
        "best": None if best is None else _row(best),
        "importance": opened.importances(),
        "trials": [_row(t) for t in trials],
    }
    records.write(folder / RESULTS, found)
    files.write_text(folder / TABLE, _csv(trials))
    _draw(folder, trials, found["importance"])
    return found


def text(folder: Path, found: dict[str, Any]) -> str:
    """The best trial, its hyperparameters and which of them mattered, in words.

    Args:
      folder: the search directory.
      found: the content of ``search.json``, with a best trial.
    """
    best = found["best"]
    rows = [
        [name, f"{value:.4g}" if isinstance(value, float) else str(value)]
        for name, value in best["params"].items()
    ]
    lines = [
        f"best co-bps {best['value']:.4f}: trial {best['number']}, member {best['member']} of "
        f"{folder / best['run']}",
        tables.table(["hyperparameter", "best value"], rows),
    ]
    if found["importance"]:
        top = list(found["importance"].items())[:3]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in top)
        lines.append(f"explain most of the variance of the score: {shares}")
    return "\n".join(lines)


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "run": f"trials/{trial.run}",
        "member": trial.member,
        "params": trial.params,
    }


def _csv(trials: list[Trial]) -> str:
    names = sorted({name for t in trials for name in t.params})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", "value", "run", "member", *names])
    for t in trials:
        value = "" if t.value is None else repr(t.value)
        row = [t.number, t.state, value, f"trials/{t.run}", t.member]
        writer.writerow([*row, *(t.params.get(name, "") for name in names)])
    return text.getvalue()


def _draw(folder: Path, trials: list[Trial], shares: dict[str, float]) -> None:
    try:
        from stndt_jax.plotting import search, style
    except ImportError:
        return
    ended = [t for t in trials if t.state not in ("running", "lost")]
    if not ended:
        return
    history = search.history(
        np.array([t.number for t in ended]),
        np.array([np.nan if t.value is None else t.value for t in ended]),
        np.array([t.state == "pruned" for t in ended]),
    )
    figures = {"history": history}
    if shares:
        figures["importance"] = search.importance(shares)
    for name, figure in figures.items():
        style.save(figure, folder / f"{name}.png", svg=True)
