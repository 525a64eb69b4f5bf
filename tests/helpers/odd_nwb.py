"""A small NWB file written with h5py alone, and edits that make it odd as people's files are odd.

Six units with 400 spikes each in 24 s, twelve trials of a second from 10 s, an event `go` in each,
hand velocity at 100 Hz. What an edit changes in the truth, it says in the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

UNITS, TRIALS, LENGTH = 6, 12, 24.0
VELOCITY = "processing/behavior/vel"


@dataclass
class Truth:
    """What a file says, read by somebody who knows what was meant."""

    spikes: list[np.ndarray]
    go: np.ndarray
    recorded: Callable[[int, float, float], bool] = lambda unit, low, high: True
    units: list[int] = field(default_factory=lambda: list(range(UNITS)))
    trials: list[int] = field(default_factory=lambda: list(range(TRIALS)))

    def counts(self, trial: int, width: float, bins: int, before: float) -> np.ndarray:
        """Counts (bins, units) by a loop, NaN where not recorded."""
        found = np.full((bins, len(self.units)), np.nan)
        for t in range(bins):
            low = self.go[trial] - before + t * width
            for n, unit in enumerate(self.units):
                if self.recorded(unit, low, low + width):
                    x = np.round(self.spikes[unit] * 1e9).astype(np.int64)
                    ends = [round((low + step) * 1e9) for step in (0, width)]
                    found[t, n] = np.sum((x >= ends[0]) & (x < ends[1]))
        return found


def write(path: Path, edit: Callable[[h5py.File, Truth], None] | None = None) -> Truth:
    """Writes the file, edits it, and returns the truth."""
    rng = np.random.default_rng(7)
    spikes = [np.sort(rng.uniform(0, LENGTH, 400)) for _ in range(UNITS)]
    start = 10.0 + np.arange(TRIALS)
    truth = Truth(spikes, start + 0.2)
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
        trials = file.create_group("intervals/trials")
        trials.attrs["colnames"] = np.array(["start_time", "stop_time", "go"], object)
        trials["id"] = np.arange(TRIALS)
        trials["start_time"], trials["stop_time"] = start, start + 0.9
        trials["go"] = truth.go
        units = file.create_group("units")
        units.attrs["colnames"] = np.array(["spike_times"], object)
        units["id"] = np.arange(UNITS)
        units["spike_times"] = np.concatenate(spikes)
        units["spike_times_index"] = 400 * (1 + np.arange(UNITS))
        velocity(file)
        if edit is not None:
            edit(file, truth)
    return truth


def velocity(file: h5py.File, where: str = VELOCITY, seconds: float = 30.0) -> None:
    """Straight lines over time, so that the mean in a bin is known."""
    times = np.arange(int(seconds * 100)) / 100
    series = file.create_group(where)
    series["data"] = np.stack([3 * times, 10 - times], axis=1)
    series["data"].attrs["unit"] = "m/s"
    series["timestamps"] = times


def replace(group: h5py.Group, name: str, data: object, **options: object) -> h5py.Dataset:
    """Replaces an array, whatever its form."""
    if name in group:
        del group[name]
    return group.create_dataset(name, data=data, **options)


def at_rate(file: h5py.File, rate: object, start: object = 0.0) -> None:
    """Velocity with a sampling rate in place of timestamps; without one if it is None."""
    series = file[VELOCITY]
    del series["timestamps"]
    found = series.create_dataset("starting_time", data=start)
    if rate is not None:
        found.attrs["rate"] = rate


def observed(file: h5py.File, intervals: object, index: object = None) -> None:
    """Observation intervals of all units."""
    file["units/obs_intervals"] = np.asarray(intervals, float)
    file["units/obs_intervals_index"] = 1 + np.arange(UNITS) if index is None else index


def version_1(path: Path) -> Truth:
    """The same recording as NWB 1 has it."""
    truth = write(path)
    with h5py.File(path, "w") as file:
        file["nwb_version"] = np.bytes_("NWB-1.0.6")
        unit_times = file.create_group("processing/sorted/UnitTimes")
        unit_times.attrs["neurodata_type"] = "UnitTimes"
        unit_times["unit_list"] = np.array([f"unit_{n:02d}".encode() for n in range(UNITS)])
        for n, spikes in enumerate(truth.spikes):
            unit_times[f"unit_{n:02d}/times"] = spikes
            unit_times[f"unit_{n:02d}/source"] = "sorted"
        for r, go in enumerate(truth.go):
            file[f"epochs/trial_{r:03d}/start_time"] = go
            file[f"epochs/trial_{r:03d}/stop_time"] = go + 0.7
            file[f"epochs/trial_{r:03d}/tags"] = np.array([b"left" if r % 2 else b"right"])
        velocity(file, "acquisition/timeseries/vel")
    return truth
