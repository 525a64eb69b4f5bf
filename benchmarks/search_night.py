"""What a search costs on an accelerator, on paper: operations, hours, members in memory.

    python benchmarks/search_night.py --config=mc_maze_factors --trials=120 --epochs=94

counts, for the trials of a search that are all trained to their end, the operations that no
implementation can leave out, and divides them by a rate of matmuls (``--tflops``) of which a step
reaches only a share: 1, 3, 10, 30%. How many members train at once is what fits into
``--memory-gb``: compiled on this machine as one program of all members, one and two of them, which
differ by what each further one needs. Last, what the same search takes here, by steps that are
timed. Nothing of it was measured on an accelerator; ``gpu.py`` measures there. A pruner and smaller
settings make a search cheaper.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import machine
import sizes
import train_step

SHARES = (0.01, 0.03, 0.1, 0.3)
GB = 1e9


def memory_gb(name: str, dtype: str) -> tuple[float, float]:
    """Of one member, and of each further one: arguments and what the step works in."""
    found = []
    for members in (1, 2):
        config, dims = sizes.setting(name, members, dtype)
        compiled, _ = train_step.program(config, dims, vmapped=True)
        found.append(sum(machine.memory(compiled).values()) * 2**20 / GB)
    return found[0], found[1] - found[0]


def estimate(
    name: str, trials: int, recorded: int, epochs: int, tflops: float, gb: float, dtype: str
) -> dict[str, Any]:
    """The whole estimate.

    Args:
      name: of the size.
      trials: of the search.
      recorded: training trials of the recording.
      epochs: that each trial of the search is trained for.
      tflops: the accelerator's rate of matmuls.
      gb: its memory.
      dtype: of the matmuls.
    """
    config, dims = sizes.setting(name, 1, dtype)
    steps = epochs * (recorded // config.train.batch)
    gflop = sizes.needed_gflop(config, dims, config.train.batch)
    first, further = memory_gb(name, dtype)
    at_once = max(1, math.floor((gb - first) / further) + 1) if gb >= first else 0
    total = trials * steps * gflop
    here = train_step.measure(name, 1, 3, dtype, plain=False)
    return {
        "config": name,
        "trials": trials,
        "steps_of_a_trial": steps,
        "gflop_of_a_step": gflop,
        "total_pflop": total / 1e6,
        "tflops": tflops,
        "hours_at_share": {str(share): total / (tflops * 1e3 * share) / 3600 for share in SHARES},
        "memory_gb": gb,
        "gb_of_one_member": first,
        "gb_of_each_further": further,
        "members_at_once": min(at_once, trials),
        "populations": math.ceil(trials / at_once) if at_once else 0,
        "hours_here": trials * steps * here["ms_per_step"] / 3.6e6,
        "ms_per_step_here": here["ms_per_step"],
    }


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="mc_maze_factors", choices=sorted(sizes.SIZES))
    parser.add_argument("--trials", type=int, default=120, help="of the search")
    parser.add_argument("--recorded", type=int, default=1721, help="training trials")
    parser.add_argument(
        "--epochs", type=int, default=94, help="of each trial of the search (auto for MC_Maze: 94)"
    )
    parser.add_argument(
        "--tflops", type=float, default=156.0, help="the vendor's rate of matmuls (A100, TF32: 156)"
    )
    parser.add_argument("--memory-gb", type=float, default=80.0)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    flags = parser.parse_args()
    found = estimate(
        flags.config,
        flags.trials,
        flags.recorded,
        flags.epochs,
        flags.tflops,
        flags.memory_gb,
        flags.dtype,
    )
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
