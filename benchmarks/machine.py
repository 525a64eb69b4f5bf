"""What all benchmarks need: clocks, the machine's own matrix products, what machine it is.

Importing it makes ``stndt_jax`` the package of this checkout, installed or not, and leaves out
nothing but jax, flax, optax, orbax, numpy and h5py that a benchmark would need.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# As the command does: the members of a population share the cores of a CPU.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
os.environ.setdefault("STNDT_CORES", str(CORES))

from stndt_jax.parallel import lifts  # noqa: E402  (it reads STNDT_CORES)


def timed(run: Any, repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` calls, after one that is not counted."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return seconds


def matmul_gflops(size: int = 0, repeats: int = 5, dtype: str = "float32") -> float:
    """GFLOP/s of a square matrix product, the best of ``repeats`` and of the compiler's ways.

    Args:
      size: rows; by default 2048 on a CPU, 16384 elsewhere.
      repeats: of each way.
      dtype: of the factors.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 16384)
    a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), dtype)
    ways = [lifts.compiled(jnp.matmul), jax.jit(jnp.matmul)]
    seconds = [s for way in ways for s in timed(lambda way=way: way(a, a), repeats)]
    return 2 * size**3 / min(seconds) / 1e9


def memory(compiled: Any) -> dict[str, float]:
    """MiB that a compiled program says it needs: what it is given, and what it works in."""
    found = compiled.memory_analysis()
    return {
        "arguments_mib": found.argument_size_in_bytes / 2**20,
        "working_mib": found.temp_size_in_bytes / 2**20,
    }


def summary(seconds: list[float], steps: int = 1) -> dict[str, float]:
    """Milliseconds a step: the median and the best."""
    return {
        "ms_per_step": statistics.median(seconds) / steps * 1e3,
        "ms_per_step_best": min(seconds) / steps * 1e3,
    }


def about() -> dict[str, Any]:
    """The machine and the versions."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": _processor(),
        "cores": CORES,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def numbers(text: str) -> list[int]:
    """A flag's list of numbers."""
    return [int(word) for word in text.split(",")]


def show(result: Any) -> None:
    """Prints a result as JSON."""
    print(json.dumps(result, indent=2))
