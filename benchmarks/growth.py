"""How a step grows with the bins, the neurons and the trials of a batch.

    python benchmarks/growth.py --config=reach --factors=1,2,4

prints one JSON object: for each of T, N and B, multiplied by each factor while the others stay,
the time of a step, the operations it needs, GFLOP/s and memory. ``exponent`` is the slope of the
time over the largest factor, on logarithmic scales: 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

import machine
import sizes
import train_step

from stndt_jax.config.schema import Config
from stndt_jax.types import Dims


def grown(config: Config, dims: Dims, axis: str, factor: int) -> tuple[Config, Dims]:
    """The setting with one of its sizes multiplied."""
    if axis == "B":
        train = dataclasses.replace(config.train, batch=config.train.batch * factor)
        return dataclasses.replace(config, train=train), dims
    names = {"T": ("bins_observed", "bins_forward"), "N": ("heldin", "heldout")}[axis]
    return config, dataclasses.replace(dims, **{n: getattr(dims, n) * factor for n in names})


def measure(name: str, factors: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row for each axis and factor; the setting itself is measured once."""
    rows: list[dict[str, Any]] = []
    own: dict[str, Any] = {}
    for axis in "TNB":
        for factor in factors:
            config, dims = grown(*sizes.setting(name, 1, "float32"), axis, factor)
            batch = config.train.batch
            if factor != 1 or not own:
                compiled, given = train_step.program(config, dims)
                seconds = machine.timed(lambda run=compiled, given=given: run(*given), repeats)
                found = machine.summary(seconds, train_step.STEPS) | machine.memory(compiled)
                gflop = sizes.needed_gflop(config, dims, batch)
                found |= {"needed_gflop": gflop, "gflops": gflop / found["ms_per_step"] * 1e3}
                own = found if factor == 1 else own
            else:
                found = own
            place = {"T": dims.bins, "N": dims.neurons, "B": batch}
            rows.append({"axis": axis, "factor": factor, **place, **found})
    return rows


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """By axis, the slope of log time over log size between the smallest and largest factor."""
    found = {}
    for axis in "TNB":
        own = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["factor"])
        first, last = own[0], own[-1]
        if first["factor"] != last["factor"]:
            time = math.log(last["ms_per_step"] / first["ms_per_step"])
            found[axis] = time / math.log(last["factor"] / first["factor"])
    return found


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--factors", type=machine.numbers, default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    rows = measure(flags.config, flags.factors, flags.repeats)
    found = {"config": flags.config, "exponent": exponents(rows), "rows": rows}
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
