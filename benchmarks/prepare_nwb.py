"""Times `stndt prepare custom` on a large NWB file, and measures the memory it takes.

    python benchmarks/prepare_nwb.py --gb=2

writes a recording with raw channels, behaviour at 1 kHz and sorted units into a temporary folder,
prepares it in a process of its own and prints one JSON object: size of the file, seconds, peak
memory of the process, and that of a process which only imports what is needed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

UNITS, TRIALS_PER_GB, RATE_HZ, CHANNELS = 150, 1000, 20.0, 96
# Starts a program, waits, and says what it took: the program's own children are not its own.
MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, time.monotonic() - began, peak / 1024]))
"""
PREPARE = "import sys; from stndt_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
IMPORT = "import stndt_jax.cli.data, stndt_jax.data.nwb_trials, stndt_jax.plotting.recording"


def generate(path: Path, gb: float) -> dict[str, float]:
    """Writes the file; raw channels take what the rest leaves of its size.

    Returns:
        Numbers of spikes and trials, and the length in s.
    """
    import pynwb

    rng = np.random.default_rng(0)
    trials = max(8, round(TRIALS_PER_GB * gb))
    seconds = 3.6 * trials
    samples = int(seconds * 1000)
    file = pynwb.NWBFile("generated", "large", datetime.datetime(2021, 9, 1, tzinfo=datetime.UTC))
    file.add_trial_column("go_cue_time", "time of an event")
    for k in range(trials):
        start = 3.6 * k
        file.add_trial(start_time=start, stop_time=start + 3.5, go_cue_time=start + 1.0)
    for _ in range(UNITS):
        file.add_unit(spike_times=[0.0], obs_intervals=[[0.0, seconds]])
    hand = rng.normal(size=(samples, 2)).cumsum(axis=0)
    velocity = pynwb.TimeSeries(name="hand_vel", data=hand, unit="mm/s", rate=1000.0)
    file.create_processing_module("behavior", "hand").add(velocity)
    raw = pynwb.TimeSeries(
        name="raw", data=np.zeros((1, CHANNELS), np.int16), unit="V", rate=1000.0
    )
    file.add_acquisition(raw)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    # What is long is put in piece by piece: the writer would hold it in memory.
    with h5py.File(path, "r+") as h5:
        counts = rng.poisson(RATE_HZ * seconds, UNITS)
        times = _replaced(h5["units/spike_times"], (int(counts.sum()),), np.float64)
        for last, count in zip(np.cumsum(counts), counts, strict=True):
            times[last - count : last] = np.sort(rng.uniform(0, seconds, count))
        h5["units/spike_times_index"][...] = np.cumsum(counts)
        rest = int(gb * 1e9) - times.nbytes - hand.nbytes
        rows = max(rest // (2 * CHANNELS), 1)
        data = _replaced(h5["acquisition/raw/data"], (rows, CHANNELS), np.int16)
        for first in range(0, rows, 100_000):
            size = min(100_000, rows - first)
            data[first : first + size] = rng.integers(-500, 500, (size, CHANNELS), np.int16)
    return {"spikes": int(counts.sum()), "trials": trials, "seconds_recorded": seconds}


def _replaced(old: h5py.Dataset, shape: tuple[int, ...], dtype: type) -> h5py.Dataset:
    parent, name, attributes = old.parent, old.name, dict(old.attrs)
    del parent[name]
    new = parent.create_dataset(name, shape, dtype)
    new.attrs.update(attributes)
    return new


def measure(code: str, *argv: str) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a Python program."""
    words = [sys.executable, "-c", MEASURE, sys.executable, "-c", code, *argv]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    code_of, seconds, peak = json.loads(done.stdout.splitlines()[-1])
    if code_of:
        raise RuntimeError(f"the measured program ended with {code_of}: {done.stderr}")
    return seconds, peak


def main() -> None:
    """Generates, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=0.1, help="size of the file")
    gb = parser.parse_args().gb
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.nwb"
        began = time.monotonic()
        about = generate(path, gb)
        generated = time.monotonic() - began
        alone = measure(IMPORT)[1]
        seconds, peak = measure(
            PREPARE, "prepare", "custom", f"--nwb={path}", f"--out={folder}/out",
            "--align=go_cue_time", "--window=-250,450", "--behavior=hand_vel", "--bin-ms=5",
        )  # fmt: skip
        size = path.stat().st_size
    found = about | {"file_gb": size / 1e9, "generated_s": generated, "prepare_s": seconds}
    found |= {"peak_mb": peak, "imports_alone_mb": alone}
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))


if __name__ == "__main__":
    main()
