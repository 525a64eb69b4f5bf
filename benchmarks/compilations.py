"""Counts what a whole run compiles: the chunk of training once, whatever the hyperparameters.

    python benchmarks/compilations.py

trains a small population on simulated reaches, every hyperparameter another one for each member,
in chunks of growing size, and reads from JAX's log (as JAX_LOG_COMPILES=1 prints it) which
programs were compiled. Prints one JSON object: by program, how often and how many seconds in all.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import machine
import numpy as np

from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.data import synthetic
from stndt_jax.training import loop

_FINISHED = re.compile(r"Finished XLA compilation of (?:jit\()?([\w<>]+)\)? in ([\d.e-]+) sec")


class _Reader(logging.Handler):
    """Notes the programs that JAX says it has compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, float]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Reads one line."""
        if match := _FINISHED.search(record.getMessage()):
            self.found.append((match[1], float(match[2])))


def compiled_by(run: Callable[[], Any]) -> dict[str, dict[str, float]]:
    """Program -> how often it was compiled while ``run`` ran, and for how long."""
    reader, logger = _Reader(), logging.getLogger("jax")
    propagates = logger.propagate
    logger.addHandler(reader)
    logger.propagate = False
    # For all threads, which jax.log_compiles() is not: training compiles in one of its own.
    jax.config.update("jax_log_compiles", True)
    try:
        run()
    finally:
        jax.config.update("jax_log_compiles", False)
        logger.removeHandler(reader)
        logger.propagate = propagates
    programs: dict[str, dict[str, float]] = {}
    for name, seconds in reader.found:
        entry = programs.setdefault(name, {"times": 0, "seconds": 0.0})
        entry["times"] += 1
        entry["seconds"] += seconds
    return programs


def varied(config: Config, population: int) -> Config:
    """A population whose members differ in every hyperparameter."""
    config = dataclasses.replace(config, population=population, members={})
    spread = 1.0 + 0.1 * np.arange(population)
    members = {}
    for name, values in configs.hyper(config)._asdict().items():
        whole = np.issubdtype(values.dtype, np.integer)
        found = values + np.arange(population) if whole else np.minimum(values, 0.5) * spread
        members[name] = tuple(found.tolist())
    plain = configs.to_mapping(config) | {"members": members}
    return configs.from_mapping(plain)


def measure(population: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Trains and counts."""
    data = synthetic.make(
        "reach", seed=0, trials=32, eval_trials=8, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False,
    )  # fmt: skip
    settings = ["--config=tiny", "--config.model.layers=1", f"--config.train.epochs={epochs}"]
    settings += ["--config.train.on_divergence=restart", "--config.train.validate_every=5"]
    config = varied(loading.load(settings), population)
    programs = compiled_by(lambda: loop.train(config, data, folder, quiet=True))
    return {
        "population": population,
        "epochs": epochs,
        "chunk_compilations": programs.get("chunk", {"times": 0})["times"],
        "programs": programs,
    }


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--population", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=50)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(flags.population, flags.epochs, Path(folder) / "run")
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
