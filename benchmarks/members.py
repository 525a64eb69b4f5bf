"""The number of members against time and memory.

    python benchmarks/members.py --config=reach --members=1,2,4,8,16

prints one JSON object: for each number of members the time of a step of all of them, trials/s over
all, what the compiled program needs in memory, and how long it took to compile. On a CPU the
members of a population train one after the other, on an accelerator together.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import machine
import sizes
import train_step


def measure(name: str, members: list[int], repeats: int, dtype: str) -> list[dict[str, Any]]:
    """One row for each number of members."""
    rows = []
    for population in members:
        config, dims = sizes.setting(name, population, dtype)
        began = time.perf_counter()
        compiled, given = train_step.program(config, dims)
        compile_s = time.perf_counter() - began
        times = machine.summary(
            machine.timed(lambda run=compiled, given=given: run(*given), repeats), train_step.STEPS
        )
        trials = population * config.train.batch
        rows.append(
            {
                "members": population,
                **times,
                "trials_per_s": trials / times["ms_per_step"] * 1e3,
                **machine.memory(compiled),
                "compile_s": compile_s,
            }
        )
    return rows


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--members", type=machine.numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    flags = parser.parse_args()
    rows = measure(flags.config, flags.members, flags.repeats, flags.dtype)
    machine.show({"config": flags.config, "dtype": flags.dtype, "rows": rows} | machine.about())


if __name__ == "__main__":
    main()
