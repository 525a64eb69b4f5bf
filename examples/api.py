"""The Python interface from end to end, on simulated spikes.

Run it from anywhere: ``python examples/api.py``. It takes about a minute on one core, and writes
into a temporary directory that it removes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import stndt_jax as stndt


def simulate(trials: int = 64, bins: int = 20, neurons: int = 16) -> np.ndarray:
    """Spike counts (trials, bins, neurons) of neurons that follow a common oscillation."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (trials, 1, 1)) + np.arange(bins)[:, None] / 2
    return rng.poisson(np.exp(1.5 * np.cos(phase + 2 * np.pi * np.arange(neurons) / neurons) - 1))


def main(folder: Path) -> None:
    """Trains, scores, infers, averages two runs; then the same as pure functions."""
    counts = simulate()
    data = stndt.SpikeData.from_arrays(counts, bin_ms=5)
    config = stndt.get_config("mc_maze_large")
    config.model.layers = 1
    config.train.epochs, config.train.validate_every = 150, 10
    config.optimizer.warmup_epochs = 10.0

    run = stndt.train(config, data, workdir=folder / "one")
    scores = run.evaluate()
    rates = run.predict(data.eval.heldin)  # (trials, bins, neurons), expected counts per bin
    print("co-bps:", round(scores["ensemble"]["co_bps"], 3), " rates:", rates.shape)

    config.seed = 1
    stndt.train(config, data, workdir=folder / "two", quiet=True)
    best = stndt.build_ensemble([folder / "one", folder / "two"], out=folder / "best", quiet=True)
    print("co-bps of the ensemble:", round(best.evaluate()["ensemble"]["co_bps"], 3))

    # The model alone, as plain Flax.
    model = stndt.STNDT.from_config(config, data.dims)
    x = jnp.zeros((1, data.bins, data.neurons))
    variables = model.init(jax.random.key(0), x)
    log_rates, _ = model.apply(variables, x)
    print("log-rates of a new model:", log_rates.shape)

    # Training as a pure function: a population by a transformation of your own.
    fit = stndt.make_train(config, data)
    states = jax.vmap(fit)(stndt.hypers(config, population=2))
    print("validation co-bps of two members:", states.metrics["best_cobps"][:, -1])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
