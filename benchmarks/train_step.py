"""Times one training step and sets it beside the machine's own matrix products.

    python benchmarks/train_step.py --config=mc_maze --population=1

prints one JSON object: milliseconds a step, trials/s, GFLOP/s of the operations that the step
needs, GFLOP/s of a large matrix product timed in the same run, and their ratio; for one model
also the time of the plain step (``plain_step.py``) and the share of it that this one takes. Steps
are timed as training runs them, several in one program. Needs neither ml_collections nor rich.
"""

from __future__ import annotations

import argparse
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import plain_step
import sizes

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.models.stndt import constants
from stndt_jax.parallel import lifts
from stndt_jax.training import step
from stndt_jax.training.packing import Packing
from stndt_jax.types import Dims

STEPS = 5  # in one timed program


def program(config: Config, dims: Dims, vmapped: bool | None = None) -> tuple[Any, tuple[Any, ...]]:
    """The compiled steps of a population, and what to call them with.

    Args:
      config: of the population.
      dims: sizes of a trial.
      vmapped: members are one ``vmap`` on one device; by default as training has them.
    """
    arch = step.arch(config, dims, 100)
    grid = None if vmapped else lifts.mesh(config.population)
    placed = lifts.of_members(grid)
    rng = np.random.default_rng(0)
    shape = (config.population, config.train.batch, dims.bins, dims.neurons)
    counts = rng.poisson(0.1, shape).astype(np.uint8)
    given = (configs.hyper(config), step.Batch(jnp.asarray(counts), jnp.ones(shape, bool)))
    hyper, data = jax.device_put(jax.tree.map(jnp.asarray, given), placed)
    # As in training: a thread compiles the initialisation meanwhile.
    one = functools.partial(step.init, arch)
    init = jax.jit(lifts.over_members(one, vmapped=False), out_shardings=placed)
    state = ThreadPoolExecutor(1).submit(init, hyper)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
        jax.eval_shape(init, hyper),
    )

    def steps(state: Any, hyper: Any, data: Any) -> Any:
        packing = Packing(state.params, constants(state.params))

        def one(state: Any, _: None) -> Any:
            return step.packed_step(arch, packing, state, hyper, data)

        packed, metrics = jax.lax.scan(one, packing.pack_all(state), None, length=STEPS)
        return packing.unpack_all(packed, state), metrics

    lifted = lifts.over_members(steps, vmapped=vmapped, grid=grid)
    compiled = lifts.compiled(lifted, out_shardings=placed).lower(shapes, hyper, data).compile()
    return compiled, (state.result(), hyper, data)


def measure(name: str, population: int, repeats: int, dtype: str, plain: bool) -> dict[str, Any]:
    """Times the step of a population."""
    config, dims = sizes.setting(name, population, dtype)
    batch = config.train.batch
    began = time.perf_counter()
    compiled, given = program(config, dims)
    compile_s = time.perf_counter() - began
    times = machine.summary(machine.timed(lambda: compiled(*given), repeats), STEPS)
    rate = machine.matmul_gflops(256 if name.startswith("tiny") else 0, max(3, repeats), dtype)
    gflop = sizes.needed_gflop(config, dims, batch) * population
    seconds = times["ms_per_step"] / 1e3
    found = {
        "config": name,
        "population": population,
        "batch": batch,
        "bins": dims.bins,
        "neurons": dims.neurons,
        "dtype": dtype,
        **times,
        "trials_per_s": population * batch / seconds,
        "needed_gflop": gflop,
        "gflops": gflop / seconds,
        "matmul_gflops": rate,
        "ratio": gflop / seconds / rate,
        "compile_s": compile_s,
        **machine.memory(compiled),
        "repeats": repeats,
    }
    if plain:
        theirs = plain_step.measure(name, repeats)
        found |= {f"plain_{key}": value for key, value in theirs.items()}
        found["ratio_to_plain"] = times["ms_per_step"] / population / theirs["ms_per_step"]
    return found


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sorted(sizes.SIZES))
    parser.add_argument("--population", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help="time the plain step too; by default, for one model of the paper's in float32",
    )
    flags = parser.parse_args()
    plain = flags.plain
    if plain is None:
        plain = flags.population == 1 and flags.dtype == "float32"
        plain = plain and flags.config in sizes.PAPER
    elif plain and flags.config not in sizes.PAPER:
        parser.error(f"the plain step is of the paper's model: {', '.join(sizes.PAPER)}")
    found = measure(flags.config, flags.population, flags.repeats, flags.dtype, plain)
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
