"""Two workers on one study, one killed in the middle: nothing lost, nothing double.

    python tools/robustness/chaos_search.py                  two processes, one killed -9
    python tools/robustness/chaos_search.py --executor=ray   one, two actors on CPUs, one killed -9

Small models train on synthetic reaches. Prints what was killed when, the trials by state and by
run, and exits with 1 unless as many trials are complete as were asked for, each once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from helpers.recordings import small_reach


def command(folder: Path, trials: int, *more: str) -> list[str]:
    """The search of this experiment."""
    return [
        *(sys.executable, "-m", "stndt_jax", "search", "--config=tiny", "--quiet"),
        f"--config.data.path={folder / 'reach.h5'}",
        f"--config.data.targets={folder / 'reach_target.h5'}",
        *("--config.contrast.enabled=false", "--config.model.layers=1"),
        *("--config.model.feedforward=8", "--config.train.epochs=400"),
        *("--config.train.save_every_s=1", "--population=2", f"--trials={trials}"),
        f"--workdir={folder / 'search'}",
        *more,
    ]


def training(run: Path) -> bool:
    """Whether somebody is at it, with a checkpoint to go on from."""
    return (run / "lock").exists() and any(run.glob("checkpoints/[0-9]*.sha256"))


def wait_for_training(folder: Path, runs: int, seconds: float = 540) -> list[Path]:
    """The runs in training, once there are so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [run for run in sorted(folder.glob("search/trials/*")) if training(run)]
        if len(found) >= runs:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{runs} runs did not begin within {seconds:.0f} s")


def holder(run: Path) -> int:
    """The process at work in a run directory."""
    return int(json.loads((run / "lock").read_text())["pid"])


def check(folder: Path, trials: int) -> bool:
    """Prints and judges what the search left."""
    found = json.loads((folder / "search" / "search.json").read_text())["trials"]
    states = Counter(t["state"] for t in found)
    places = Counter((t["run"], t["member"]) for t in found)
    on_disk = [
        trial["number"]
        for path in sorted(folder.glob("search/trials/*/population.json"))
        for trial in json.loads(path.read_text())["trials"]
    ]
    print(f"trials by state: {dict(states)}")
    for path in sorted(folder.glob("search/trials/*/run.json")):
        sessions = json.loads(path.read_text())["sessions"]
        print(f"  {path.parent.name}: {[s.get('how', 'killed') for s in sessions]}")
    return (
        states == {"complete": trials}
        and set(places.values()) == {1}
        and sorted(on_disk) == sorted(t["number"] for t in found)
    )


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executor", default="local", choices=["local", "ray"])
    parser.add_argument("--trials", type=int, default=8)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = small_reach(Path(name))
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        ray = flags.executor == "ray"
        more = ["--executor=ray", "--workers=2"] if ray else []
        args = command(folder, flags.trials, *more)
        began = time.monotonic()
        with (folder / "log").open("w") as log:
            workers = [
                subprocess.Popen(args, stdout=log, stderr=log, env=os.environ | cache)
                for _ in range(1 if ray else 2)
            ]
            victim = wait_for_training(folder, 2)[0]
            number = holder(victim)
            os.kill(number, signal.SIGKILL)
            print(
                f"after {time.monotonic() - began:.0f} s: killed -9 process {number}, which was at "
                f"work on {victim.name}"
            )
            codes = [worker.wait() for worker in workers]
        print(f"after {time.monotonic() - began:.0f} s: exit codes {codes}")
        fine = check(folder, flags.trials) and sorted(codes)[-1] == 0
        if not fine:
            print((folder / "log").read_text()[-4000:])
        print("nothing lost, nothing double" if fine else "WRONG")
        return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
