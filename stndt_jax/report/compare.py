"""Several runs side by side: scores, settings that differ, training; as a page and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.config import schema
from stndt_jax.console import tables as console_tables
from stndt_jax.errors import UserError
from stndt_jax.evaluation import method_scores
from stndt_jax.report import about, charts, layout, tables, training
from stndt_jax.report.layout import Section, details
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.run import Run, load_run
from stndt_jax.runs import ensemble_directory
from stndt_jax.runs.log import values_by_epoch
from stndt_jax.runs.score_names import axis_label, label

_LOOKS = 8  # line styles of the page


def open_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """Opens runs and names them: the directory's name, or as much of its path as is unique.

    Raises:
      UserError: fewer than two runs, one of them twice, or one is no run directory.
    """
    if len(paths) < 2:
        raise UserError("one run cannot be compared; name two or more run directories")
    runs = [load_run(path) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run directory is named twice; name each once")
    parts = [path.resolve().parts for path in paths]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return {str(Path(*part[-depth:])): run for part, run in zip(parts, runs, strict=True)}


def scores(runs: Mapping[str, Run]) -> dict[str, Mapping[str, Any]]:
    """The scores of every run that has any: of its ensemble, or its only member."""
    found = {name: run.scores.get("ensemble") for name, run in runs.items()}
    return {name: own for name, own in found.items() if isinstance(own, dict)}


def differences(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Settings that differ between runs: key -> one value per run."""
    flat = [schema.flat(run.config) for run in runs.values()]
    keys = dict.fromkeys(key for values in flat for key in values if key not in about.PATHS)
    rows = {key: [str(values.get(key, "–")) for values in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _fingerprint(run: Run) -> str:
    """The fingerprint of the recording that a run, or the runs of an ensemble, were trained on."""
    record = ensemble_directory.read(run.path) if run.is_ensemble else run.record
    return str(record.get("data_fingerprint", "unknown"))


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """Reasons why scores cannot be compared, in sentences."""
    sentences = []
    names_by_data: dict[str, list[str]] = {}
    for name, run in runs.items():
        names_by_data.setdefault(_fingerprint(run), []).append(name)
    if len(names_by_data) > 1:
        groups = "; ".join(", ".join(names) for names in names_by_data.values())
        sentences.append(
            f"These runs were trained on different data ({groups}), so their scores differ because "
            "of the data as well as of the models."
        )
    other = [name for name, run in runs.items() if method_scores.note(run.scores)]
    if other:
        sentences.append(f"Evaluated on other data than they were trained on: {', '.join(other)}.")
    without = [name for name in runs if name not in scores(runs)]
    if without:
        sentences.append(f"Not evaluated, or without targets: {', '.join(without)}.")
    return sentences


def text(runs: Mapping[str, Run]) -> str:
    """Scores, differing settings and warnings as tables and sentences for a terminal."""
    found = scores(runs)
    columns = tables.shown_scores(found)
    rows = []
    for name, run in runs.items():
        own = found.get(name, {})
        values = [tables.decimal(tables.finite(own.get(column)), 4) for column in columns]
        rows.append([name, str(_members(run)), *values])
    parts = [console_tables.table(["run", "members", *map(label, columns)], rows)]
    differing = [[key, *values] for key, values in differences(runs).items()]
    if differing:
        parts.append(console_tables.table(["setting", *runs], differing))
    else:
        parts.append("no setting differs")
    return "\n\n".join([*parts, *warnings(runs)])


def build(runs: Mapping[str, Run]) -> Html:
    """The page."""
    return layout.page(
        f"{', '.join(runs)}: stndt compare",
        kicker="stndt compare",
        heading=f"{len(runs)} runs side by side",
        lead=[
            tag("p", layout.listed(list(runs)), ".", class_="lead"),
            *(tag("p", sentence, class_="warn") for sentence in warnings(runs)),
        ],
        sections=[
            Section("scores", "Scores", _scores(runs)),
            Section("training", "Training", _training(runs)),
            Section("settings", "Settings", _settings(runs)),
            Section("runs", "Runs", _runs(runs)),
        ],
    )


def _scores(runs: Mapping[str, Run]) -> list[Child]:
    found = scores(runs)
    if not found:
        return [tag("p", "None of these runs was scored; run stndt evaluate first.")]
    cobps = {name: tables.finite(own.get("co_bps")) for name, own in found.items()}
    known = {name: x for name, x in cobps.items() if x is not None}
    best = [max(known, key=lambda name: known[name])] if known else []
    caption = "Scores of the runs; the run with the best co-bps is highlighted"
    return [
        tables.scores_table(found, ours=best, caption=caption, first="Run"),
        details("What the scores mean", tables.meanings(tables.shown_scores(found))),
    ]


def _training(runs: Mapping[str, Run]) -> list[Child]:
    """Loss and score of the best member of every run, a line per run."""
    plots = []
    for key, title, y_label in (
        ("valid_masked_loss", "Validation loss of the runs over epochs", training.LOSS_LABEL),
        ("valid_cobps", "Validation co-bps of the runs over epochs", axis_label("co_bps")),
    ):
        curves = []
        for i, (name, run) in enumerate(runs.items()):
            epochs, values_EK = values_by_epoch(run.history, key)
            if np.isfinite(values_EK).any():
                best = min(training.best_member(run), values_EK.shape[1] - 1)
                curves.append(charts.Line(name, epochs, values_EK[:, best], f"s{i % _LOOKS}"))
        if curves:
            plots.append(
                charts.lines(curves, label=title, x_label="epoch", y_label=y_label, robust=True)
            )
    if not plots:
        return []
    text = (
        "The best member of every run: loss on masked counts of the validation trials, and co-bps "
        "on the trials that select the weights."
    )
    keys = [tag("span", name, class_=f"key s{i % _LOOKS}") for i, name in enumerate(runs)]
    return [
        tag("p", text),
        tag("div", *keys, class_="keys"),
        tag("div", *(tag("figure", plot) for plot in plots), class_="two"),
    ]


def _settings(runs: Mapping[str, Run]) -> list[Child]:
    rows = differences(runs)
    if not rows:
        return [tag("p", "No setting differs.")]
    body: list[list[Child | tables.Cell]] = [
        [tag("code", key), *(tag("code", value) for value in values)]
        for key, values in rows.items()
    ]
    caption = f"{len(rows)} setting{'s' * (len(rows) > 1)} in which the runs differ"
    return [tables.table(["Setting", *runs], body, caption=caption, sortable=False)]


def _runs(runs: Mapping[str, Run]) -> list[Child]:
    """Model, data and duration of every run."""
    rows: list[list[Child | tables.Cell]] = []
    for name, run in runs.items():
        sessions = run.record.get("sessions", [])
        sizes = run.record.get("sizes", {})
        rows.append(
            [
                name,
                ", ".join(filter(None, (about.kind(run.config), about.factors(run)))),
                tables.number_cell(_members(run), 0),
                str(run.config.data.name or run.scores.get("data", "–")),
                f"{sizes.get('train_trials', '–')} trials, {sizes.get('heldin', '–')} + "
                f"{sizes.get('heldout', '–')} neurons",
                about.total(sessions) or "–",
                str((sessions[-1] if sessions else {}).get("how") or "–"),
                tag("code", str(run.path)),
            ]
        )
    heads = ("Run", "Model", "Members", "Data", "Sizes", "Duration", "End", "Directory")
    return [tables.table(heads, rows, caption="Model, data and duration of every run")]


def _members(run: Run) -> int:
    rows = run.scores.get("members")
    return len(rows) if isinstance(rows, list) and rows else run.config.population
