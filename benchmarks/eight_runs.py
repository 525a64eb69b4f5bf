"""A population of eight against eight runs, one after another and in eight processes.

    python benchmarks/eight_runs.py --config=reach

trains the same steps three ways, in turns, and prints one JSON object: aggregate trials/s of the
training alone, and with all that a user waits for (starting Python, compiling); and the ratios,
medians over the turns. The eight processes compile first and are let go together.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import machine
import sizes
import train_step


def ready(name: str, population: int) -> tuple[Callable[[], Any], float]:
    """What trains a population for some steps, and the seconds until it could."""
    began = time.perf_counter()
    compiled, given = train_step.program(*sizes.setting(name, population, "float32"))
    jax.block_until_ready(compiled(*given))
    return lambda: jax.block_until_ready(compiled(*given)), time.perf_counter() - began


def child(name: str, rounds: int) -> None:
    """One of the processes: compiles, says so, trains at every line and says so."""
    train, _ = ready(name, 1)
    print("ready", flush=True)
    for _ in sys.stdin:
        for _ in range(rounds):
            train()
        print("done", flush=True)


class Processes:
    """Runs in processes of their own, let go together."""

    def __init__(self, name: str, runs: int, rounds: int) -> None:
        command = [sys.executable, __file__, f"--config={name}", f"--rounds={rounds}", "--child"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        began = time.perf_counter()
        self.children: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(runs)]
        self.wait_for("ready")
        self.start_s = time.perf_counter() - began

    def wait_for(self, word: str) -> None:
        """Returns when all have said the word.

        Raises:
          SystemExit: one of them failed.
        """
        for one in self.children:
            if one.stdout.readline().strip() != word:
                self.end()
                raise SystemExit(f"a process was not {word}: exit code {one.returncode}")

    def train(self) -> None:
        """All train at once."""
        for one in self.children:
            one.stdin.write("\n")
            one.stdin.flush()
        self.wait_for("done")

    def end(self) -> None:
        """Ends them all."""
        for one in self.children:
            one.kill()
            one.communicate()


def measure(name: str, runs: int, rounds: int, repeats: int) -> dict[str, Any]:
    """The three ways, in turns, because a machine's speed changes while it is measured."""
    config, _ = sizes.setting(name, 1, "float32")
    trials = runs * rounds * train_step.STEPS * config.train.batch
    together, together_s = ready(name, runs)
    one, one_s = ready(name, 1)
    processes = Processes(name, runs, rounds)
    ways: dict[str, tuple[float, int, Callable[[], Any]]] = {
        "population": (together_s, rounds, together),
        "one_after_another": (one_s, rounds * runs, one),
        "processes": (processes.start_s, 1, processes.train),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    try:
        for _ in range(repeats):
            for way, (_, times, train) in ways.items():
                began = time.perf_counter()
                for _ in range(times):
                    train()
                seconds[way].append(time.perf_counter() - began)
    finally:
        processes.end()
    found: dict[str, Any] = {"config": name, "runs": runs, "steps": rounds * train_step.STEPS}
    for way, (start_s, *_) in ways.items():
        train_s = statistics.median(seconds[way])
        found[way] = {
            "trials_per_s": trials / train_s,
            "start_s": start_s,
            "train_s": train_s,
            "trials_per_s_from_the_start": trials / (start_s + train_s),
        }
    for other in ("one_after_another", "processes"):
        pairs = zip(seconds[other], seconds["population"], strict=True)
        found[f"population_to_{other}"] = statistics.median(a / b for a, b in pairs)
    return found | {"repeats": repeats}


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4, help="of five steps")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(flags.config, flags.rounds)
    else:
        machine.show(
            measure(flags.config, flags.runs, flags.rounds, flags.repeats) | machine.about()
        )


if __name__ == "__main__":
    main()
