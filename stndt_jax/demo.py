"""The whole road in a few minutes: data with known rates, training, scores, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import baselines, configfile, evaluate, log, plots, scoring, train, workdir
from stndt_jax.data import spikes, synthetic
from stndt_jax.data.spikes import SpikeData
from stndt_jax.types import NDArray

Rates = Mapping[str, NDArray]


def demo(out: Path, *, seed: int = 0, settings: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Makes reaches, trains a population on them, and says what came of it.

    Args:
      out: folder for the data, the run and the figures. A demo that was interrupted there
        goes on where it was; a finished one is only scored and drawn again.
      seed: of the data and of the models.
      settings: ``--config.KEY=VALUE`` flags that change the configuration ``reach``.

    Returns:
      The scores by method: smoothing, the best member, the ensemble, and the true rates.
    """
    data_path, targets_path = out / f"reach_{seed}.h5", out / f"reach_{seed}_target.h5"
    workdir.make(out)
    data = synthetic.make("reach", seed=seed)
    spikes.write(data, data_path)
    spikes.write_targets(data, targets_path)
    config = configfile.load(
        [
            "--config=reach",
            f"--config.seed={seed}",
            *settings,
            f"--config.data.path={data_path}",
            f"--config.data.targets={targets_path}",
        ]
    )
    run = out / f"run_{seed}"
    train.train(config, evaluate.read_data(config), run)
    found = evaluate.evaluate(run)
    smoothed = baselines.smoothing(data)
    targets = spikes.targets_of(data)
    scores = {
        "smoothing": scoring.score(smoothed, targets, kind="velocity"),
        "best member": found.scores["best member"],
        f"ensemble of {config.population}": found.scores["ensemble"],
        "true rates": scoring.score(baselines.truth(data), targets, kind="velocity"),
    }
    workdir.write_json(out / "scores.json", scores)
    figures = _draw(out / "figures", data, found.rates, smoothed, scores, run)
    print("\n" + _table(scores))
    reached = found.scores["ensemble"]["co-bps / oracle"]
    print(
        f"\nThe ensemble reaches {reached:.0%} of the co-bps of the true rates, the best possible."
    )
    print("Figures:\n" + "\n".join(f"  {path}" for path in figures))
    return scores


def _draw(
    folder: Path,
    data: SpikeData,
    inferred: Rates,
    smoothed: Rates,
    scores: Mapping[str, Mapping[str, Any]],
    run: Path,
) -> list[Path]:
    """PSTHs, single-trial rates, decoded velocity, training curves, scores."""
    folder.mkdir(exist_ok=True)
    trials, T = data.eval, data.bins_observed
    assert trials.conditions is not None and trials.rates is not None
    assert data.train.behavior is not None and trials.behavior is not None
    assert data.psth is not None
    inferred_RTN, smoothed_RTN = scoring.joined(inferred, "eval"), scoring.joined(smoothed, "eval")
    # The held-out neurons that fire most: there single trials can be judged by eye.
    mean_N = trials.rates[..., data.heldin :].mean(axis=(0, 1))
    neurons = [int(n) for n in data.heldin + np.argsort(-mean_N)[:4]]
    shown = [int(np.flatnonzero(trials.conditions == c)[0]) for c in np.unique(trials.conditions)]
    decoded = scoring.decode(
        scoring.joined(inferred, "train")[:, :T], data.train.behavior, inferred_RTN[:, :T]
    )
    figures = {
        "single_trials": plots.single_trials(
            trials.counts(data.bins_forward, data.heldout),
            inferred_RTN,
            bin_ms=data.bin_ms,
            trials=shown[:4],
            neurons=neurons[:3],
            true_RTN=trials.rates,
            smoothed_RTN=smoothed_RTN,
            bins_observed=T,
        ),
        "psths": plots.psths(
            plots.condition_means(trials.rates[:, :T], trials.conditions, len(data.psth)),
            inferred_RTN[:, :T],
            trials.conditions,
            bin_ms=data.bin_ms,
            neurons=neurons,
            true_label="true",
        ),
        "velocity": plots.velocity(
            trials.behavior, decoded, trials.conditions, bin_ms=data.bin_ms, trials=shown[:4]
        ),
        "training": plots.training_curves(
            log.read_metrics(run / "metrics.jsonl"),
            references={name: scores[name]["co-bps"] for name in ("smoothing", "true rates")},
        ),
        "scores": plots.score_bars(
            scores,
            metrics=("co-bps", "fp-bps", "vel R2", "psth R2"),
            highlight=next(name for name in scores if name.startswith("ensemble")),
        ),
    }
    return [plots.save(fig, folder / f"{name}.png")[0] for name, fig in figures.items()]


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Methods down, scores across."""
    columns = ("co-bps", "fp-bps", "vel R2", "psth R2", "rate R2")
    lines = [" " * 16 + "".join(f"{name:>10}" for name in columns)]
    for method, found in scores.items():
        cells = (f"{found[name]:10.3f}" if name in found else f"{'-':>10}" for name in columns)
        lines.append(f"{method:16}" + "".join(cells))
    return "\n".join(lines)
