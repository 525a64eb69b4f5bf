"""Reproduces a generated MC_Maze with the small budget, killed -9 twice on the way.

    python tools/robustness/chaos_reproduce.py

Kills once in the search and once while the chosen models train again, then lets it finish. Prints
what was killed when, which stage each start began with, and the report; exits with 1 unless the
submission file of the test phase is there and fits the recording.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from helpers import nwb_files

from stndt_jax.data import hdf5
from stndt_jax.evaluation import submission


def start(folder: Path) -> subprocess.Popen:
    """The command of this experiment."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    args = [
        *(sys.executable, "-m", "stndt_jax", "reproduce", "mc_maze", f"--nwb={folder / 'nwb'}"),
        *(f"--workdir={folder / 'work'}", "--budget=small", "--trials=4", "--population=2"),
        *("--config.train.save_every_s=1", "--config.contrast.enabled=false"),
        *("--config.train.epochs=20", "--config.model.feedforward=16"),
    ]
    with (folder / "log").open("a") as log:
        log.write("--- started\n")
        log.flush()
        return subprocess.Popen(args, stdout=log, stderr=log, env=os.environ | cache)


def kill_in(folder: Path, runs: str, nth: int) -> None:
    """Starts, and kills once the run number ``nth`` of some folder has a checkpoint."""
    began, process = time.monotonic(), start(folder)
    while process.poll() is None:
        begun = sorted((folder / "work").glob(f"{runs}/*"))
        if len(begun) > nth and any(begun[nth].glob("checkpoints/[0-9]*.sha256")):
            break
        time.sleep(0.02)
    if process.poll() is not None:
        print((folder / "log").read_text()[-3000:])
        raise SystemExit(f"ended by itself with {process.returncode} before {runs} number {nth}")
    process.kill()
    process.wait()
    print(f"killed -9 after {time.monotonic() - began:.0f} s, in {runs}/{begun[nth].name}")


def main() -> int:
    """Runs the experiment; the exit code."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nwb_files.data_set("mc_maze", folder / "nwb")
        kill_in(folder, "search/trials", 0)
        kill_in(folder, "test/trained", 0)
        began = time.monotonic()
        code = start(folder).wait()
        print(f"let finish: exit code {code} after {time.monotonic() - began:.0f} s")
        log = (folder / "log").read_text()
        stages = ("prepare:", "search:", "ensemble:", "score:", "retrain:", "submit:", "going on")
        for line in log.splitlines():
            if line.startswith((*stages, "---")):
                print(f"    {line}")
        if code:
            print(log[-3000:])
            return 1
        print((folder / "work" / "report.md").read_text())
        data = hdf5.read(folder / "work" / "data" / "mc_maze_test.h5")
        rates = submission.read(folder / "work" / "test" / "submission.h5", "mc_maze")
        submission.check(rates, data)
        print(f"the submission file fits the test phase: {len(data.eval)} evaluated trials")
        return 0


if __name__ == "__main__":
    sys.exit(main())
