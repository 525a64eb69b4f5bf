"""The whole road in a few minutes: data with known rates, training, scores, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stndt_jax.config import loading
from stndt_jax.console import tables
from stndt_jax.data import hdf5, synthetic
from stndt_jax.evaluation import baselines, evaluate, scoring
from stndt_jax.plotting import figures, run_figures
from stndt_jax.plotting.rate_figures import of_rates
from stndt_jax.plotting.scores import score_bars
from stndt_jax.runs import directory, recording, records
from stndt_jax.runs.score_names import label
from stndt_jax.training import loop, restore


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
    directory.make(out)
    data = synthetic.make("reach", seed=seed)
    hdf5.write(data, data_path)
    hdf5.write_targets(data, targets_path)
    config = loading.load(
        [
            "--config=reach",
            f"--config.seed={seed}",
            *settings,
            f"--config.data.path={data_path}",
            f"--config.data.targets={targets_path}",
        ]
    )
    run = out / f"run_{seed}"
    loop.train(config, recording.read(config), run)
    found = evaluate.evaluate(run)
    smoothed = baselines.smoothing(data)
    targets = hdf5.targets_of(data)
    scores = {
        "smoothing": scoring.score(smoothed, targets, kind="velocity"),
        "best member": found.scores["best_member"],
        f"ensemble of {config.population}": found.scores["ensemble"],
        "true rates": scoring.score(baselines.truth(data), targets, kind="velocity"),
    }
    records.write(out / "scores.json", {"methods": scores})
    drawn = _draw(out / "figures", scores, run)
    print("\n" + _table(scores))
    reached = found.scores["ensemble"]["co_bps_of_oracle"]
    print(
        f"\nThe ensemble reaches {reached:.0%} of the co-bps of the true rates, the best possible."
    )
    print("Figures:\n" + "\n".join(f"  {path}" for path in drawn))
    return scores


def _draw(folder: Path, scores: Mapping[str, Mapping[str, Any]], run: Path) -> list[Path]:
    """Figures of the rates and the training, and the scores of all methods."""
    bars = score_bars(
        scores,
        metrics=("co_bps", "fp_bps", "vel_r2", "psth_r2"),
        highlight=next(name for name in scores if name.startswith("ensemble")),
    )
    others = {name: scores[name]["co_bps"] for name in ("smoothing", "true rates")}
    drawings = (
        *of_rates(restore.models(run)),
        *run_figures.of_training(run, others),
        figures.Drawing("scores", "Scores", "Scores of all methods.", bars),
    )
    return [saved.file for saved in figures.save(drawings, folder)]


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Methods down, scores across."""
    columns = ("co_bps", "fp_bps", "vel_r2", "psth_r2", "rate_r2")
    rows = [
        [method, *(tables.number(found.get(name), 3) for name in columns)]
        for method, found in scores.items()
    ]
    return tables.table(["method", *map(label, columns)], rows)
