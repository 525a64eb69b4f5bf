"""One run as one HTML file: scores, a closer look, training, figures, settings, data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import __version__, files
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.evaluation import baselines, evaluate, method_scores, scoring
from stndt_jax.report import about, charts, explorer, pictures, published, tables
from stndt_jax.report.markup import Child, Html, document, tag
from stndt_jax.run import Run, load_run
from stndt_jax.runs.score_names import INTERVAL, axis_label, typeset
from stndt_jax.types import NDArray

TRUTH, PSTH = "true rates", "psth (knows the condition)"
# Scores of the cards at the top, as many as there are.
_CARDS = ("co_bps", "fp_bps", "vel_r2", "tp_corr", "psth_r2")
Say = Callable[[str], object]


def write(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    figures: bool = True,
    say: Say = len,
) -> Path:
    """Writes the report of a run directory.

    What it needs and is not there is made first: rates and scores (as ``stndt evaluate``), scores
    of smoothing, of condition means and of the true rates (as ``stndt baseline``), figures (as
    ``stndt figures``).

    Args:
      path: the run directory.
      out: HTML file to write.
      data_path: the recording, where it has moved.
      targets_path: the target file, where the configuration names none.
      figures: whether to draw figures, which takes most of the time.
      say: told of what takes long.

    Raises:
      UserError: it is no run directory, or the file cannot be written.
    """
    run = load_run(path, data=data_path, targets=targets_path)
    if not (path / "submission.h5").exists() or not run.scores:
        say("evaluating the run")
        evaluate.evaluate(path, data_path=data_path, targets_path=targets_path)
        run = load_run(path, data=data_path, targets=targets_path)
    _score_others(run, say)
    shown = pictures.draw(run, say) if figures else pictures.Pictures([], None, None)
    files.write_text(out, build(run, shown), "choose another with --out")
    return out


def build(run: Run, shown: pictures.Pictures) -> Html:
    """The page of an evaluated run."""
    name = run.path.name or run.path.resolve().name
    methods = _ordered(run.methods)
    sections = [
        ("scores", "Scores", _scores(run, methods)),
        ("look", "Look closer", _look(run)),
        ("training", "Training", _training(run, methods)),
        ("figures", "Figures", pictures.of_rates(shown)),
        ("attention", "What it attends to", pictures.of_attention(run, shown)),
        ("run", "What was run", [*about.settings(run), *about.sessions(run)]),
        ("data", "Data", about.data(run)),
    ]
    there = [(key, title, parts) for key, title, parts in sections if parts]
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, title, _ in there]
    return document(
        f"{name}: stndt report",
        tag("a", "Skip to the scores", href="#scores", class_="skip"),
        tag(
            "header",
            tag(
                "div",
                tag("p", "stndt report of ", tag("code", str(run.path)), class_="kicker"),
                tag("h1", name),
                tag("p", _lead(run), class_="lead"),
                _cards(methods),
                class_="wide",
            ),
        ),
        tag("nav", tag("ul", *links, class_="wide"), aria_label="Sections"),
        tag("main", *(section(*parts) for parts in there), class_="wide"),
        tag("footer", tag("div", _foot(), class_="wide")),
    )


def section(key: str, title: str, parts: Sequence[Child]) -> Html:
    """A part of a page under its heading."""
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, *parts, id=key, aria_labelledby=f"{key}-title")


def _lead(run: Run) -> str:
    config, data = run.config, run.data
    members = run.scores.get("members", [])
    number = len(members) if isinstance(members, list) and members else config.population
    what = f"{number} {about.kind(config)} models" if number > 1 else f"One {about.kind(config)}"
    found = run.record.get("sessions", [])
    words = [
        f"{what} trained on {data.name}: {len(data.train)} trials of {data.neurons} neurons, "
        f"{data.heldout} of them held out."
    ]
    if found:
        last = found[-1]
        took = about.total(found)
        how = str(last.get("how") or "")
        if how == "finished" and took:
            words.append(f"Finished on {about.moment(last.get('ended'))} UTC after {took}.")
        elif how and how != "finished":
            words.append(f"The last process ended so: {how}.")
    return " ".join(words)


def _ordered(methods: Mapping[str, method_scores.Scores]) -> dict[str, method_scores.Scores]:
    """The run's own first, what knows more than any method may, last."""
    last = [name for name in (PSTH, TRUTH) if name in methods]
    return {n: methods[n] for n in [*(n for n in methods if n not in last), *last]}


def _ours(methods: Mapping[str, Any]) -> list[str]:
    return [name for name in ("ensemble", "this run") if name in methods][:1]


def _cards(methods: Mapping[str, method_scores.Scores]) -> Html | None:
    ours = _ours(methods)
    if not ours:
        return None
    own = methods[ours[0]]
    cards = []
    for name in _CARDS:
        if not isinstance(own.get(name), (int, float)):
            continue
        value, interval = float(own[name]), tables.interval_of(own, name)
        marks = {
            method: float(methods[method][name])
            for method in ("smoothing", TRUTH)
            if isinstance(methods.get(method, {}).get(name), (int, float))
        }
        beside = [tag("span", f"{m} {tables.decimal(x)}") for m, x in marks.items()]
        cards.append(
            tag(
                "li",
                tag("h2", typeset(name)),
                tag(
                    "p",
                    tables.decimal(value),
                    tag("small", tables.interval_text(interval)) if interval else None,
                    class_="big",
                ),
                _scale(value, list(marks.values())) if value >= 0 else None,
                tag("p", *beside, class_="beside") if beside else None,
                class_="card",
            )
        )
    return tag("ul", *cards, class_="cards", aria_label="Scores in brief") if cards else None


def _scale(value: float, marks: Sequence[float]) -> Html:
    """A bar from 0 to a score, with marks where others stand."""
    width, height = 200, 12
    most = max([value, *marks, 1e-9]) * 1.02
    share = [width * max(x, 0.0) / most for x in (value, *marks)]
    lines = [tag("line", class_="scale-mark", x1=x, x2=x, y1=0, y2=height) for x in share[1:]]
    return tag(
        "svg",
        tag("rect", class_="scale-rest", x=0, y=4, width=width, height=4, rx=2),
        tag("rect", class_="scale-fill", x=0, y=4, width=share[0], height=4, rx=2),
        *lines,
        viewBox=f"0 0 {width} {height}",
        aria_hidden="true",
    )


def _scores(run: Run, methods: Mapping[str, method_scores.Scores]) -> list[Child]:
    ours = _ours(methods)
    if not ours:
        return [
            tag(
                "p",
                "Nothing was scored: the held-out counts of the evaluated trials are not known "
                "here. Give a target file with --targets to score against.",
                class_="warn",
            )
        ]
    has_intervals = any(key.endswith(INTERVAL) for key in methods[ours[0]])
    intro = (
        f"Scores on {len(run.data.eval)} evaluated trials. Dots stand on their column's scale, "
        "from 0, or the lowest, to the highest score."
    )
    if has_intervals:
        intro += " Brackets and bars are 95% intervals, from drawing trials again."
    caption = "Scores of this run beside other methods, on the same trials"
    parts: list[Child] = [
        tag("p", intro),
        tables.scores_table(methods, ours=ours, caption=caption),
        tag("p", _selected(run), class_="note"),
    ]
    if "ndt" not in methods and run.config.model.spatial:
        flags = [f"--config={about.shipped(run)[0]}", f"--data={run.config.data.path}"]
        if run.config.data.targets:
            flags.append(f"--targets={run.config.data.targets}")
        flags += [f"--run={run.path}", f"--out={run.path}_ndt"]
        ask = [
            "NDT, the same model without attention over neurons, can be set beside it: ",
            tag("code", " ".join(["stndt baseline ndt", *flags])),
        ]
        parts.append(tag("p", ask, class_="note"))
    parts += _published(run, methods, ours)
    meant = tables.meanings(tables.shown_metrics(methods))
    parts.append(tag("details", tag("summary", "What the scores mean"), meant))
    return parts


def _selected(run: Run) -> str:
    if run.data.eval.heldout is None:
        return "No evaluated trial chose the weights."
    return (
        "The evaluated trials also chose the best weights of every member, so these scores are "
        "slightly better than those on trials that chose nothing."
    )


def _published(run: Run, methods: Mapping[str, Any], ours: Sequence[str]) -> list[Child]:
    data = run.data
    trials = len(data.train) + len(data.eval)
    found = published.scores(data.name, bin_ms=data.bin_ms, neurons=data.neurons, trials=trials)
    if not found:
        return []
    text = (
        "Published scores are of the benchmark's test split, whose held-out counts are not public. "
        f"This run was scored on {len(run.data.eval)} other trials, which also chose its weights: "
        "the columns show where it stands, but the last digits cannot be compared."
    )
    caption = f"Published scores on {run.data.name}, and this run's"
    both = {name: methods[name] for name in ours} | found
    return [
        tag("h3", "Published"),
        tag("p", text),
        tables.scores_table(both, ours=ours, caption=caption),
    ]


def _look(run: Run) -> list[Child]:
    return list(explorer.section(explorer.payload(run), len(run.data.eval)))


def _training(run: Run, methods: Mapping[str, method_scores.Scores]) -> list[Child]:
    parts: list[Child] = []
    plots = training_charts(run, methods)
    if plots:
        text = (
            "The first chart is the loss on masked entries, lower is better; the second is co-bps "
            "of held-out neurons on the trials that choose the best weights, higher is better. "
            "Every line is a member of the population; the best one stands out."
        )
        keys = [
            tag("span", "best member", class_="key main"),
            tag("span", "other members", class_="key other") if run.config.population > 1 else None,
            tag("span", "training loss", class_="key dashed"),
        ]
        parts += [
            tag("p", text),
            tag("div", *keys, class_="keys", aria_hidden="true"),
            tag("div", *(tag("figure", plot) for plot in plots), class_="two"),
        ]
    members = _members(run)
    return [*parts, members] if members else parts


def training_charts(run: Run, methods: Mapping[str, method_scores.Scores]) -> list[Html]:
    """Loss and co-bps of every member over epochs; nothing where nothing was logged."""
    best = best_member(run)
    plots = []
    for keys, label, y_label in (
        (("train_masked_loss", "valid_masked_loss"), "Masked loss over epochs", "nats per target"),
        (("valid_cobps",), "Validation co-bps over epochs", axis_label("co_bps")),
    ):
        curves = []
        for key in keys:
            epochs, values_EK = curve(run, key)
            for k in range(values_EK.shape[1]):
                look = "main" if k == best else "other"
                look += " dashed" if key.startswith("train") else ""
                curves.append(charts.Line(f"member {k}", epochs, values_EK[:, k], look))
        curves.sort(key=lambda line: line.look.startswith("main"))
        if not any(np.isfinite(line.y).any() for line in curves):
            continue
        references = [
            charts.Reference(name, float(methods[name]["co_bps"]))
            for name in ("smoothing", TRUTH)
            if y_label.startswith("co") and name in methods and "co_bps" in methods[name]
        ]
        plots.append(
            charts.lines(
                curves,
                label=label,
                x_label="epoch",
                y_label=y_label,
                references=references,
                robust=True,
            )
        )
    return plots


def curve(run: Run, key: str) -> tuple[NDArray, NDArray]:
    """Epochs (E,) and values (E, K) of a logged number; NaN where a member has none."""
    rows = [row for row in run.history if key in row]
    epochs = np.array([row["epoch"] for row in rows], float)
    values = [np.atleast_1d(np.array(row[key], float)) for row in rows]
    most = max((len(v) for v in values), default=0)
    padded = [np.pad(v, (0, most - len(v)), constant_values=np.nan) for v in values]
    return epochs, np.stack(padded) if padded else np.zeros((0, 0))


def best_member(run: Run) -> int:
    """The member that the scores, or else the log, call best."""
    told = run.scores.get("best_member", {})
    if isinstance(told, dict) and isinstance(told.get("member"), int):
        return int(told["member"])
    _, values_EK = curve(run, "valid_cobps")
    if not np.isfinite(values_EK).any():
        return 0
    return int(np.argmax(np.nan_to_num(values_EK, nan=-np.inf).max(axis=0)))


def _members(run: Run) -> Html | None:
    rows = [row for row in run.scores.get("members", []) if isinstance(row, dict)]
    if len(rows) < 2:
        return None
    last = run.history[-1] if run.history else {}
    told = last.get("best_epoch")
    epochs: list[Any] = told if isinstance(told, list) else []
    varying = {name: values for name, values in run.config.members.items() if values}
    if run.is_ensemble:
        varying = {}  # its members are of several runs, with configurations of their own
    known = ("validation_co_bps", "co_bps", "fp_bps", "weight")
    columns = [name for name in known if any(name in row for row in rows)]
    best = best_member(run)

    def number(value: Any, digits: int = 4) -> tables.Cell:
        fine = isinstance(value, (int, float)) and math.isfinite(value)
        return tables.Cell(tables.decimal(value, digits) if fine else "–", value if fine else None)

    body: list[list[Child | tables.Cell]] = []
    for row in rows:
        k = row.get("member")
        at = epochs[k] if isinstance(k, int) and k < len(epochs) else None
        cells = [number(row.get(name)) for name in columns]
        varied = [tables.Cell(f"{v[k]:g}", v[k]) for v in varying.values() if isinstance(k, int)]
        name = f"member {k}" + (f", {row['part']}" if "part" in row else "")
        body.append([name, *cells, *([number(at, 0)] if epochs else []), *varied])
    ours = [r for r, row in enumerate(rows) if row.get("member") == best]
    heads = ["Member", *map(typeset, columns), *(["best epoch"] if epochs else []), *varying]
    return tables.table(heads, body, caption="Members of the population", ours=ours)


def _foot() -> str:
    return (
        f"Made by stndt_jax {__version__}. The method: T. Le and E. Shlizerman, STNDT, NeurIPS "
        "2022; J. Ye and C. Pandarinath, NDT, 2021; the benchmark: F. Pei et al., NeurIPS 2021. "
        "This file holds everything it shows and connects to nothing."
    )


def _score_others(run: Run, say: Say) -> None:
    """Scores what needs no training and has not been scored: smoothing, PSTHs, true rates."""
    if "ensemble" not in run.scores:
        return
    data, there = run.data, method_scores.read(run.path)
    targets = (
        hdf5.read_targets(path, run.config.data.name or None)
        if (path := run.targets_path or run.config.data.targets)
        else hdf5.targets_of(data)
    )
    knows = data.train.conditions is not None and data.eval.conditions is not None
    simulated = data.train.rates is not None and data.eval.rates is not None
    methods: list[tuple[str, bool, Callable[[SpikeData], dict[str, NDArray]]]] = [
        ("smoothing", data.heldout > 0, baselines.smoothing),
        (PSTH, knows, baselines.psth),
        (TRUTH, simulated, baselines.truth),
    ]
    for name, possible, infer in methods:
        if not possible or name in there:
            continue
        say(f"scoring {name}")
        kind = scoring.kind_of(targets)
        method_scores.add(run.path, name, scoring.score(infer(data), targets, kind=kind))
