"""Every figure of a run or an ensemble, each with one sentence on how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.interpret import ablation
from stndt_jax.interpret import summary as interpret
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.plotting import attention, style
from stndt_jax.plotting.rate_figures import Drawn, of_rates
from stndt_jax.runs import directory, log
from stndt_jax.training import restore


class Figure(NamedTuple):
    """A figure that was drawn.

    Attributes:
        name: its key, also its files' name: "psths", "attention", ...
        file: the PNG; beside it stands an SVG of the same name.
        sentence: how to read it, plain text.
        title: what it shows, a few words.
    """

    name: str
    file: Path
    sentence: str
    title: str


def draw_all(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    interpretation: Interpretation | None = None,
    dropped: dict[str, Any] | None = None,
) -> list[Figure]:
    """Draws what can be drawn of a run directory or an ensemble.

    A figure for which something is not known (behaviour, conditions, true rates) is left out.

    Args:
        path: what `restore.models` takes.
        out: folder to write to; made where it is not there.
        data_path: the recording, where it has moved.
        targets_path: the target file, where the configuration names none.
        interpretation: what `interpret.interpret` found; computed, without gradients, if None.
        dropped: what `dropping.drop` found; read from ``path/interpret`` if None, and its figure
            left out if there is none.

    Raises:
        UserError: as `restore.models`, or a file cannot be written.
    """
    models = restore.models(path, data_path, targets_path)
    if interpretation is None:
        interpretation = interpret.of_models(models, with_gradients=False)
    if dropped is None:
        dropped = ablation.read(path / "interpret")
    figures = save(of_rates(models), out)
    figures += save(of_training(path), out)
    return figures + draw_interpretation(interpretation, out, dropped)


def draw_interpretation(
    found: Interpretation, out: Path, dropped: dict[str, Any] | None = None
) -> list[Figure]:
    """Draws what the models attend to, and what dropped neurons cost where that is known."""
    return save(of_interpretation(found, dropped), out)


def save(drawn: Iterable[Drawn], out: Path) -> list[Figure]:
    """Writes figures as PNG and SVG, one after another."""
    directory.make(out)
    figures = []
    for name, title, sentence, picture in drawn:
        file, *_ = style.save(picture, out / f"{name}.png", svg=True)
        figures.append(Figure(name, file, sentence, title))
    return figures


def of_training(path: Path, references: Mapping[str, float] | None = None) -> Iterator[Drawn]:
    """Training curves of all members, where a run was trained here; scores of others as lines."""
    metrics = path / "metrics.jsonl"
    rows = log.read_metrics(metrics) if metrics.exists() else []
    if any("valid_cobps" in row or "train_masked_loss" in row for row in rows):
        yield (
            "training",
            "Training",
            "Loss (left) and co-bps on the trials that select (right) by epoch; a line is a "
            "member, the best one stands out, and its dot marks the weights that are used.",
            style.training_curves(rows, references=references),
        )


def of_interpretation(
    found: Interpretation, dropped: dict[str, Any] | None = None
) -> Iterator[Drawn]:
    """Figures of attention and importance, and of dropped neurons where they were dropped."""
    bins = found.temporal_by_layer.shape[-1]
    spatial = found.spatial_by_layer
    yield (
        "attention",
        "Attention",
        "Who attends (rows) to whom (columns), by layer, mean over trials and members"
        + (": neurons above, bins below. " if spatial is not None else ", among bins. ")
        + "A bright column is a neuron, or a time, that all others attend to; dotted lines part "
        "held-in from held-out neurons and observed from forward bins.",
        attention.attention_maps(
            None if spatial is None else np.nanmean(spatial, axis=0),
            np.nanmean(found.temporal_by_layer, axis=0),
            heldin=found.heldin,
            bins_observed=found.bins_observed,
            bin_ms=found.bin_ms,
        ),
    )
    yield (
        "lags",
        "Attention over time lags",
        "How much a bin attends to bins before it (left) and after it (right); a line is a layer, "
        "thin lines are single members. 1 is attention spread evenly over the trial; beyond the "
        "context window it is 0.",
        attention.lag_profiles(found.by_lag_and_layer, found.lags_ms, bins=bins),
    )
    summary = found.summary
    gradient = summary.get("gradients", {})
    if found.importance is not None or found.gradient_importance is not None:
        yield (
            "importance",
            "Importance of neurons",
            "Importance of every neuron (orange: held-out ones), by attention received and, where "
            "computed, by integrated gradients; grey dots are single members. If members do not "
            "agree, or the two measures do not, no single one tells which neurons matter.",
            attention.importances(
                found.importance,
                found.importance_by_member,
                found.gradient_importance,
                found.rate_hz,
                heldin=found.heldin,
                correlations={
                    "attention and rate": summary.get("importance and rate", np.nan),
                    "gradients and rate": gradient.get("and rate", np.nan),
                    "attention and gradients": gradient.get("and attention", np.nan),
                },
            ),
        )
    rows = dict(summary.get("agreement", {}))
    if gradient:
        rows["members, by gradients"] = gradient["members"]
    if any(_known(row["spearman"]) for row in rows.values()):
        yield (
            "agreement",
            "How sure importance is",
            "How far rankings of the held-in neurons agree between single trials, layers, members: "
            "1 is the same ranking, 0 chance. On the right, the share of the top tenth that two "
            "rankings have in common, and what chance gives (bars).",
            attention.agreements(rows),
        )
    if found.importance_by_condition is not None and found.conditions is not None:
        yield (
            "conditions",
            "Importance by condition",
            "Attention that the most important neurons receive in every condition: a column of one "
            "colour is a neuron that matters alike in all.",
            attention.condition_importances(found.importance_by_condition, found.conditions),
        )
    if dropped is not None:
        yield (
            "dropping",
            "Dropping neurons",
            "Scores when more and more held-in neurons fall silent. If importance is real, "
            "silencing the most important first (circles; by gradients, diamonds) costs more than "
            "random ones (squares, band: their range), and the least important first less.",
            attention.dropping_curves(dropped),
        )


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))
