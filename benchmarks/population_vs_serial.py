"""Times trials trained together, as one population, against one after another.

    python benchmarks/population_vs_serial.py --members=8

The same small models on simulated reaches, with the same settings, one learning rate each; both
ways in one process, with the program that training runs. Prints one JSON object: seconds of
compiling and of training, apart, and of both together. One after another, a program is compiled
once for all, as `stndt search` does with its folder of compiled programs; `compile_each_s` is what
every further start would take without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sizes import setting

from stndt_jax.config import schema as configs
from stndt_jax.data import synthetic
from stndt_jax.data.trials import SpikeData
from stndt_jax.parallel import lifts
from stndt_jax.training import batches, population, step


class Timed:
    """The compiled program of a population of some size, and what compiling took."""

    def __init__(self, config: configs.Config, data: SpikeData) -> None:
        dims = data.dims
        train, valid, _ = batches.split(config, data)
        self.sets = (train, valid)
        R = train.counts.shape[0]
        batch = batches.batch_size(config, R)
        arch = step.arch(config, dims, R // batch)
        # The same devices for both ways: the first.
        self.per_epoch, self.epochs = arch.steps_per_epoch, config.train.epochs
        self.every = config.train.validate_every
        self.init = population.make_init(arch)
        hyper = _hyper(config)
        members = jax.block_until_ready(self.init(hyper))
        scalars = (jnp.int32(0), jnp.int32(0), jnp.bool_(False))
        began = time.perf_counter()
        chunk = population.make_chunk(config, arch, batch, valid is not None)
        self.chunk = chunk.lower(members, hyper, *self.sets, *scalars).compile()
        self.compile_s = time.perf_counter() - began

    def train(self, config: configs.Config) -> tuple[float, np.ndarray]:
        """Seconds of a whole training, and the last validation co-bps of the members."""
        hyper = _hyper(config)
        members = jax.block_until_ready(self.init(hyper))
        began = time.perf_counter()
        for epoch in range(0, self.epochs, self.every):
            first, steps = epoch * self.per_epoch, self.every * self.per_epoch
            members, metrics = self.chunk(
                members, hyper, *self.sets, jnp.int32(first), jnp.int32(steps), jnp.bool_(True)
            )
        jax.block_until_ready(metrics)
        return time.perf_counter() - began, np.asarray(metrics["valid_cobps"])


def _hyper(config: configs.Config) -> Any:
    return jax.tree.map(jnp.asarray, configs.hyper(config))


def measure(
    members: int, epochs: int, repeats: int, trials: int, name: str = "reach"
) -> dict[str, Any]:
    """Times both ways; the order alternates, the fastest of each counts."""
    config, dims = setting(name, members, "float32")
    every = max(1, epochs // 4)
    epochs -= epochs % every
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, epochs=epochs, validate_every=every),
        members={
            "learning_rate": tuple(np.geomspace(1e-3, 1e-2, members).tolist()),
            "seed": tuple(range(members)),
        },
    )
    data = synthetic.make(
        "reach", seed=0, trials=trials, eval_trials=trials // 4, bins=dims.bins_observed,
        bins_forward=dims.bins_forward, heldin=dims.heldin, heldout=dims.heldout,
    )  # fmt: skip
    alone = [
        dataclasses.replace(
            config, population=1, members={n: (v[k],) for n, v in config.members.items()}
        )
        for k in range(members)
    ]
    together, one = Timed(config, data), Timed(alone[0], data)
    found: dict[str, list[float]] = {"together": [], "serial": []}
    apart = 0.0
    for _ in range(repeats):
        seconds, scores_K = together.train(config)
        found["together"].append(seconds)
        runs = [one.train(each) for each in alone]
        found["serial"].append(sum(seconds for seconds, _ in runs))
        apart = max(apart, float(np.abs(scores_K - [scores[0] for _, scores in runs]).max()))
    population_s, serial_s = min(found["together"]), min(found["serial"])
    return {
        "members": members,
        "epochs": epochs,
        "steps_each": epochs * one.per_epoch,
        "trials": trials,
        "population_train_s": population_s,
        "serial_train_s": serial_s,
        "population_compile_s": together.compile_s,
        "compile_each_s": one.compile_s,
        "train_ratio": serial_s / population_s,
        "ratio_compiled_once": (serial_s + one.compile_s) / (population_s + together.compile_s),
        "ratio_compiled_each": (serial_s + members * one.compile_s)
        / (population_s + together.compile_s),
        "largest_difference_of_cobps": apart,
        "repeats": repeats,
        "device": jax.devices()[0].device_kind,
        "devices_used": 1,
        "machine": platform.machine(),
        "jax": jax.__version__,
        "together": "vmap" if jax.default_backend() != "cpu" else "one member after another",
        "compiler_options": lifts.compiler_options(),
    }


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--trials", type=int, default=100)
    flags = parser.parse_args()
    found = measure(flags.members, flags.epochs, flags.repeats, flags.trials)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
