"""NWB files for fuzz.py: a small one that is whole, and ways in which files of people are odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

UNITS, TRIALS = 4, 8
ODD_NUMBERS = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-300, 1e300, 2.0**63, -5e9, 1e12)


def write(path: Path) -> None:
    """A recording of 10 s."""
    rng = np.random.default_rng(0)
    start = np.arange(TRIALS) + 1.0
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
        trials = file.create_group("intervals/trials")
        trials.attrs["colnames"] = np.array(["start_time", "stop_time", "go", "kind"], object)
        trials["id"], trials["start_time"] = np.arange(TRIALS), start
        trials["stop_time"], trials["go"] = start + 0.8, start + 0.2
        trials["kind"] = np.array([b"left", b"right"] * (TRIALS // 2))
        units = file.create_group("units")
        units.attrs["colnames"] = np.array(["spike_times", "quality", "ho"], object)
        units["id"] = np.arange(UNITS)
        units["spike_times"] = np.sort(rng.uniform(0, 10, (UNITS, 100))).ravel()
        units["spike_times_index"] = 100 * (1 + np.arange(UNITS))
        units["obs_intervals"] = np.array([[0.0, 10.0]] * UNITS)
        units["obs_intervals_index"] = 1 + np.arange(UNITS)
        units["quality"], units["ho"] = np.array([b"good"] * UNITS), np.arange(UNITS) % 2
        units["electrodes"], units["electrodes_index"] = np.arange(UNITS), 1 + np.arange(UNITS)
        file["general/extracellular_ephys/electrodes/location"] = np.array([b"V1"] * UNITS)
        invalid = file.create_group("intervals/invalid_times")
        invalid["start_time"], invalid["stop_time"] = np.array([4.0]), np.array([4.5])
        times = np.arange(1000) / 100
        for name, stamped in (("behavior/vel", True), ("behavior/pos", False)):
            series = file.create_group(f"processing/{name}")
            series["data"] = np.stack([times, -times], axis=1)
            series["data"].attrs["conversion"] = 1.0
            if stamped:
                series["timestamps"] = times
            else:
                series["starting_time"] = 0.0
                series["starting_time"].attrs["rate"] = 100.0


def _arrays(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, x: found.append(name) if isinstance(x, h5py.Dataset) else None)
    return sorted(found)


def _groups(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, x: found.append(name) if isinstance(x, h5py.Group) else None)
    return sorted(found)


def _put(file: h5py.File, name: str, x: object) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = x
    file[name].attrs.update(attributes)


def attributes(draw: random.Random, file: h5py.File) -> str:
    """Attributes become arrays of one value, of none or of two, other types, or vanish."""
    owners = [file, *(file[name] for name in _groups(file) + _arrays(file))]
    owner = draw.choice([item for item in owners if len(item.attrs)] or [file])
    if not len(owner.attrs):
        return "no attributes"
    key = draw.choice(sorted(owner.attrs))
    value = owner.attrs[key]
    how = draw.choice(("one", "none", "two", "number", "text", "remove", "bytes", "odd"))
    del owner.attrs[key]
    texts = [str(one) for one in np.ravel(value)]
    made: dict[str, object] = {
        "one": np.ravel(np.array(texts, "S"))[:1], "none": np.zeros(0), "two": np.zeros((2, 2)),
        "number": 7, "text": texts[0], "bytes": np.bytes_(b"caf\xe9"),
        "odd": draw.choice(ODD_NUMBERS),
    }  # fmt: skip
    if how in made:
        owner.attrs[key] = made[how]
    return f"attribute {key}: {how}"


def shape(draw: random.Random, file: h5py.File) -> str:
    """An array of another rank, transposed, cut, empty, or a single value."""
    name = draw.choice(_arrays(file))
    if file[name].size > 10**7:
        return f"{name}: left alone"
    x = np.asarray(file[name][()])
    shapes: list[Callable] = [
        lambda: x.T, lambda: x[:-1], lambda: x[:0], lambda: x[None], lambda: x[..., None],
        lambda: x.ravel(), lambda: x.ravel()[0], lambda: np.concatenate([x, x]), lambda: x[::-1],
        lambda: np.stack([x, x]), lambda: x[None, :, None],
    ]  # fmt: skip
    try:
        changed = draw.choice(shapes)()
    except (IndexError, ValueError):
        return f"{name}: left alone"
    _put(file, name, changed)
    return f"{name}: {x.shape} to {np.shape(changed)}"


def value(draw: random.Random, file: h5py.File) -> str:
    """Numbers that cannot be, in one place or everywhere; other units; other types."""
    name = draw.choice(_arrays(file))
    x = file[name]
    if x.size > 10**7 or not x.size or x.dtype.kind not in "iuf":
        return f"{name}: left alone"
    x = np.asarray(x[()], np.float64)
    how = draw.choice(("odd", "odd", "ms", "samples", "back", "twice", "float", "text", "complex"))
    changed: np.ndarray = x.copy()
    at = draw.choice((0, -1, slice(None), slice(len(x.ravel()) // 2, None)))
    if how == "odd":
        changed.reshape(-1)[at] = draw.choice(ODD_NUMBERS)
    elif how in ("ms", "samples"):
        changed *= 1000 if how == "ms" else 30000
    elif how == "back":
        changed.reshape(-1)[at] -= 3
    elif how == "twice":
        changed.reshape(-1)[at] = x.ravel()[0]
    elif how == "text":
        changed = np.full(x.shape, b"1.5")
    elif how == "complex":
        changed = x.astype(complex)
    _put(file, name, changed)
    return f"{name}: {how}"


def place(draw: random.Random, file: h5py.File) -> str:
    """Groups and arrays moved, removed, replaced by links, or of the other kind."""
    name = draw.choice(_arrays(file) + _groups(file))
    how = draw.choice(("move", "remove", "soft", "external", "loop", "other", "copy"))
    if how == "move":
        file.move(name, draw.choice(("processing/moved", "acquisition/a/b", "scratch/units")))
        return f"{name}: moved"
    if how == "copy":
        file.copy(name, draw.choice(("processing/probe/units", "acquisition/units")))
        return f"{name}: copied"
    is_group = isinstance(file[name], h5py.Group)
    del file[name]
    if how == "soft":
        file[name] = h5py.SoftLink("/nowhere/at/all")
    elif how == "external":
        file[name] = h5py.ExternalLink("gone.h5", "/data")
    elif how == "loop":
        file[name] = h5py.SoftLink(f"/{name}" if draw.random() < 0.5 else "/")
    elif how == "other" and is_group:
        file[name] = np.arange(3)
    elif how == "other":
        file.create_group(name)
    return f"{name}: {how}"


def hollow(draw: random.Random, file: h5py.File) -> str:
    """An array that declares far more than is stored."""
    name = draw.choice(_arrays(file))
    kind = file[name].dtype if file[name].dtype.kind in "iuf" else np.dtype("f8")
    attributes_of = dict(file[name].attrs)
    del file[name]
    size = draw.choice((10**6, 10**9, 10**12))
    file.create_dataset(name, draw.choice(((size,), (size, 2), (2, size))), kind, chunks=True)
    file[name].attrs.update(attributes_of)
    return f"{name}: {size} declared"


def version(draw: random.Random, file: h5py.File) -> str:
    """Another version, or one where another version has it."""
    stated = draw.choice(("1.0.6", "NWB-1.0.6", "2.0b", "3", "", "x", "0.8"))
    if draw.random() < 0.5 and "nwb_version" in file.attrs:
        del file.attrs["nwb_version"]
    if draw.random() < 0.5 and "nwb_version" not in file:
        file["nwb_version"] = np.bytes_(stated)
    else:
        file.attrs["nwb_version"] = draw.choice((stated, np.array([stated], object)))
    return f"version {stated}"


def epochs(draw: random.Random, file: h5py.File) -> str:
    """The tables of NWB 1."""
    if "epochs" in file:
        return "epochs are there"
    for n in range(3):
        file[f"epochs/e{n}/start_time"] = draw.choice((float(n), np.nan, np.zeros(2)))
        file[f"epochs/e{n}/stop_time"] = n + 0.5
        file[f"processing/m/UnitTimes/unit_{n}/times"] = np.linspace(0, 10, 50)
    return "epochs"


WAYS = (attributes, shape, shape, value, value, value, place, place, hollow, version, epochs)


def spoil(draw: random.Random, path: Path) -> str:
    """Makes a file odd in one way."""
    try:
        with h5py.File(path, "r+") as file:
            if not _arrays(file):
                return "nothing left"
            return draw.choice(WAYS)(draw, file)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        return f"cannot be made odder ({type(error).__name__}: {error})"[:80]
