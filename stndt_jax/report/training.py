"""The training of a run in a report: loss and score over epochs, and a table of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stndt_jax.evaluation import method_scores
from stndt_jax.report import charts, tables
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.report.scores import TRUTH
from stndt_jax.run import Run
from stndt_jax.runs.log import values_by_epoch
from stndt_jax.runs.score_names import axis_label, typeset

LOSS_LABEL = "masked loss (nats per masked count)"


def section(run: Run, methods: Mapping[str, method_scores.Scores]) -> list[Child]:
    """Charts of the loss and the score, and a table of members; empty if nothing is known."""
    plots = training_charts(run, methods)
    members = _members(run)
    parts: list[Child] = []
    if plots:
        text = (
            "First chart: loss on masked counts, lower is better. Second chart: co-bps of held-out "
            "neurons on the trials that select the best weights, higher is better. A line is a "
            "member of the population; the best member is highlighted."
        )
        others = run.config.population > 1
        keys = [
            tag("span", "best member", class_="key main"),
            tag("span", "other members", class_="key other") if others else None,
            tag("span", "training loss", class_="key dashed"),
        ]
        parts += [
            tag("p", text),
            tag("div", *keys, class_="keys", aria_hidden="true"),
            tag("div", *(tag("figure", plot) for plot in plots), class_="two"),
        ]
    return [*parts, members] if members else parts


def training_charts(run: Run, methods: Mapping[str, method_scores.Scores]) -> list[Html]:
    """Loss and co-bps of every member over epochs; those of them that were logged."""
    references = [
        charts.Reference(name, x)
        for name in ("smoothing", TRUTH)
        if (x := tables.finite(methods.get(name, {}).get("co_bps"))) is not None
    ]
    losses = [*_curves(run, "train_masked_loss", " dashed"), *_curves(run, "valid_masked_loss")]
    cobps = _curves(run, "valid_cobps")
    found = [
        _chart("Masked loss over epochs", LOSS_LABEL, losses),
        _chart("Validation co-bps over epochs", axis_label("co_bps"), cobps, references),
    ]
    return [chart for chart in found if chart is not None]


def _chart(
    label: str,
    y_label: str,
    curves: Sequence[charts.Line],
    references: Sequence[charts.Reference] = (),
) -> Html | None:
    if not any(np.isfinite(line.y).any() for line in curves):
        return None
    return charts.lines(
        # The best member is drawn last, on top of the others.
        sorted(curves, key=lambda line: line.look.startswith("main")),
        label=label,
        x_label="epoch",
        y_label=y_label,
        references=references,
        robust=True,
    )


def best_member(run: Run) -> int:
    """The member that is best by the scores, or by the log if there are no scores."""
    found = run.scores.get("best_member", {})
    if isinstance(found, dict) and isinstance(found.get("member"), int):
        return int(found["member"])
    _, values_EK = values_by_epoch(run.history, "valid_cobps")
    if not np.isfinite(values_EK).any():
        return 0
    return int(np.argmax(np.nan_to_num(values_EK, nan=-np.inf).max(axis=0)))


def _curves(run: Run, key: str, dashes: str = "") -> list[charts.Line]:
    """A line per member."""
    best = best_member(run)
    epochs, values_EK = values_by_epoch(run.history, key)
    looks = ["main" if k == best else "other" for k in range(values_EK.shape[1])]
    return [
        charts.Line(f"member {k}", epochs, values_EK[:, k], look + dashes)
        for k, look in enumerate(looks)
    ]


def _members(run: Run) -> Html | None:
    """Scores, best epoch and varied hyperparameters of every member; None for a single one."""
    rows = [row for row in run.scores.get("members", []) if isinstance(row, dict)]
    if len(rows) < 2:
        return None
    last = run.history[-1] if run.history else {}
    epochs: list[Any] = last["best_epoch"] if isinstance(last.get("best_epoch"), list) else []
    # The members of an ensemble are of several runs, each with its own configuration.
    varied = {} if run.is_ensemble else {n: v for n, v in run.config.members.items() if v}
    names = ("validation_co_bps", "co_bps", "fp_bps", "weight")
    columns = [name for name in names if any(name in row for row in rows)]
    body: list[list[Child | tables.Cell]] = []
    for row in rows:
        k = row.get("member")
        cells = [tables.number_cell(row.get(name), 4) for name in columns]
        if epochs:
            epoch = epochs[k] if isinstance(k, int) and k < len(epochs) else None
            cells.append(tables.number_cell(epoch, 0))
        if isinstance(k, int):
            cells += [tables.Cell(f"{values[k]:g}", values[k]) for values in varied.values()]
        body.append([f"member {k}" + (f", {row['part']}" if "part" in row else ""), *cells])
    heads = ["Member", *map(typeset, columns), *(["best epoch"] if epochs else []), *varied]
    ours = [r for r, row in enumerate(rows) if row.get("member") == best_member(run)]
    return tables.table(heads, body, caption="Members of the population", ours=ours, stacks=True)
