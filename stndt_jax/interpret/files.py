"""An interpretation as text and as ``attention.h5``, ``neurons.csv`` and ``interpret.json``."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.data.validation import write_group
from stndt_jax.errors import UserError
from stndt_jax.interpret import rankings
from stndt_jax.interpret.summary import AGREEMENT, Interpretation
from stndt_jax.runs import directory, records
from stndt_jax.types import NDArray

ARRAYS, TABLE, SUMMARY = "attention.h5", "neurons.csv", "interpret.json"
COLUMNS = (
    *("neuron", "unit", "kind", "rate_hz", "importance", "importance_sd", "rank"),
    *("gradient_importance", "area"),
)


def write(found: Interpretation, folder: Path) -> list[Path]:
    """Writes the three files; returns their paths.

    ``attention.h5`` holds the arrays and numbers of `Interpretation` by name, ``interpret.json``
    its labels and summary. ``neurons.csv`` has one row per neuron, held-in first:
    ``importance_sd`` is the standard deviation over members, empty for a single one, and ``rank``
    counts from 1 among the held-in or the held-out neurons; held-out neurons have none where no
    model reads them in. Unknown values are empty.

    Raises:
        UserError: a file cannot be written.
    """
    directory.make(folder)
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    arrays = {name: x for name, x in values.items() if isinstance(x, np.ndarray)}
    attributes = {name: x for name, x in values.items() if isinstance(x, (str, int, float))}
    write_group(folder / ARRAYS, None, arrays, attributes)
    files.write_text(folder / TABLE, table(found))
    records.write(folder / SUMMARY, {"labels": found.labels, "summary": found.summary})
    return [folder / name for name in (ARRAYS, TABLE, SUMMARY)]


def read(folder: Path) -> Interpretation:
    """Reads what `write` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    again = "run stndt interpret again"
    words = records.read(folder / SUMMARY, again)
    names = {field.name for field in dataclasses.fields(Interpretation)}
    values: dict[str, Any] = dict.fromkeys(names)
    try:
        values |= {"labels": list(words["labels"]), "summary": dict(words["summary"])}
        with h5py.File(folder / ARRAYS, "r") as file:
            values |= {name: _read(item) for name, item in file.items() if name in names}
            for name, value in file.attrs.items():
                if name in names:
                    values[name] = value.item() if isinstance(value, np.generic) else value
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / ARRAYS} cannot be read ({error}); {again}") from error
    needed = [name for name in ("rate_hz", "heldin", "by_lag", "name") if values[name] is None]
    if needed:
        raise UserError(f"{folder / ARRAYS} holds no {', '.join(needed)}; {again}")
    return Interpretation(**values)


def _read(item: h5py.Dataset) -> NDArray:
    if h5py.check_string_dtype(item.dtype) is None:
        return np.asarray(item[()])
    return np.asarray(item.asstr()[()], "U")


def table(found: Interpretation) -> str:
    """``neurons.csv`` as text."""
    n, N = found.heldin, len(found.rate_hz)
    rank: list[Any] = [""] * N
    deviation: list[Any] = [""] * N
    if found.importance is not None:
        assert found.importance_by_member is not None
        rank = [int(rank) for rank in rankings.ranks_by_group(found.importance, n)]
        if not found.importance[n:].any():
            rank[n:] = [""] * (N - n)
        if np.isfinite(found.importance_by_member[:, 0]).sum() > 1:
            deviation = _numbers(np.nanstd(found.importance_by_member, axis=0, ddof=1))
    columns = (
        range(N),
        [""] * N if found.units is None else [int(unit) for unit in found.units],
        ["held-in"] * n + ["held-out"] * (N - n),
        _numbers(found.rate_hz),
        _numbers(found.importance, N),
        deviation,
        rank,
        _numbers(found.gradient_importance, N),
        [""] * N if found.areas is None else found.areas.tolist(),
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def text(found: Interpretation) -> str:
    """The summary as lines of text."""
    s = found.summary
    lines = [
        f"{s['members']} model{'s' * (s['members'] > 1)}, {s['trials']} trials of {s['data']}, "
        f"{s['heldin']} held-in and {s['heldout']} held-out neurons"
    ]
    lines += [str(s[key]) for key in ("spatial", "read_in", "silent", "maps") if key in s]
    if "agreement" in s:
        has = "has {} of their importance" if "read_in" in s else "receives {} of their attention"
        lines.append(
            f"the top tenth of held-in neurons {has.format(format(s['top_share'], '.0%'))}"
        )
    agreement = [_row(AGREEMENT.get(key, key), x) for key, x in s.get("agreement", {}).items()]
    if "gradients" in s:
        agreement.append(_row("members, by gradients", s["gradients"]["members"]))
    if agreement:
        heads = ["rankings agree across", "rankings", "Spearman", "top tenth shared", "by chance"]
        lines += ["", tables.table(heads, agreement)]
    rows = {
        "attention and mean rate": s.get("importance_and_rate"),
        "gradients and mean rate": s.get("gradients", {}).get("and_rate"),
        "attention and gradients": s.get("gradients", {}).get("and_attention"),
        "the same, controlling for rate": s.get("gradients", {}).get("and_attention_given_rate"),
    }
    shown = [[name, tables.number(value, 3)] for name, value in rows.items() if value is not None]
    if shown:
        lines += ["", tables.table(["correlation over held-in neurons", "Spearman"], shown)]
    return "\n".join([*lines, *_area_lines(found)])


def _area_lines(found: Interpretation) -> list[str]:
    """Tables of the areas, and sentences on the attention between them."""
    rows = found.summary.get("areas", [])
    if not rows:
        return []
    heads = ["area", "held-in", "held-out", "spikes/s", "by attention", "by gradients"]
    body = []
    for row in rows:
        numbers = (row["rate_hz"], row["attention"], row["gradients"])
        counts = (str(row["heldin"]), str(row["heldout"]))
        body.append([row["area"], *counts, *(tables.number(x, 2) for x in numbers)])
    lines = ["", tables.table(heads, body)]
    lines.append(
        "importance of an area's held-in neurons, mean; 1: the mean of all held-in neurons"
    )
    if found.between_areas is not None:
        names = [row["area"] for row in rows]
        relative = [
            [name, *(tables.number(x, 2) for x in values)]
            for name, values in zip(names, found.between_areas.tolist(), strict=True)
        ]
        lines += [
            "",
            tables.table(["attention / uniform, of", *(f"to {n}" for n in names)], relative),
        ]
    return lines + [str(sentence) for sentence in found.summary.get("between_areas", [])]


def _row(name: str, found: dict[str, Any]) -> list[str]:
    numbers = (found["spearman"], found["overlap"], found["chance"])
    return [name, f"{found['rankings']:.0f}", *(tables.number(value, 3) for value in numbers)]


def _numbers(values: NDArray | None, length: int = 0) -> list[Any]:
    """Numbers for CSV: six significant digits, empty if unknown."""
    if values is None:
        return [""] * length
    return [f"{value:.6g}" if np.isfinite(value) else "" for value in values]
