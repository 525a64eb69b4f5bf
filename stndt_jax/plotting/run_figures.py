"""All figures of a run or an ensemble, written to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stndt_jax.interpret import ablation, summary
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.plotting import figures
from stndt_jax.plotting.figures import Drawing, SavedFigure
from stndt_jax.plotting.interpretation_figures import of_interpretation
from stndt_jax.plotting.rate_figures import of_rates
from stndt_jax.plotting.training import training_curves
from stndt_jax.runs import log
from stndt_jax.training import restore


def draw_all(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    interpretation: Interpretation | None = None,
    dropped: dict[str, Any] | None = None,
    narrow: bool = False,
) -> list[SavedFigure]:
    """Draws all figures of a run directory or an ensemble.

    A figure for which something is not known (behaviour, conditions, true rates) is left out.

    Args:
        path: argument of `restore.models`.
        out: folder to write to; it is created if it does not exist.
        data_path: the recording, if it has moved.
        targets_path: the target file, if the configuration names none.
        interpretation: result of `summary.of_models`; computed without gradients if None.
        dropped: result of `ablation.drop`; read from ``path/interpret`` if None, and its figure
            left out if it is not there.
        narrow: whether to draw every figure for phones as well.

    Raises:
        UserError: as `restore.models`, or a file cannot be written.
    """
    models = restore.models(path, data_path, targets_path)
    if interpretation is None:
        interpretation = summary.of_models(models, with_gradients=False)
    if dropped is None:
        dropped = ablation.read(path / "interpret")
    saved = figures.save(of_rates(models), out, narrow=narrow)
    saved += figures.save(of_training(path), out)
    drawn = of_interpretation(interpretation, dropped)
    return saved + figures.save(drawn, out, narrow=narrow)


def draw_interpretation(
    found: Interpretation, out: Path, dropped: dict[str, Any] | None = None
) -> list[SavedFigure]:
    """Draws attention, importance, and the scores with neurons dropped if they are known."""
    return figures.save(of_interpretation(found, dropped), out)


def of_training(path: Path, references: Mapping[str, float] | None = None) -> Iterator[Drawing]:
    """Training curves of all members, if metrics were logged; other methods' co-bps as lines."""
    metrics = path / "metrics.jsonl"
    rows = log.read_metrics(metrics) if metrics.exists() else []
    if any("valid_cobps" in row or "train_masked_loss" in row for row in rows):
        yield Drawing(
            "training",
            "Training",
            "Loss (left) and co-bps on the validation trials (right) by epoch. A line is a member "
            "of the population; the best one is orange, and its dot marks the weights that are "
            "used.",
            partial(training_curves, rows, references=references),
        )
