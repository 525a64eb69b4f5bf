"""Workers on one study, one killed, one stopped for a while: nothing lost, nothing double.

    python tools/robustness/chaos_search.py                  processes, one killed -9, one stopped
    python tools/robustness/chaos_search.py --executor=ray   two actors on CPUs, one killed -9

Small models train on synthetic reaches. Two workers run in two PID namespaces with one host name,
as in two containers of one machine (that needs root; else it says so, and they share one). One is
killed in the middle of a run, the other is stopped (SIGSTOP) for 90 s, and a third is started
meanwhile. It must continue the run of the dead worker and leave that of the stopped one alone.

Prints what was done when, the trials by state and the sessions of each run, and exits with 1 unless
as many trials are complete as were asked for, each once and with the score of its run; unless each
run has each of its epochs once in metrics.jsonl, and each trial one end in the journal; or if a
file of the stopped worker's run changed before that worker went on.
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

from stndt_jax import files
from stndt_jax.search import worker

EPOCHS = 400


def command(folder: Path, trials: int, *more: str) -> list[str]:
    """The search of this experiment."""
    return [
        *(sys.executable, "-m", "stndt_jax", "search", "--config=tiny", "--quiet"),
        f"--config.data.path={folder / 'reach.h5'}",
        f"--config.data.targets={folder / 'reach_target.h5'}",
        *("--config.contrast.enabled=false", "--config.model.layers=1"),
        *("--config.model.feedforward=8", f"--config.train.epochs={EPOCHS}"),
        *("--config.train.save_every_s=1", "--population=2", f"--trials={trials}"),
        f"--workdir={folder / 'search'}",
        *more,
    ]


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def has_namespaces() -> bool:
    """Whether PID namespaces can be made here."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Processes:
    """The workers of the experiment, by name."""

    def __init__(self, folder: Path, args: list[str], apart: bool) -> None:
        self._args = [*NAMESPACE, *args] if apart else args
        self._apart = apart
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self._environment = os.environ | cache
        self._log = (folder / "log").open("a")
        self._began = time.monotonic()
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def say(self, text: str) -> None:
        """Prints what was done, and when."""
        print(f"after {time.monotonic() - self._began:3.0f} s: {text}", flush=True)

    def start(self, name: str) -> None:
        """Starts a worker."""
        self._started[name] = subprocess.Popen(
            self._args, stdout=self._log, stderr=self._log, env=self._environment
        )

    def at_work(self, run: Path) -> tuple[str, int]:
        """The worker that trains a run, and the number of its process outside of namespaces.

        The lock names the process by its number inside, which is 1 for all of them.
        """
        lock = json.loads((run / "lock").read_text())
        for name, process in self._started.items():
            number = process.pid
            if self._apart:
                inner = Path(f"/proc/{number}/task/{number}/children").read_text().split()
                if not inner:
                    continue
                number = int(inner[0])
            if lock["container"].endswith(os.readlink(f"/proc/{number}/ns/pid")):
                inside = Path(f"/proc/{number}/status").read_text().partition("NSpid:")[2]
                if int(inside.splitlines()[0].split()[-1]) == lock["pid"]:
                    return name, number
        # An actor, whose process this script did not start.
        return "an actor", int(lock["pid"])

    def wait(self) -> dict[str, int]:
        """The exit codes, once all have ended."""
        codes = {name: process.wait() for name, process in self._started.items()}
        self.say(f"exit codes {codes}")
        return codes

    def end(self) -> None:
        """Ends those that still run."""
        for process in self._started.values():
            if process.poll() is None:
                process.kill()
        self._log.close()


def wait_for_training(folder: Path, runs: int, seconds: float = 540) -> list[Path]:
    """The runs in training that have a checkpoint to continue from, once there are so many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [
            run
            for run in sorted(folder.glob("search/trials/*"))
            if (run / "lock").exists() and any(run.glob("checkpoints/[0-9]*.sha256"))
        ]
        if len(found) >= runs:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{runs} runs did not begin within {seconds:.0f} s")


def killed_and_stopped(folder: Path, workers: Processes, stop_s: float) -> bool:
    """Kills one of two workers, stops the other, starts a third; true if it behaves."""
    workers.start("A")
    workers.start("B")
    first, second = wait_for_training(folder, 2)[:2]
    (killed, victim), (stopped, sleeper) = workers.at_work(first), workers.at_work(second)
    os.kill(victim, signal.SIGKILL)
    os.kill(sleeper, signal.SIGSTOP)
    workers.say(f"killed -9 worker {killed}, which trained {first.name}")
    workers.say(f"stopped worker {stopped}, which trained {second.name}")
    workers.start("C")
    # What it wrote before it was stopped is on the disk soon.
    time.sleep(1)
    before, end = files.tree_sha256(second), time.monotonic() + stop_s
    while time.monotonic() < end:
        time.sleep(1)
    untouched = files.tree_sha256(second) == before
    what = "unchanged" if untouched else "CHANGED BY ANOTHER"
    os.kill(sleeper, signal.SIGCONT)
    workers.say(f"worker {stopped} continues after {stop_s:.0f} s; {second.name} is {what}")
    codes = workers.wait()
    return untouched and codes[stopped] == 0 and codes["C"] == 0


def actor_killed(folder: Path, workers: Processes) -> bool:
    """Kills one of the actors of a Ray cluster; true if the driver ends well."""
    workers.start("driver")
    victim = wait_for_training(folder, 2)[0]
    number = workers.at_work(victim)[1]
    os.kill(number, signal.SIGKILL)
    workers.say(f"killed -9 process {number}, an actor, which trained {victim.name}")
    return workers.wait()["driver"] == 0


def check(folder: Path, trials: int) -> bool:
    """Prints and checks what the search left."""
    found = json.loads((folder / "search" / "search.json").read_text())["trials"]
    states = Counter(t["state"] for t in found)
    scores = {(t["run"], t["member"]): t["value"] for t in found}
    lines = (folder / "search" / "study.journal").read_text().splitlines()
    ends = Counter(r["trial_id"] for r in map(json.loads, lines) if r["op_code"] == 6)
    print(f"trials by state: {dict(states)}; ends in the journal: {sorted(ends.values())}")
    on_disk, fine = list[int](), True
    for run in sorted(folder.glob("search/trials/*")):
        numbers = worker.read_population(run)[0]
        on_disk += numbers
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        epochs = [row["epoch"] for row in rows]
        sessions = json.loads((run / "run.json").read_text())["sessions"]
        own = worker.scores(run)
        same = own == [scores.get((f"trials/{run.name}", k)) for k in range(len(numbers))]
        once = sorted(set(epochs)) == epochs and epochs[-1] == EPOCHS
        print(
            f"  {run.name}: {[s.get('how', 'killed') for s in sessions]}; {len(rows)} rows of "
            f"metrics, {'each epoch once' if once else 'NOT EACH EPOCH ONCE'}; scores "
            f"{'equal' if same else 'DIFFER FROM'} the study's"
        )
        fine &= same and once
    return (
        fine
        and states == {"complete": trials}
        and len(scores) == trials
        and sorted(on_disk) == sorted(t["number"] for t in found)
        and set(ends.values()) == {1}
    )


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executor", default="local", choices=["local", "ray"])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--stop", type=float, default=90.0, help="seconds")
    flags = parser.parse_args()
    ray = flags.executor == "ray"
    apart = not ray and has_namespaces()
    if not ray and not apart:
        print("no PID namespaces can be made here (that needs root), so the workers share one")
    with tempfile.TemporaryDirectory() as name:
        folder = small_reach(Path(name))
        args = command(folder, flags.trials, *(["--executor=ray", "--workers=2"] if ray else []))
        workers = Processes(folder, args, apart)
        try:
            if ray:
                fine = actor_killed(folder, workers)
            else:
                fine = killed_and_stopped(folder, workers, flags.stop)
            fine &= check(folder, flags.trials)
        finally:
            workers.end()
        if not fine:
            print((folder / "log").read_text()[-4000:])
        print("nothing lost, nothing double" if fine else "WRONG")
        return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
