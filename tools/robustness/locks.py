"""Lets processes compete for the lock of a directory, round after round; one may hold it at a time.

    python tools/robustness/locks.py --rounds 2000    (as root, for namespaces; else it says so)

In each round a process takes the lock and dies without releasing it, then all contenders try to
take it at the same moment; who gets it verifies it, holds it for a moment, verifies it again and
releases it, or dies in its turn. The contenders are two or four processes, two PID namespaces with
one host name, two host names, and processes whose clocks are off by an hour. In the last trial the
holder is stopped (SIGSTOP) for some time while others try to take its lock.

Prints a line for each trial: rounds, how often the lock was taken, double holders, locks that were
deleted or taken from their holder, exceptions. Exits with 1 unless the last three are 0.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from stndt_jax.errors import UserError
from stndt_jax.runs.lock import NAME, Lock, LockLost

HOLD_S = 0.002
FAULTS = ("double", "lost", "exception")
# Name of a trial -> what each contender runs in, and by how many seconds its clock is off.
Contender = tuple[tuple[str, ...], float]
PID_NAMESPACE = ("unshare", "-pf", "--mount-proc")
TRIALS: dict[str, tuple[Contender, ...]] = {
    "two processes": (((), 0.0),) * 2,
    "four processes": (((), 0.0),) * 4,
    "two PID namespaces, one host name": ((PID_NAMESPACE, 0.0),) * 2,
    "two host names": tuple(
        (("unshare", "-u", "sh", "-c", f'hostname {name}; exec "$@"', "sh"), 0.0)
        for name in ("one", "other")
    ),
    "a clock an hour ahead": (((), 0.0), ((), 3600.0)),
    "a clock an hour behind": (((), 0.0), ((), -3600.0)),
}


def die_holding(folder: Path) -> None:
    """Takes the lock in a child that is killed before it releases it."""
    child = os.fork()
    if not child:
        Lock(folder, wait_s=0.0).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def hold(folder: Path, draw: random.Random) -> str:
    """Tries to take the lock once.

    Returns:
      ``taken``, ``refused``, or one of ``FAULTS``.
    """
    inside = folder / "inside"
    try:
        with Lock(folder, wait_s=0.0) as lock:
            try:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return "double"
            lock.check()
            time.sleep(draw.uniform(0.0, HOLD_S))
            lock.check()
            inside.unlink()
            return "taken"
    except LockLost:
        return "lost"
    except UserError as error:
        return "refused" if "is using" in str(error) else "exception"


def contend(folder: Path, seed: int, clock_s: float) -> None:
    """A contender: for every line of its input, one attempt and a line with what came of it."""
    real = time.time
    time.time = lambda: real() + clock_s
    draw = random.Random(seed)
    for line in sys.stdin:
        try:
            if line.strip() == "die":
                die_holding(folder)
                when = time.time()
                os.utime(folder / NAME, (when, when))
                result = "died"
            else:
                time.sleep(draw.uniform(0.0, 0.0005))
                result = hold(folder, draw)
        except Exception:  # noqa: BLE001 - counted as a fault
            traceback.print_exc()
            result = "exception"
        print(result, flush=True)


def compete(contenders: tuple[Contender, ...], rounds: int, seed: int) -> Counter[str]:
    """All rounds of a trial."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        processes = [
            subprocess.Popen(
                [*within, sys.executable, __file__, "--contend", name, str(seed + k), str(clock)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )
            for k, (within, clock) in enumerate(contenders)
        ]  # fmt: skip
        for k in range(rounds):
            answers = _asked(processes[k % len(processes) :][:1], "die")
            found.update(a for a in answers if a != "died")
            answers = _asked(processes, "go")
            found.update(answers)
            if "taken" not in answers:
                found["nobody"] += 1
            (Path(name) / "inside").unlink(missing_ok=True)
        for process in processes:
            process.communicate()
    return found


def _asked(processes: list[subprocess.Popen[str]], word: str) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{word}\n")
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(process.stdout.readline().strip() or "exception")
    return answers


def stopped(rounds: int, seconds: float) -> Counter[str]:
    """Attempts on the lock of a process that is stopped, then goes on and still holds it."""
    found: Counter[str] = Counter()
    program = (
        "import sys; from pathlib import Path; from stndt_jax.runs.lock import Lock\n"
        "with Lock(Path(sys.argv[1])) as lock:\n"
        "    print('held', flush=True); input(); lock.check()\n"
        "print('released', flush=True)"
    )
    with tempfile.TemporaryDirectory() as name:
        folder, draw = Path(name), random.Random(0)
        holder = subprocess.Popen(
            [sys.executable, "-c", program, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        for _ in range(rounds):
            result = hold(folder, draw)
            found["double" if result == "taken" else result] += 1
            time.sleep(seconds / rounds)
        holder.send_signal(signal.SIGCONT)
        told, _ = holder.communicate("\n")
        found["lost"] += told != "released\n"
        result = hold(folder, draw)
        found[result if result == "taken" else "exception"] += 1
    return found


def report(name: str, rounds: int, trial: Callable[[], Counter[str]]) -> bool:
    """Runs a trial, prints what was found; whether it is free of faults."""
    began = time.monotonic()
    found = trial()
    about = {"trial": name, "rounds": rounds, "taken": found["taken"], "refused": found["refused"]}
    about |= {fault: found[fault] for fault in FAULTS} | {"nobody": found["nobody"]}
    print(json.dumps(about | {"s": round(time.monotonic() - began, 1)}), flush=True)
    return not any(found[fault] for fault in FAULTS)


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--stopped-s", type=float, default=90.0)
    parser.add_argument("--contend", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.contend:
        contend(Path(flags.contend[0]), int(flags.contend[1]), float(flags.contend[2]))
        return 0
    fine = True
    for k, (name, contenders) in enumerate(TRIALS.items()):
        if contenders[0][0] and subprocess.run([*contenders[0][0], "true"], check=False).returncode:
            print(f"{name}: left out, because namespaces cannot be made here (needs root)")
            continue
        fine &= report(name, flags.rounds, functools.partial(compete, contenders, flags.rounds, k))
    name = f"the holder is stopped for {flags.stopped_s:g} s"
    fine &= report(name, flags.rounds, functools.partial(stopped, flags.rounds, flags.stopped_s))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
