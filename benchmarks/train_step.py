"""Times one training step and sets it beside the machine's own matrix products.

    python benchmarks/train_step.py --config=mc_maze --population=1

prints one JSON object: milliseconds a step, trials/s, GFLOP/s of the operations that the step
needs, GFLOP/s of a large matrix product timed in the same run, and their ratio. Steps are timed
as training runs them, several in one program. Needs neither ml_collections nor rich: sizes and
architecture of the named data sets stand here.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import config as configs
from stndt_jax import parallel, step
from stndt_jax.types import Dims

# bins observed, bins forward, neurons held-in, neurons held-out; layers, heads, width, batch
SIZES = {
    "mc_maze": ((140, 40, 137, 45), (4, 2, 128, 64)),
    "mc_rtt": ((120, 40, 98, 32), (4, 2, 128, 64)),
    "area2_bump": ((120, 40, 49, 16), (4, 1, 128, 64)),
    "mc_maze_large": ((140, 40, 122, 40), (2, 2, 128, 17)),
    "reach": ((50, 10, 32, 16), (2, 2, 64, 25)),
    "tiny": ((6, 2, 4, 2), (1, 2, 8, 4)),
}

STEPS = 5  # in one timed program


def setting(name: str, population: int, dtype: str) -> tuple[configs.Config, Dims]:
    """A configuration of the named size: contrast on, dropout .1 to .2."""
    sizes, (layers, heads, width, batch) = SIZES[name]
    values: dict[str, Any] = {
        "seed": 0,
        "population": population,
        "members": {},
        "data": {
            "path": "", "targets": "", "name": name, "bin_ms": 5.0, "validation_fraction": 0.0,
        },
        "model": {
            "layers": layers, "heads": heads, "feedforward": width, "spatial": True,
            "norm": "pre", "final_norm": "layer", "activation": "relu",
            "position": "sinusoidal", "position_offset": True, "tfixup": True, "dtype": dtype,
            "full_context": False, "context_forward": 30, "context_backward": 30,
            "dropout": 0.1, "dropout_rates": 0.2, "dropout_embedding": 0.2,
        },
        "mask": {
            "mode": "full", "grow_full": False, "ratio": 0.25, "token_ratio": 0.75,
            "random_ratio": 0.7, "max_span": 1, "ramp_start": 0.0, "ramp_end": 0.0,
        },
        "contrast": {
            "enabled": True, "layer": "embedder", "projector": "none", "temperature": 0.07,
            "weight": 0.1, "ratio": 0.1, "token_ratio": 0.75, "random_ratio": 0.7,
            "start_epoch": 0.0,
        },
        "optimizer": {
            "schedule": "cosine", "clip_norm": 200.0, "learning_rate": 1e-3,
            "weight_decay": 1e-5, "warmup_epochs": 10.0,
        },
        "train": {
            "epochs": 100, "batch": batch, "validate_every": 1, "patience": 100,
            "save_every_s": 60.0, "on_divergence": "freeze", "restarts": 0,
        },
        "parallel": {"devices": 0, "data": 1},
    }  # fmt: skip
    return configs.from_mapping(values), Dims(*sizes)


def needed_gflop(config: configs.Config, dims: Dims, batch: int) -> float:
    """Operations of one member's step that no implementation can leave out, in 1e9.

    Matrix products of one forward and backward pass (twice the forward's) through the
    encoder and the embedders of the views, and the similarities of the views' features;
    multiply and add count as two.
    """
    B, T, N = batch, dims.bins, dims.neurons
    F, L = config.model.feedforward, config.model.layers
    temporal = 4 * T * N * N + 2 * T * T * N
    spatial = 2 * N * T * T + N * N * T + T * N * N
    layer = temporal + spatial + 4 * T * N * F
    embed = T * N * N + N * T * T
    views = 2 * embed if config.contrast.enabled else 0
    forward = 2 * B * (L * layer + embed + views + T * N * N)
    # The inputs need no gradient, so the embedders' backward pass is one product, not two.
    encoders = 3 * forward - 2 * B * (embed + views)
    # Two kinds of features; a symmetric matrix of similarities, so one product on the way back.
    similarities = 2 * 2 * 2 * (2 * B) ** 2 * T * N if config.contrast.enabled else 0
    return (encoders + similarities) / 1e9


def timed(run: Any, repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` calls, after one that is not counted."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return seconds


def matmul_gflops(size: int, repeats: int) -> float:
    """GFLOP/s of a square float32 matrix product, the best of ``repeats``."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
    product = parallel.compiled(jnp.matmul)
    return 2 * size**3 / min(timed(lambda: product(a, a), repeats)) / 1e9


def measure(name: str, population: int, repeats: int, dtype: str) -> dict[str, Any]:
    """Times the step of a population."""
    config, dims = setting(name, population, dtype)
    batch = config.train.batch
    arch = step.arch(config, dims, 100)
    hyper = jax.tree.map(jnp.asarray, configs.hyper(config))
    rng = np.random.default_rng(0)
    shape = (population, batch, dims.bins, dims.neurons)
    data = step.Batch(jnp.asarray(rng.poisson(0.1, shape).astype(np.uint8)), jnp.ones(shape, bool))
    state = jax.jit(parallel.over_members(functools.partial(step.init, arch)))(hyper)

    def steps(state: Any, hyper: Any, data: Any) -> Any:
        def one(state: Any, _: None) -> Any:
            return step.train_step(arch, state, hyper, data)

        return jax.lax.scan(one, state, None, length=STEPS)

    program = parallel.compiled(parallel.over_members(steps))
    began = time.perf_counter()
    compiled = program.lower(state, hyper, data).compile()
    compile_s = time.perf_counter() - began
    seconds = [s / STEPS for s in timed(lambda: compiled(state, hyper, data), repeats)]
    size = 2048 if jax.default_backend() == "cpu" else 16384
    machine = matmul_gflops(size if name != "tiny" else 256, max(3, repeats))
    gflop = needed_gflop(config, dims, batch) * population
    median = statistics.median(seconds)
    return {
        "config": name,
        "population": population,
        "batch": batch,
        "bins": dims.bins,
        "neurons": dims.neurons,
        "dtype": dtype,
        "ms_per_step": median * 1e3,
        "ms_per_step_best": min(seconds) * 1e3,
        "trials_per_s": population * batch / median,
        "needed_gflop": gflop,
        "gflops": gflop / median,
        "matmul_gflops": machine,
        "ratio": gflop / median / machine,
        "compile_s": compile_s,
        "repeats": repeats,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "machine": platform.machine(),
        "jax": jax.__version__,
    }


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(SIZES))
    parser.add_argument("--population", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    flags = parser.parse_args()
    print(json.dumps(measure(flags.config, flags.population, flags.repeats, flags.dtype), indent=2))


if __name__ == "__main__":
    main()
