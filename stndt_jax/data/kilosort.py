"""Directories of Kilosort and phy: spike times in samples, units, and their labels.

``params.py`` is read as text for its sampling rate; it is never executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.data import numpy_files, spike_times, table_files
from stndt_jax.errors import UserError, is_number
from stndt_jax.types import NDArray

TIMES, CLUSTERS, TEMPLATES = "spike_times.npy", "spike_clusters.npy", "spike_templates.npy"
# Files of labels, and the column that says which units are good, the best first.
_LABELS = (
    ("cluster_info.tsv", "group"),
    ("cluster_group.tsv", "group"),
    ("cluster_groups.csv", "group"),
    ("cluster_KSLabel.tsv", "KSLabel"),
)
GOOD = "good"
# Columns of cluster_info.tsv that are kept.
_KEPT = ("ch", "depth", "sh", "amp", "Amplitude", "ContamPct", "area", "n_spikes")
_LONGEST = 2**20  # bytes of params.py
_BLOCK = 1 << 21  # spikes


def is_directory(path: str | Path) -> bool:
    """Whether this is a directory of Kilosort or phy.

    Raises:
      UserError: it may not be read.
    """
    try:
        return (Path(path) / TIMES).is_file()
    except PermissionError:
        raise UserError(
            f"{path} cannot be read: Permission denied; check the permissions of the directory"
        ) from None


def sampling_rate(directory: Path) -> float | None:
    """The sampling rate that ``params.py`` states, samples/s; None without.

    Raises:
      UserError: it states something else than a positive number.
    """
    path = directory / "params.py"
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("utf-8", "replace")
        tree = ast.parse(text)
    except OSError:
        return None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in tree.body:
        names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.Assign) and "sample_rate" in names:
            try:
                value = ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                value = None
            if not is_number(value) or value <= 0:
                raise UserError(
                    f"{path}: sample_rate is {ast.unparse(node.value)[:60]!r}; write a number of "
                    f"samples/s, or give --spike-time-unit=samples:RATE"
                )
            return float(value)
    return None


def labels(directory: Path) -> tuple[dict[str, NDArray], str]:
    """What is known of the units: columns with ``cluster_id``, and the one that says who is good.

    Returns:
      The columns, none without labels; and the name of the column, empty without.

    Raises:
      UserError: a file of labels is damaged.
    """
    for name, column in _LABELS:
        path = directory / name
        if not path.is_file():
            continue
        found = table_files.read(path)
        key = next((k for k in ("cluster_id", "id") if k in found), None)
        if key is None or found[key].dtype.kind not in "ui":
            raise UserError(f"{path} has no column cluster_id of whole numbers; save it with phy")
        column = column if column in found else "KSLabel" if "KSLabel" in found else ""
        kept = {k: x for k, x in found.items() if k in _KEPT}
        if column:
            kept["group"] = np.char.lower(found[column].astype(str))
        return {"cluster_id": found[key], **kept}, "group" if column else ""
    return {}, ""


def read(
    directory: Path, *, every: bool = False, rate: float | None = None
) -> tuple[spike_times.SpikeTimes, list[str]]:
    """Spike times of a directory; of units that are labelled, the good ones.

    The files are mapped into memory, and only the times of the units that are taken are kept.

    Args:
      directory: of Kilosort or phy.
      every: take all units.
      rate: sampling rate, samples/s, in place of that of ``params.py``.

    Returns:
      The spike times, and notes for people.

    Raises:
      UserError: a file is missing or damaged, or the sampling rate is not known.

    Warns:
      UserWarning: times are no numbers.
    """
    rate = rate or sampling_rate(directory)
    times = _mapped(directory / TIMES)
    if rate is None and times.dtype.kind != "f":
        raise UserError(
            f"{directory / 'params.py'} states no sample_rate, and {TIMES} counts samples; give "
            f"--spike-time-unit=samples:RATE, for example samples:30000"
        )
    name = CLUSTERS if (directory / CLUSTERS).is_file() else TEMPLATES
    units = _mapped(directory / name)
    if len(units) != len(times):
        raise UserError(
            f"{directory}: {TIMES} holds {len(times)} spikes, but {name} {len(units)}; copy both "
            f"again"
        )
    columns, label = labels(directory)
    known = columns.get("cluster_id", np.zeros(0, int))
    is_good = columns[label] == GOOD if label else np.ones(len(known), bool)
    filtered = bool(label) and not every

    def chosen(ids: NDArray) -> NDArray:
        return np.isin(ids, known[is_good]) if filtered else np.ones(len(ids), bool)

    if filtered and not is_good.any():
        names, numbers = np.unique(columns[label], return_counts=True)
        shown = ", ".join(f"{n or 'none'} ({k})" for n, k in zip(names, numbers, strict=True))
        raise UserError(
            f"{directory}: no unit is labelled good; labels: {shown}; take all with --units=all"
        )

    def blocks() -> Iterator[tuple[NDArray, NDArray]]:
        for start in range(0, len(times), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield np.asarray(times[part]), np.asarray(units[part])

    in_seconds = times.dtype.kind == "f" and rate is None
    tick = 1.0 if in_seconds else 1.0 / float(rate or 1.0)
    found = spike_times.grouped(str(directory), blocks, tick=tick, chosen=chosen)
    notes = [f"{len(found)} units" + (f" labelled good of {len(known)}" if filtered else "")]
    notes += [f"{rate:g} samples/s" if rate else "spike times in s"]
    about = {k: _of_units(x, known, found.ids) for k, x in columns.items() if k != "cluster_id"}
    return spike_times.with_columns(found, about), notes


def _mapped(path: Path) -> Any:
    """The array of a file, mapped into memory, as one axis.

    Raises:
      UserError: it is missing or damaged, or has several axes.
    """
    x = numpy_files.load_numpy(path, mmap=True)
    if isinstance(x, dict) or x.size != max(x.shape, default=0) or x.dtype.kind not in "uif":
        raise UserError(f"{path} holds no list of numbers; copy it again")
    return x.reshape(-1)


def _of_units(column: NDArray, known: NDArray, ids: NDArray) -> NDArray:
    """A column of labels for these units; empty or NaN where a unit has none."""
    at = {int(unit): row for row, unit in enumerate(known)}
    rows = np.array([at.get(int(unit), -1) for unit in ids])
    if column.dtype.kind == "U":
        return np.where(rows >= 0, column[rows], "")
    values = column if column.dtype.kind != "b" else column.astype(np.int64)
    return values[rows] if np.all(rows >= 0) else np.where(rows >= 0, values[rows], np.nan)
