"""What files of arrays or tables and directories of sorted spikes hold, and what takes them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np

from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.data import array_files, count_files, hdf5, kilosort, lfads, numpy_files, spike_files
from stndt_jax.data.array_files import ArrayFile, Entry
from stndt_jax.errors import UserError

_MOST_ROWS = 60  # arrays that are listed
_NEEDED = " --bin-ms=5 --out=data"
_OF_SPIKES = " --events=trials.csv --align=COLUMN --window=-250,450" + _NEEDED


def is_other(path: str | Path) -> bool:
    """Whether this is a directory, or a file of another format than HDF5."""
    path = Path(path)
    suffix = path.suffix.lower()
    return os.path.isdir(path) or suffix in (".npy", ".npz", ".mat", *array_files.TABLES)


def of(path: str | Path) -> str:
    """The arrays of a file or the units of a directory, and the command that takes them, as lines.

    Raises:
      UserError: it is missing or damaged, or of another format.
    """
    path = Path(path)
    if os.path.isdir(path):
        return "\n".join(_of_directory(path))
    file = array_files.open_file(path)
    rows = []
    for name, entry in list(file.entries.items())[:_MOST_ROWS]:
        rows.append([name or "(the array)", _shape(entry), _values(file, name, entry)])
    lines = [f"{path}: {file.form}"]
    if rows:
        lines.append(tables.table(["array", "shape", "values"], rows, wrap=("values",)))
    if len(file.entries) > _MOST_ROWS:
        lines.append(f"and {len(file.entries) - _MOST_ROWS} more")
    return "\n".join([*lines, *following(file)])


def of_hdf5(path: str | Path) -> list[str]:
    """The command that takes an HDF5 file that is no NWB file, as lines."""
    name = shlex.quote(str(path))
    try:
        if lfads.is_lfads(path):
            return [f"next: stndt prepare arrays --spikes={name}{_NEEDED}"]
        file = array_files.open_file(path)
    except UserError as error:
        return [str(error)]
    if any(key.rpartition("/")[2] == "train_spikes_heldin" for key in file.entries):
        targets = hdf5.targets_beside(path)
        scored = f" --config.data.targets={shlex.quote(str(targets))}" if targets else ""
        return [f"next: stndt train --config.data.path={name}{scored} --workdir=run"]
    return following(file)


def following(file: ArrayFile) -> list[str]:
    """The command that takes a file, or why there is none, as lines."""
    name = shlex.quote(str(file.path))
    spikes = f"next: stndt prepare spikes --spikes={name}{_OF_SPIKES}"
    if spike_files.holds_pair(file):
        return [spikes]
    is_table = file.path.suffix.lower() in array_files.TABLES
    lists = [key for key, entry in file.entries.items() if entry.kind in ("lists", "other")]
    vectors = [e for e in file.entries.values() if e.kind == "numbers" and _is_vector(e)]
    if lists or (not is_table and len(vectors) == len(file.entries) > 1):
        try:
            spike_files.read(file.path)
            return [spikes]
        except UserError:
            pass
    try:
        found = count_files.plan(file)
    except UserError as error:
        rows = max((entry.shape[:1] for entry in file.entries.values()), default=(0,))
        if (is_table or len(file.entries) == len(vectors) == 1) and rows > (1,):
            return [
                str(error),
                f"as events: stndt prepare spikes --spikes=FILE --events={name} --align=COLUMN "
                f"--window=-250,450{_NEEDED}",
            ]
        return [str(error)]
    windows = " --window-ms=600" if found.is_continuous else ""
    width = "" if found.bin_ms else " --bin-ms=5"
    notes = [f"taken: {note}" for note in found.notes]
    return [*notes, f"next: stndt prepare arrays --spikes={name}{width}{windows} --out=data"]


def _of_directory(path: Path) -> list[str]:
    """The units of a directory of Kilosort.

    Raises:
      UserError: it is another one, or damaged.
    """
    if not kilosort.is_directory(path):
        raise UserError(
            f"{path} is a directory without {kilosort.TIMES}; give a file, or a directory of "
            f"Kilosort or phy"
        )
    times = numpy_files.headers(path / kilosort.TIMES)[""]
    number = int(np.prod(times.shape, dtype=np.int64))
    rate = kilosort.sampling_rate(path)
    lines = [f"{path}: Kilosort or phy, {counted(number, 'spike')}"]
    lines.append(f"sampling rate: {f'{rate:g} samples/s' if rate else 'not stated in params.py'}")
    columns, label = kilosort.labels(path)
    if label:
        names, counts = np.unique(columns[label], return_counts=True)
        pairs = zip(names, counts, strict=True)
        lines.append("units: " + ", ".join(f"{name or 'none'} {n}" for name, n in pairs))
    else:
        lines.append("units: without labels")
    if others := [name for name in columns if name not in ("cluster_id", "group")]:
        lines.append(f"columns: {', '.join(others)}")
    unit = "" if rate else " --spike-time-unit=samples:30000"
    quoted = shlex.quote(str(path))
    return [*lines, f"next: stndt prepare spikes --spikes={quoted}{unit}{_OF_SPIKES}"]


def _is_vector(entry: Entry) -> bool:
    return bool(entry.shape) and int(np.prod(entry.shape, dtype=np.int64)) == max(entry.shape)


def _shape(entry: Entry) -> str:
    return " x ".join(map(str, entry.shape)) if entry.shape else "one value"


def _values(file: ArrayFile, name: str, entry: Entry) -> str:
    """The range of a small array of numbers, or the first texts; else the kind."""
    size = int(np.prod(entry.shape, dtype=np.int64))
    if entry.kind not in ("numbers", "texts") or not size or size > 10**6:
        return entry.kind
    try:
        x = np.ravel(np.asarray(file.read(name)))
    except UserError as error:
        return str(error)
    if entry.kind == "texts":
        kinds = list(dict.fromkeys(x.tolist()))
        return ", ".join(map(str, kinds[:6])) + (" ..." if len(kinds) > 6 else "")
    if x.dtype.kind == "c":
        return "complex numbers"
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    if not finite.size:
        return "NaN"
    low, high = finite.min(), finite.max()
    text = f"{low:g}" if size == 1 else f"{low:g} to {high:g}"
    return text + (f", {len(x) - finite.size} NaN" if finite.size < len(x) else "")
