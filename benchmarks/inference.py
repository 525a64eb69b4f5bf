"""Inference: trials a second in batches, and the latency of one trial.

    python benchmarks/inference.py --config=mc_maze

prints one JSON object. Counts go to the device and rates come back to the host within the time
that is measured, as they would where spikes arrive one trial after the other.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import sizes

from stndt_jax.config import schema as configs
from stndt_jax.parallel import lifts
from stndt_jax.training import step


def measure(name: str, trials: int, calls: int, dtype: str) -> dict[str, Any]:
    """Times a batch of ``trials``, then single ones, ``calls`` times each."""
    config, dims = sizes.setting(name, 1, dtype)
    arch = step.arch(config, dims, 1)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), configs.hyper(config))
    params = jax.jit(functools.partial(step.init, arch))(hyper).params
    run = lifts.compiled(functools.partial(step.rates, arch))
    found: dict[str, Any] = {"config": name, "dtype": dtype, "batch": trials, "calls": calls}
    for batch in (trials, 1):
        shape = (batch, dims.bins, dims.neurons)
        counts = np.random.default_rng(0).poisson(0.1, shape).astype(np.uint8)
        began = time.perf_counter()
        np.asarray(run(params, hyper, counts))
        first_s = time.perf_counter() - began
        seconds = machine.timed(lambda counts=counts: np.asarray(run(params, hyper, counts)), calls)
        if batch == 1:
            low, middle, high = (float(x) * 1e3 for x in np.percentile(seconds, [5, 50, 95]))
            found |= {"latency_ms_p5": low, "latency_ms": middle, "latency_ms_p95": high}
            found |= {"first_call_one_trial_s": first_s}
        else:
            found |= {"trials_per_s": batch / float(np.median(seconds))}
            found |= {"first_call_batch_s": first_s}
    return found


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    flags = parser.parse_args()
    found = measure(flags.config, max(2, flags.batch), flags.calls, flags.dtype)
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
