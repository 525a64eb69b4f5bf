"""Neurons whose importance is known: some carry the population's latents, the others are noise.

    python tests/helpers/planted.py [--epochs=80] [--members=3] [--seed=0] [--constant]

simulates a recording, trains a population of small models on it, and prints how well the carriers
are found (the probability that a carrier is ranked above a noise neuron, AUC) by attention, by each
layer's, and by integrated gradients; then the scores with neurons silenced in either order.

Noise neurons fire at the same rates and vary as much and as slowly as the carriers, each on its
own; with --constant, their rates are constant. Held-out neurons read the latents, so that only
carriers tell of them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from stndt_jax.config import loading
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.interpret import ablation, files, summary
from stndt_jax.plotting import run_figures
from stndt_jax.runs import recording
from stndt_jax.training import loop, restore
from stndt_jax.types import NDArray


def record(
    seed: int = 0,
    *,
    trials: int = 256,
    eval_trials: int = 64,
    bins: int = 30,
    carriers: int = 8,
    noise: int = 16,
    heldout: int = 8,
    latents: int = 2,
    mean_count: float = 0.5,
    modulation: float = 1.0,
    constant: bool = False,
) -> tuple[SpikeData, NDArray]:
    """A recording, and which of its held-in neurons are carriers."""
    rng = np.random.default_rng(seed)
    R, heldin = trials + eval_trials, carriers + noise

    def slow(number: int) -> NDArray:
        """Independent Gaussian processes of zero mean and unit variance."""
        x = gaussian_filter1d(rng.normal(size=(R, bins + 24, number)), 3.0, axis=1)[:, 12:-12]
        return (x - x.mean()) / x.std()

    z_RTD = slow(latents)
    weights_DN = rng.normal(size=(latents, carriers + heldout))
    read_RTN = z_RTD @ (weights_DN / np.linalg.norm(weights_DN, axis=0))
    carries_N = np.zeros(heldin, bool)
    carries_N[rng.permutation(heldin)[:carriers]] = True
    drive_RTN = np.empty((R, bins, heldin + heldout))
    drive_RTN[..., :heldin][..., carries_N] = read_RTN[..., :carriers]
    drive_RTN[..., :heldin][..., ~carries_N] = slow(noise) * (not constant)
    drive_RTN[..., heldin:] = read_RTN[..., carriers:]
    rates_RTN = np.exp(modulation * drive_RTN)
    share_N = rng.uniform(0.6, 1.4, heldin + heldout)
    rates_RTN = (mean_count * share_N * rates_RTN / rates_RTN.mean(axis=(0, 1))).astype(np.float32)
    counts_RTN = np.minimum(rng.poisson(rates_RTN), 255).astype(np.uint8)

    def split(rows: slice) -> Trials:
        return Trials(
            heldin=counts_RTN[rows, :, :heldin],
            heldout=counts_RTN[rows, :, heldin:],
            heldin_forward=None,
            heldout_forward=None,
            behavior=z_RTD[rows].astype(np.float32),
            conditions=None,
            rates=rates_RTN[rows],
            recorded=None,
        )

    data = SpikeData(split(slice(trials)), split(slice(trials, None)), "planted", 20.0, None)
    return data, carries_N


def auc(importance_N: NDArray, carries_N: NDArray) -> float:
    """Probability that a carrier is above a noise neuron; ties count half."""
    above = importance_N[carries_N][:, None] - importance_N[~carries_N][None]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def trained(folder: Path, data: SpikeData, *settings: str) -> Path:
    """A run directory of small models trained on the recording."""
    hdf5.write(data, folder / "planted.h5")
    hdf5.write_targets(data, folder / "planted_target.h5")
    config = loading.load(
        [
            "--config=tiny",
            f"--config.data.path={folder / 'planted.h5'}",
            f"--config.data.targets={folder / 'planted_target.h5'}",
            "--config.contrast.enabled=False",
            *settings,
        ]
    )
    run = folder / "run"
    loop.train(config, recording.read(config), run)
    return run


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=80)
    options.add_argument("--members", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--constant", action="store_true")
    options.add_argument("--out", default="")
    given = options.parse_args()
    data, carries_N = record(given.seed, constant=given.constant)
    folder = Path(given.out or tempfile.mkdtemp())
    folder.mkdir(exist_ok=True, parents=True)
    run = trained(
        folder,
        data,
        f"--config.population={given.members}",
        f"--config.train.epochs={given.epochs}",
        f"--config.seed={given.seed}",
        f"--config.model.layers={given.layers}",
        "--config.train.validate_every=5",
        "--config.model.feedforward=64",
        "--config.model.dropout=0.1",
        "--config.model.dropout_rates=0.2",
        "--config.model.dropout_embedding=0.1",
        "--config.optimizer.learning_rate=5e-3",
        "--config.optimizer.warmup_epochs=5.0",
    )
    models = restore.models(run)
    found = summary.of_models(models)
    files.write(found, run / "interpret")
    print(files.text(found))
    n = found.heldin
    assert found.importance is not None and found.gradient_importance is not None
    assert found.importance_by_layer is not None and found.gradient_by_member is not None
    assert found.importance_by_member is not None
    print(f"\n{carries_N.sum()} carriers among {n} held-in neurons; AUC")
    print(f"  mean rate                {auc(found.rate_hz[:n], carries_N):.3f}")
    rows = {"attention": found.importance_by_member, "gradients": found.gradient_by_member}
    rows |= {
        f"attention, layer {layer + 1}": found.importance_by_layer[:, layer]
        for layer in range(given.layers)
    }
    for name, by_member in rows.items():
        each = ", ".join(f"{auc(row[:n], carries_N):.3f}" for row in by_member)
        print(f"  {name:24} {auc(by_member.mean(axis=0)[:n], carries_N):.3f}   (members {each})")
    dropped = ablation.drop(
        models, found.importance[:n], gradient_importance=found.gradient_importance[:n]
    )
    print(ablation.text(dropped))
    ablation.write(dropped, run / "interpret")
    run_figures.draw_interpretation(found, run / "interpret", dropped)


if __name__ == "__main__":
    main()
