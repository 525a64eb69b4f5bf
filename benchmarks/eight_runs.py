"""A population of eight against eight runs, one after another and in eight processes.

    python benchmarks/eight_runs.py --config=reach

trains the same steps three ways and prints one JSON object: aggregate trials/s of the training
alone, and with all that a user waits for (starting Python, compiling); and the ratios. The eight
processes compile first and are let go together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

import jax
import machine
import sizes
import train_step


def trained(name: str, population: int, rounds: int, times: int = 1) -> tuple[float, float]:
    """Seconds to compile, and seconds to train ``times`` populations one after another."""
    began = time.perf_counter()
    compiled, given = train_step.program(*sizes.setting(name, population, "float32"))
    compile_s = time.perf_counter() - began
    jax.block_until_ready(compiled(*given))
    began = time.perf_counter()
    for _ in range(times * rounds):
        jax.block_until_ready(compiled(*given))
    return compile_s, time.perf_counter() - began


def child(name: str, rounds: int) -> None:
    """One of the processes: compiles, says so, waits for a line, trains, says so."""
    compiled, given = train_step.program(*sizes.setting(name, 1, "float32"))
    jax.block_until_ready(compiled(*given))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        jax.block_until_ready(compiled(*given))
    print("done", flush=True)


def processes(name: str, runs: int, rounds: int) -> tuple[float, float]:
    """Seconds until all are ready to train, and seconds until all have trained.

    Raises:
      SystemExit: one of them failed.
    """
    command = [sys.executable, __file__, f"--config={name}", f"--rounds={rounds}", "--child"]
    began = time.perf_counter()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(runs)]

    def wait_for(word: str) -> None:
        for one in children:
            assert one.stdout is not None
            if one.stdout.readline().strip() != word:
                raise SystemExit(f"a process was not {word}: exit code {one.wait()}")

    try:
        wait_for("ready")
        start_s = time.perf_counter() - began
        began = time.perf_counter()
        for one in children:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        wait_for("done")
        return start_s, time.perf_counter() - began
    finally:
        for one in children:
            one.kill()
            one.communicate()


def measure(name: str, runs: int, rounds: int) -> dict[str, Any]:
    """The three ways."""
    config, _ = sizes.setting(name, 1, "float32")
    trials = runs * rounds * train_step.STEPS * config.train.batch
    ways = {
        "population": trained(name, runs, rounds),
        "one_after_another": trained(name, 1, rounds, runs),
        "processes": processes(name, runs, rounds),
    }
    found: dict[str, Any] = {"config": name, "runs": runs, "steps": rounds * train_step.STEPS}
    for way, (start_s, train_s) in ways.items():
        found[way] = {
            "trials_per_s": trials / train_s,
            "start_s": start_s,
            "train_s": train_s,
            "trials_per_s_from_the_start": trials / (start_s + train_s),
        }
    for other in ("one_after_another", "processes"):
        ratio = found["population"]["trials_per_s"] / found[other]["trials_per_s"]
        found[f"population_to_{other}"] = ratio
    return found


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4, help="of five steps")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(flags.config, flags.rounds)
    else:
        machine.show(measure(flags.config, flags.runs, flags.rounds) | machine.about())


if __name__ == "__main__":
    main()
