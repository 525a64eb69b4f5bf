"""Small NWB files in the form of the benchmark's data sets, and one that knows nothing of it.

A data set is a training file, in which the moments of the test trials are cut out, and a test
file, which holds the held-in units of those moments and nothing to score them with.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pynwb

N_IN, N_OUT = 5, 3
SLOT = {"mc_rtt": 0.6, "dmfc_rsg": 3.2}  # s from one trial to the next
TRIALS = 24  # of the training file: two of three train
TEST_TRIALS = 8
BEHAVIOR = {
    "mc_rtt": ("cursor_pos", "finger_pos", "finger_vel", "target_pos"),
    "area2_bump": ("hand_pos", "hand_vel", "force", "joint_ang", "muscle_len"),
    "dmfc_rsg": (),
}
MAZE_SERIES = ("cursor_pos", "eye_pos", "hand_pos", "hand_vel")

Rows = list[dict[str, Any]]


def data_set(name: str, folder: Path, *, seed: int = 0, gaps: bool = True) -> Path:
    """Writes both files of a data set; returns the folder they lie in.

    With `gaps`, behaviour has samples only where units were recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    number = TRIALS + TEST_TRIALS
    rows = [_trial(name, k, rng) for k in range(number)]
    is_test = np.arange(number) % 4 == 3
    train = [row for row, test in zip(rows, is_test, strict=True) if not test]
    for k, row in enumerate(train):
        row["split"] = "val" if k % 3 == 2 else "train"
    if name == "mc_maze":
        train[3]["split"] = "none"
    test = [row for row, test in zip(rows, is_test, strict=True) if test]
    _shift(test)
    for row in test:
        row["split"] = "test"
        for key in ("tp", "trial_type", "trial_version", "cond_dir", "ctr_hold_bump"):
            row.pop(key, None)
    stem = f"sub-{'Indy' if name == 'mc_rtt' else 'Jenkins'}_ses-full"
    series = BEHAVIOR.get(name, MAZE_SERIES)
    kind = "behavior+ecephys" if series else "ecephys"
    _file(folder / f"{stem}_desc-train_{kind}.nwb", train, True, series, gaps, rng)
    _file(folder / f"{stem}_desc-test_ecephys.nwb", test, False, (), gaps, rng)
    return folder


def _trial(name: str, k: int, rng: np.random.Generator) -> dict[str, Any]:
    """The columns that nlb_tools reads, and some that it does not."""
    slot = SLOT.get(name, 1.6)
    start = 0.2 + k * slot
    row: dict[str, Any] = {"start_time": start, "stop_time": start + slot - 0.2}
    if name == "mc_rtt":
        row["stop_time"] = start + slot
    elif name == "dmfc_rsg":
        tp = float(rng.integers(600, 1200))
        cell = k // 8 % 2  # the cells of a split have several trials each
        row |= {"is_eye": cell, "theta": 180 * cell, "is_short": cell, "ts": 800.0 - 160 * cell}
        row |= {"set_time": start + 0.9, "go_time": start + 0.9 + tp / 1000, "tp": tp}
        row |= {"is_outlier": int(k == 5), "ready_time": start + 0.3}
    elif name == "area2_bump":
        row |= {"move_onset_time": start + 0.3, "ctr_hold_bump": k // 4 % 2 == 0}
        row |= {"cond_dir": 90.0 * (k // 8 % 2), "bump_time": start + 0.2}
    else:
        row |= {"move_onset_time": round(start + 0.4 + 0.1 * rng.random(), 3), "rt": 0.1}
        row |= {"trial_type": 1 + k // 4 % 2, "trial_version": k // 8 % 2, "success": True}
    return row


def _shift(rows: Rows) -> None:
    """Times from the beginning of the test file on, one trial after another."""
    length = rows[0]["stop_time"] - rows[0]["start_time"]
    for k, row in enumerate(rows):
        by = 0.2 + k * (length + 0.6) - row["start_time"]
        for key in [key for key in row if key.endswith("_time")]:
            row[key] = round(row[key] + by, 6)


def _file(
    path: Path,
    rows: Rows,
    heldout: bool,
    series: tuple[str, ...],
    gaps: bool,
    rng: np.random.Generator,
) -> None:
    file = new_file(path.stem)
    # Recorded from a little before a trial until a little after it; what touches is one interval.
    bounds = [(round(r["start_time"] - 0.15, 3), round(r["stop_time"] + 0.25, 3)) for r in rows]
    intervals = [list(bounds[0])]
    for begin, end in bounds[1:]:
        if begin <= intervals[-1][1]:
            intervals[-1][1] = end
        else:
            intervals.append([begin, end])
    times = np.concatenate([np.arange(round(a * 1e3), round(b * 1e3)) / 1e3 for a, b in intervals])
    phase = 2 * np.pi * (1.3 * times[:, None] + np.arange(2) / 4)
    sampled = times if gaps else np.arange(round(intervals[-1][1] * 1e3)) / 1e3
    angle = 2 * np.pi * (1.3 * sampled[:, None] + np.arange(2) / 4)
    if series:
        file.create_processing_module("behavior", "hand")
    for name in series:
        file.processing["behavior"].add(
            pynwb.TimeSeries(
                name=name,
                data=100 * np.sin(angle + len(name)) + rng.normal(size=angle.shape),
                timestamps=sampled,
                unit="mm/s",
                comments="columns=[x,y]",
            )
        )
    for column in {key: None for row in rows for key in row}:
        if column not in ("start_time", "stop_time"):
            file.add_trial_column(column, column)
    for row in rows:
        file.add_trial(**row)
    file.add_unit_column("heldout", "is held out")
    for n in range(N_IN + N_OUT):
        is_out = n % 2 == 1 and n // 2 < N_OUT
        if is_out and not heldout:
            continue
        rate = (0.02 + 0.005 * n) * (1 + 0.8 * np.sin(phase[:, 0] + n))  # expected spikes per ms
        spikes = np.sort(times[rng.random(len(times)) < rate] + 1e-3 * rng.random())
        file.add_unit(
            spike_times=np.clip(spikes, 0, intervals[-1][1] - 1e-4),
            obs_intervals=np.array(intervals),
            heldout=is_out,
            id=n,
        )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


def new_file(identifier: str) -> pynwb.NWBFile:
    """An empty file of a fixed date."""
    return pynwb.NWBFile(
        session_description="simulated",
        identifier=identifier,
        session_start_time=datetime.datetime(2021, 9, 1, tzinfo=datetime.UTC),
    )


def custom(path: Path, *, seed: int = 0, trials: int = 20, units: int = 6) -> dict[str, Any]:
    """A file without the benchmark's columns: behaviour at 100 Hz, gaps, trials of two lengths.

    Returns:
        What was written: `spikes` (one array a unit), `intervals`, `event`, `end`, `hand`.
    """
    rng = np.random.default_rng(seed)
    file = new_file("custom")
    length = trials * 2.0
    intervals = np.array([[0.0, 13.1], [13.5, length]])  # one gap for all units
    event = 0.7 + 2.0 * np.arange(trials) + 0.1 * rng.random(trials)
    end = event + np.where(np.arange(trials) % 2, 0.45, 0.3)
    for name in ("cue_time", "reward_time", "block", "kind"):
        file.add_trial_column(name, name)
    for k in range(trials):
        file.add_trial(
            start_time=event[k] - 0.6,
            stop_time=event[k] + 1.2,
            cue_time=event[k],
            reward_time=end[k],
            block=("train", "train", "val", "skip")[k % 4],
            kind=k % 3,
        )
    spikes = []
    for n in range(units):
        times = np.sort(rng.uniform(0, length, 40 * int(length)))
        times = times[(times < 13.1) | (times > 13.5)]
        file.add_unit(spike_times=times, obs_intervals=intervals, id=10 + n)
        spikes.append(times)
    rate = 100.0
    t = np.arange(int(length * rate)) / rate
    hand = np.stack([3.0 * t, 10.0 - t], axis=1)  # straight lines: means are exact
    hand[1503:1506] = np.nan
    position = pynwb.behavior.SpatialSeries(
        name="hand", data=hand, rate=rate, starting_time=0.0, reference_frame="screen"
    )
    file.create_processing_module("behavior", "hand").add(
        pynwb.behavior.Position(spatial_series=position)
    )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return {"spikes": spikes, "intervals": intervals, "event": event, "end": end, "hand": hand}
