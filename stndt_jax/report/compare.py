"""Several runs side by side: scores, settings that differ, training; as a page and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import __version__
from stndt_jax.config.schema import to_mapping
from stndt_jax.console import tables as plain
from stndt_jax.errors import UserError
from stndt_jax.report import about, charts, page, tables
from stndt_jax.report.markup import Child, Html, document, tag
from stndt_jax.run import Run, load_run
from stndt_jax.runs.score_names import axis_label, label

# Where files lie is everybody's own and no difference between runs.
_PATHS = ("data.path", "data.targets")
_LOOKS = 8  # line styles of the page


def open_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """Runs by a name that tells them apart: the directory's, or as much of its path as it takes.

    Raises:
      UserError: fewer than two, one of them twice, or one is no run directory.
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
    """Settings in which runs differ: key -> a value a run."""
    flat = [_flat(to_mapping(run.config)) for run in runs.values()]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = {key: [values.get(key, "–") for values in flat] for key in keys if key not in _PATHS}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """What stands in the way of comparing, in sentences."""
    told = []
    prints: dict[str, list[str]] = {}
    for name, run in runs.items():
        prints.setdefault(str(run.record.get("data_fingerprint", "unknown")), []).append(name)
    if len(prints) > 1:
        groups = "; ".join(", ".join(names) for names in prints.values())
        told.append(
            f"These runs were trained on different data ({groups}): their scores tell as much of "
            "the data as of the models."
        )
    without = [name for name in runs if name not in scores(runs)]
    if without:
        told.append(f"Not evaluated, or without targets: {', '.join(without)}.")
    return told


def text(runs: Mapping[str, Run]) -> str:
    """Scores, differing settings and warnings as lines for a terminal."""
    found = scores(runs)
    columns = tables.shown_metrics(found)
    heads = ["run", "members", *(label(name) for name in columns)]
    rows = []
    for name, run in runs.items():
        own = found.get(name, {})
        values = [tables.decimal(_number(own.get(column)), 4) for column in columns]
        rows.append([name, str(_members(run)), *values])
    parts = [plain.table(heads, rows)]
    differing = differences(runs)
    if differing:
        listed = [[key, *values] for key, values in differing.items()]
        parts.append(plain.table(["setting", *runs], listed))
    else:
        parts.append("no setting differs")
    return "\n\n".join([*parts, *warnings(runs)])


def build(runs: Mapping[str, Run]) -> Html:
    """The page."""
    sections: list[tuple[str, str, list[Child]]] = [
        ("scores", "Scores", _scores(runs)),
        ("training", "Training", _training(runs)),
        ("settings", "Settings", _settings(runs)),
        ("runs", "Runs", _runs(runs)),
    ]
    there = [(key, title, parts) for key, title, parts in sections if parts]
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, title, _ in there]
    names = about.listed(list(runs))
    return document(
        f"{', '.join(runs)}: stndt compare",
        tag("a", "Skip to the scores", href="#scores", class_="skip"),
        tag(
            "header",
            tag(
                "div",
                tag("p", "stndt compare", class_="kicker"),
                tag("h1", f"{len(runs)} runs side by side"),
                tag("p", names, ".", class_="lead"),
                *(tag("p", sentence, class_="warn") for sentence in warnings(runs)),
                class_="wide",
            ),
        ),
        tag("nav", tag("ul", *links, class_="wide"), aria_label="Sections"),
        tag("main", *(page.section(*parts) for parts in there), class_="wide"),
        tag("footer", tag("div", f"Made by stndt_jax {__version__}.", class_="wide")),
    )


def _scores(runs: Mapping[str, Run]) -> list[Child]:
    found = scores(runs)
    if not found:
        return [tag("p", "None of these runs was scored; run stndt evaluate first.")]
    columns = tables.shown_metrics(found)
    known = [name for name in found if _number(found[name].get("co_bps")) is not None]
    best = max(known, key=lambda name: found[name]["co_bps"], default="")
    caption = "Scores of the runs; the best co-bps stands out"
    return [
        tables.scores_table(found, ours=[best], caption=caption, first="Run"),
        tag("details", tag("summary", "What the scores mean"), tables.meanings(columns)),
    ]


def _training(runs: Mapping[str, Run]) -> list[Child]:
    """Mean over members that still train, a line a run."""
    plots = []
    for key, title, y_label in (
        ("valid_masked_loss", "Validation loss of the runs over epochs", "nats per target"),
        ("valid_cobps", "Validation co-bps of the runs over epochs", axis_label("co_bps")),
    ):
        curves = []
        for i, (name, run) in enumerate(runs.items()):
            epochs, values_EK = page.curve(run, key)
            if np.isfinite(values_EK).any():
                best = values_EK[:, min(page.best_member(run), values_EK.shape[1] - 1)]
                curves.append(charts.Line(name, epochs, best, f"s{i % _LOOKS}"))
        if curves:
            plots.append(
                charts.lines(curves, label=title, x_label="epoch", y_label=y_label, robust=True)
            )
    if not plots:
        return []
    keys = [tag("span", name, class_=f"key s{i % _LOOKS}") for i, name in enumerate(runs)]
    return [
        tag(
            "p",
            "The best member of every run; loss on masked entries, and co-bps on the trials "
            "that choose the weights.",
        ),
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
    caption = f"{len(rows)} settings in which the runs differ"
    return [tables.table(["Setting", *runs], body, caption=caption, sortable=False)]


def _runs(runs: Mapping[str, Run]) -> list[Child]:
    rows: list[list[Child | tables.Cell]] = []
    for name, run in runs.items():
        sessions = run.record.get("sessions", [])
        last = sessions[-1] if sessions else {}
        sizes = run.record.get("sizes", {})
        rows.append(
            [
                name,
                about.kind(run.config),
                tables.Cell(str(_members(run)), float(_members(run))),
                str(run.config.data.name or run.scores.get("data", "–")),
                f"{sizes.get('train_trials', '–')} trials, {sizes.get('heldin', '–')} + "
                f"{sizes.get('heldout', '–')} neurons",
                about.total(sessions) or "–",
                str(last.get("how") or "–"),
                tag("code", str(run.path)),
            ]
        )
    heads = ("Run", "Model", "Members", "Data", "Sizes", "Took", "Ended", "Directory")
    return [tables.table(heads, rows, caption="What was run")]


def _members(run: Run) -> int:
    rows = run.scores.get("members")
    return len(rows) if isinstance(rows, list) and rows else run.config.population


def _number(value: object) -> float | None:
    fine = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if fine and isinstance(value, (int, float)) else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= {prefix + name: str(value)} if inner is None else inner
    return found
