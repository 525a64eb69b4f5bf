"""All runs and ensembles below a directory as one table.

Only the small files beside the weights are read, so this is fast. A directory with damaged, missing
or incomplete files gets a row that says so.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, ensemble_directory, lock, log, records
from stndt_jax.runs.score_names import label

COLUMNS = (
    *("path", "kind", "config", "data", "epochs", "planned", "members", "validation_co_bps"),
    *("co_bps", "vel_r2", "tp_corr", "psth_r2", "fp_bps", "how", "date", "data_differs"),
)
_SCORES = ("co_bps", "vel_r2", "tp_corr", "psth_r2", "fp_bps")
Row = dict[str, Any]


def table(folder: Path) -> list[Row]:
    """A row for every run and ensemble at or below a directory, with ``COLUMNS`` as keys.

    Unknown values are None. For a damaged run, ``how`` says what is wrong.

    Raises:
      UserError: there is no such directory, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a directory; name one that holds runs of stndt train")
    rows = []
    for path in ensemble_directory.find(folder):
        row: Row = dict.fromkeys(COLUMNS)
        row["path"] = str(path.relative_to(folder)) if path != folder else path.name
        row["kind"] = "ensemble" if ensemble_directory.is_ensemble(path) else "run"
        read = _ensemble if ensemble_directory.is_ensemble(path) else _run
        problems = []
        for part in (*read, _scores):
            try:
                row |= part(path)
            except UserError as error:
                problems.append(str(error))
            except (KeyError, ValueError, TypeError, AttributeError, IndexError, OSError) as error:
                # A file is valid JSON, but not of the structure that we write.
                problems.append(f"{part.__name__.strip('_')} ({type(error).__name__}: {error})")
        if problems:
            row["how"] = f"damaged: {problems[0]}"
        rows.append(row)
    if not rows:
        raise UserError(f"no run of stndt train is at or below {folder}; name another folder")
    return rows


def _settings(path: Path) -> Row:
    config = directory.read_config(path)
    data = config.data.name or Path(config.data.path).stem
    return {"data": data, "planned": config.train.epochs, "members": config.population}


def _history(path: Path) -> Row:
    """Date and end of the last session, name of the configuration, name of the recording."""
    run = directory.read_run(path)
    sessions = run["sessions"]
    # Runs of earlier versions do not keep the name that the files state.
    stated: Row = {"data": str(run["data"])} if "data" in run else {}
    if not sessions:
        return stated
    last = sessions[-1]
    # A process that was killed leaves its lock behind.
    how = last.get("how") or ("running" if lock.holder(path) else "killed")
    date = last.get("ended") or last.get("began")
    names = [_configured(session.get("command")) for session in sessions]
    config = next((name for name in names if name), None)
    found = {"how": str(how), "date": None if date is None else str(date), "config": config}
    return {**stated, **found}


def _configured(command: Any) -> str | None:
    """The name of the configuration in a command line."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == "config":
            return Path(value if equals else after).stem
    return None


def _progress(path: Path) -> Row:
    file = path / "metrics.jsonl"
    if not file.exists():
        return {"epochs": 0}
    rows, _ = log.read_rows(file)
    best = [value for row in rows for value in _numbers(row.get("best_cobps"))]
    return {
        "epochs": rows[-1]["epoch"] if rows else 0,
        "validation_co_bps": max(best, default=None),
    }


def _members(path: Path) -> Row:
    found = ensemble_directory.read(path)
    config = ensemble_directory.read_config(path)
    return {
        "data": found.get("data"),
        "members": len(found["members"]),
        "validation_co_bps": next(_numbers([found.get("validation_co_bps")]), None),
        "config": found.get("select"),
        "planned": config.train.epochs,
        "how": "chosen",
    }


def _scores(path: Path) -> Row:
    """The scores of the mean rate, if it has been evaluated, and whether on other data."""
    if not (path / "scores.json").exists():
        return {}
    content = records.read(path / "scores.json", "evaluate it again")
    found = content.get("ensemble", {})
    scores: Row = {name: next(_numbers([found.get(name)]), None) for name in _SCORES}
    return scores | {"data_differs": "yes" if content.get("data_differs") is True else None}


_run = (_settings, _history, _progress)
_ensemble = (_members,)


def _numbers(values: Any) -> Iterator[float]:
    """The values that are finite numbers."""
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, (int, float)) and math.isfinite(value):
            yield float(value)


def ordered(rows: Sequence[Row], key: str) -> list[Row]:
    """Rows sorted by a column: numbers descending, texts ascending, unknown values last.

    Args:
      rows: as :func:`table` returns them.
      key: a column, by its key or its label.

    Raises:
      UserError: there is no such column.
    """
    key = next((name for name in COLUMNS if key in (name, label(name))), key)
    if key not in COLUMNS:
        raise UserError(f"--sort={key} is not a column; choose one of {', '.join(COLUMNS)}")
    known = [row for row in rows if row[key] is not None]
    numbers = all(isinstance(row[key], (int, float)) for row in known)
    known.sort(key=lambda row: -row[key] if numbers else str(row[key]))
    return known + [row for row in rows if row[key] is None]


def text(rows: Sequence[Row]) -> str:
    """The rows as a table for the terminal, without columns in which all values are unknown."""
    names = [name for name in COLUMNS if any(row[name] is not None for row in rows)]
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    return tables.table(
        list(map(label, names)), cells, left=("kind", "config", "data", "date"), wrap=("how",)
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}" if name == "epochs" else tables.number(value)
    return str(value)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes a CSV file of all columns; unknown values are empty.

    Raises:
      UserError: the file cannot be written.
    """
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, lines.getvalue(), "choose another --csv")
