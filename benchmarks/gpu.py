"""What an accelerator does with populations: sizes, members, precisions, in one run.

    python benchmarks/gpu.py --out=h100.json
    python benchmarks/gpu.py --sizes=reach,mc_maze_factors --members=1,32 --precisions=tf32

first checks that the device computes the log-rates and the loss that a CPU computes, and ends with
exit code 1 if it does not. Then, for every size, precision and number of members: seconds to
compile, milliseconds a step, trials/s of all members, memory, the share of the device's own
matmul rate at that precision, and what the compiled program consists of (kernels, loops, copies).
What does not fit into memory is said and left out. A table goes to the error output, JSON to the
output and to ``--out``. ``--trace=DIR`` records a profile of the last program for TensorBoard or
Perfetto. Needs jax, flax, optax and numpy only, like ``train_step.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import sizes
import train_step

from stndt_jax.config import schema as configs
from stndt_jax.training import step

# Name -> (type of number of the model, precision of float32 matmuls).
PRECISIONS = {
    "f32": ("float32", "highest"),
    "tf32": ("float32", "tensorfloat32"),
    "bf16": ("bfloat16", "default"),
}
TOLERANCE = 1e-4
COLUMNS = ("config", "precision", "population", "compile_s", "ms_per_step", "trials_per_s",
           "total_mib", "share", "fusions", "loops", "copies")  # fmt: skip


def differences(name: str) -> dict[str, float]:
    """The largest differences of log-rates and loss between this device and a CPU."""
    config, dims = sizes.setting(name, 1, "float32")
    arch = step.arch(config, dims, 100)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], configs.hyper(config))
    counts = np.random.default_rng(0).poisson(0.1, (8, dims.bins, dims.neurons)).astype(np.uint8)
    batch = step.Batch(jnp.asarray(counts), jnp.ones(counts.shape, bool))

    def loss(params: Any, hyper: Any, batch: step.Batch) -> Any:
        noise = step.noise_of(arch, hyper, jnp.int32(0))
        return step.loss(arch, params, hyper, batch, noise, jnp.float32(0))[0]

    found = []
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            given = jax.device_put((hyper, batch), device)
            state = jax.jit(lambda hyper: step.init(arch, hyper))(given[0])
            z = jax.jit(lambda p, h, b: step.log_rates(arch, p, h, b.counts))(state.params, *given)
            value = jax.jit(loss)(state.params, *given)
            found.append((np.asarray(z), float(value)))
    (z_cpu, loss_cpu), (z, own) = found
    return {
        "log_rates": float(np.max(np.abs(z - z_cpu))),
        "loss": abs(own - loss_cpu) / max(1.0, abs(loss_cpu)),
    }


def parts(compiled: Any) -> dict[str, int]:
    """What a compiled program consists of."""
    text = compiled.as_text()
    names = {"fusions": "fusion", "loops": "while", "copies": "copy", "calls": "custom-call"}
    return {key: len(re.findall(rf" {name}\(", text)) for key, name in names.items()}


def measure(
    name: str, precision: str, members: int, repeats: int, rate: float, trace: str = ""
) -> dict[str, Any]:
    """One row of the table."""
    dtype, matmuls = PRECISIONS[precision]
    config, dims = sizes.setting(name, members, dtype)
    row: dict[str, Any] = {"config": name, "precision": precision, "population": members}
    with jax.default_matmul_precision(matmuls):
        try:
            began = time.perf_counter()
            compiled, given = train_step.program(config, dims)
            row["compile_s"] = time.perf_counter() - began
            times = machine.timed(lambda: compiled(*given), repeats)
            if trace:
                with jax.profiler.trace(trace):
                    jax.block_until_ready(compiled(*given))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return row | {"left_out": "out of memory"}
    row |= machine.summary(times, train_step.STEPS) | machine.memory(compiled) | parts(compiled)
    seconds = row["ms_per_step"] / 1e3
    gflop = sizes.needed_gflop(config, dims, config.train.batch) * members
    row["trials_per_s"] = members * config.train.batch / seconds
    row["total_mib"] = row["arguments_mib"] + row["working_mib"]
    row["share"] = gflop / seconds / rate
    return row


def rates() -> dict[str, float]:
    """GFLOP/s of large matmuls at each precision."""
    found = {}
    for name, (dtype, matmuls) in PRECISIONS.items():
        with jax.default_matmul_precision(matmuls):
            found[name] = machine.matmul_gflops(dtype=dtype)
    return found


def line(row: dict[str, Any]) -> str:
    """A row in words of fixed width."""
    if "left_out" in row:
        return f"{row['config']:<22}{row['precision']:>9}{row['population']:>11}  {row['left_out']}"
    cells = [row[name] for name in COLUMNS]
    words = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"{words[0]:<22}{words[1]:>9}" + "".join(f"{word:>13}" for word in words[2:])


def main() -> None:
    """Reads the flags, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="reach,mc_maze_large_factors,mc_maze_factors,mc_maze")
    parser.add_argument("--members", type=machine.numbers, default=[1, 8, 32, 64, 128])
    parser.add_argument("--precisions", default="tf32,bf16,f32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="file for the JSON")
    parser.add_argument("--trace", default="", help="folder for a profile of the last program")
    flags = parser.parse_args()
    names, precisions = flags.sizes.split(","), flags.precisions.split(",")
    if unknown := {*names} - {*sizes.SIZES} | {*precisions} - {*PRECISIONS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    differing = {name: differences(name) for name in names[:1]}
    print(f"differences to a CPU: {differing}", file=sys.stderr)
    if max(value for found in differing.values() for value in found.values()) > TOLERANCE:
        raise SystemExit(f"the device computes other numbers than a CPU: {differing}")
    found: dict[str, Any] = {"differences": differing, "matmul_gflops": rates(), "rows": []}
    print(f"{COLUMNS[0]:<22}{COLUMNS[1]:>9}" + "".join(f"{c:>13}" for c in COLUMNS[2:]),
          file=sys.stderr)  # fmt: skip
    cases = [(n, p, k) for n in names for p in precisions for k in flags.members]
    for name, precision, members in cases:
        trace = flags.trace if (name, precision, members) == cases[-1] else ""
        rate = found["matmul_gflops"][precision]
        found["rows"].append(measure(name, precision, members, flags.repeats, rate, trace))
        print(line(found["rows"][-1]), file=sys.stderr, flush=True)
        if flags.out:
            # After every row, so that a machine that is taken away leaves what was measured.
            Path(flags.out).write_text(json.dumps(found | machine.about(), indent=2))
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
