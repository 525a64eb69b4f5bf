"""The whole workflow in a few minutes: a simulated recording, training, scores, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stndt_jax import api
from stndt_jax.config import loading
from stndt_jax.console import tables
from stndt_jax.plotting import figures, run_figures
from stndt_jax.plotting.rate_figures import of_rates
from stndt_jax.plotting.scores import score_bars
from stndt_jax.run import Run
from stndt_jax.runs import directory, records
from stndt_jax.runs.score_names import label
from stndt_jax.workflows import prepare


def demo(out: Path, *, seed: int = 0, settings: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Simulates reaches, trains a population on them, and prints and plots the scores.

    Args:
      out: directory for the recording, the run and the figures. An interrupted demo is resumed
        there; a finished one is only scored and plotted again.
      seed: of the simulation and of the models.
      settings: ``--config.KEY=VALUE`` flags that change the configuration ``reach``.

    Returns:
      The scores by method: smoothing, the best member, the ensemble, and the true rates.
    """
    directory.make(out)
    path, targets = out / f"reach_{seed}.h5", out / f"reach_{seed}_target.h5"
    prepare.simulated("reach", path, seed=seed)
    config = loading.load(
        [
            "--config=reach",
            f"--config.seed={seed}",
            *settings,
            f"--config.data.path={path}",
            f"--config.data.targets={targets}",
        ]
    )
    run = api.train(config, workdir=out / f"run_{seed}")
    found = run.evaluate()
    scores = {
        "smoothing": api.baseline(run.data, "smoothing"),
        "best member": found["best_member"],
        f"ensemble of {config.population}": found["ensemble"],
        "true rates": api.baseline(run.data, "truth"),
    }
    records.write(out / "scores.json", {"methods": scores})
    drawn = _draw(out / "figures", scores, run)
    print("\n" + _table(scores))
    reached = found["ensemble"]["co_bps_of_oracle"]
    print(f"\nThe ensemble reaches {reached:.0%} of the co-bps of the true rates, the maximum.")
    print("Figures:\n" + "\n".join(f"  {path}" for path in drawn))
    print("Next, with `source .venv/bin/activate` where make set it up: stndt inspect FILE")
    return scores


def _draw(folder: Path, scores: Mapping[str, Mapping[str, Any]], run: Run) -> list[Path]:
    """Figures of the rates and the training, and the scores of all methods."""
    bars = partial(
        score_bars,
        scores,
        metrics=("co_bps", "fp_bps", "vel_r2", "psth_r2"),
        highlight=next(name for name in scores if name.startswith("ensemble")),
    )
    others = {name: scores[name]["co_bps"] for name in ("smoothing", "true rates")}
    drawings = (
        *of_rates(run.models),
        *run_figures.of_training(run.path, others),
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
