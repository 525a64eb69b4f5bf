"""The scores of a run in a report: cards at the top, tables beside other methods, explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stndt_jax.data import hdf5, labels
from stndt_jax.data.labels import Behavior, listed
from stndt_jax.data.trials import SpikeData
from stndt_jax.evaluation import baselines, comparison, method_scores, scoring
from stndt_jax.report import about, published, tables
from stndt_jax.report.layout import details
from stndt_jax.report.markup import Child, Html, join, tag
from stndt_jax.run import Run
from stndt_jax.runs.score_names import INTERVAL, typeset
from stndt_jax.types import NDArray

# Names of methods that use more than a model may: the condition of a trial, the true rates.
PSTH, TRUTH = "psth (knows the condition)", "true rates"
# Scores of the cards at the top, those of them that are known.
_CARDS = ("co_bps", "fp_bps", "vel_r2", "tp_corr", "psth_r2")
# Scores of behaviour, whose cards name it.
_OF_BEHAVIOR = ("vel_r2", "tp_corr")
# Methods without a network, which a model should exceed.
_BASELINES = ("smoothing", "lds")

Methods = Mapping[str, method_scores.Scores]


def add_baselines(run: Run, say: Callable[[str], object]) -> None:
    """Scores what needs no training and has not been scored: smoothing, PSTHs, true rates."""
    if "ensemble" not in run.scores:
        return
    data, scored = run.data, method_scores.read(run.path)
    path = run.targets_path or run.config.data.targets
    targets = (
        hdf5.read_targets(path, run.config.data.name or None) if path else hdf5.targets_of(data)
    )
    has_conditions = data.train.conditions is not None and data.eval.conditions is not None
    is_simulated = data.train.rates is not None and data.eval.rates is not None
    methods: list[tuple[str, bool, Callable[[SpikeData], dict[str, NDArray]]]] = [
        ("smoothing", data.heldout > 0, baselines.smoothing),
        (PSTH, has_conditions, baselines.psth),
        (TRUTH, is_simulated, baselines.truth),
    ]
    for name, is_possible, infer in methods:
        if is_possible and name not in scored:
            say(f"scoring {name}")
            found = scoring.score(infer(data), targets, kind=scoring.kind_of(targets))
            method_scores.add(run.path, name, found)


def methods_of(run: Run) -> dict[str, method_scores.Scores]:
    """Scores by method: the run's own first, methods that use more than a model may last."""
    methods = run.methods
    last = [name for name in (PSTH, TRUTH) if name in methods]
    return {name: methods[name] for name in [*(n for n in methods if n not in last), *last]}


def cards(methods: Methods, called: Behavior | None) -> list[Child]:
    """A card for each of the run's main scores, and a sentence where a baseline is better.

    Args:
        methods: result of `methods_of`.
        called: what the behaviour of the recording is called.

    Returns:
        Parts of the page's head; none if the run was not scored.
    """
    own = _own_name(methods)
    if own is None:
        return []
    values = {name: tables.finite(methods[own].get(name)) for name in _CARDS}
    shown = [_card(methods, own, name, x, called) for name, x in values.items() if x is not None]
    worse = verdict(methods)
    return [
        tag("p", worse, class_="warn") if worse else None,
        tag("ul", *shown, class_="cards", aria_label="Main scores"),
    ]


def verdict(methods: Methods) -> str:
    """Sentences on the baselines that are better than the run, and what to change; else empty."""
    own = _own_name(methods)
    if own is None:
        return ""
    found = []
    for baseline in _BASELINES:
        better = []
        for name in _CARDS:
            mine, other = (tables.finite(methods.get(m, {}).get(name)) for m in (own, baseline))
            if mine is None or other is None:
                continue
            # The correlation with produced intervals is better the closer it is to -1.
            if (other < mine) if name == "tp_corr" else (other > mine):
                shown = f"{tables.decimal(mine)} against {tables.decimal(other)}"
                better.append(f"{typeset(name)} ({shown})")
        if better:
            found.append(f"below {baseline} in {listed(better)}")
    if not found:
        return ""
    return f"This run is {listed(found)}. What to change: {comparison.TRY}."


def section(run: Run, methods: Methods) -> list[Child]:
    """Scores beside those of other methods and published ones, and what they mean."""
    own = _own_name(methods)
    if own is None:
        text = (
            "Nothing was scored, as the held-out counts of the evaluated trials are not known "
            "here. Give a target file with --targets."
        )
        return [tag("p", text, class_="warn")]
    intro = (
        f"Scores on {len(run.data.eval)} evaluated trials. A dot shows the score on the scale of "
        "its column, which ranges from 0 (or the lowest score below 0) to the highest score."
    )
    if any(key.endswith(INTERVAL) for key in methods[own]):
        intro += " Brackets and bars are 95% bootstrap intervals over trials."
    caption = "Scores of this run and of other methods on the same trials"
    return [
        tag("p", intro),
        tables.scores_table(methods, ours=[own], caption=caption),
        tag("p", " ".join([_selection(run), *_notes(run, methods, own)]), class_="note"),
        _ndt_hint(run) if run.config.model.spatial and "ndt" not in methods else None,
        *_published(run, {own: methods[own]}),
        details("What the scores mean", tables.meanings(tables.shown_scores(methods), _names(run))),
    ]


def _names(run: Run) -> tuple[str, ...]:
    """Names of the dimensions of behaviour; empty if there is none."""
    called = labels.behavior(run.data)
    return () if called is None else called.names


def _notes(run: Run, methods: Methods, own: str) -> list[str]:
    """How smoothing is scored and drawn, and why a score is missing, in sentences."""
    found = []
    if "smoothing" in methods:
        widths = ", ".join(f"{sd:g}" for sd in baselines.SDS_MS)
        found.append(
            f"The Gaussian of the method smoothing is one of {widths} ms (standard deviation), "
            f"chosen on the training trials; smoothed spikes are drawn with "
            f"{baselines.SHOWN_SD_MS:g} ms everywhere on this page."
        )
    if "psth_r2" not in methods[own]:
        missing = scoring.missing(run.data, {})
        found += [f"{sentence.replace('R2', 'R²')}." for sentence in missing]
    return found


def _own_name(methods: Mapping[str, Any]) -> str | None:
    """The name of the run's own scores among the methods: of its ensemble, or its only member."""
    return next((name for name in ("ensemble", "this run") if name in methods), None)


def _card(methods: Methods, own: str, name: str, value: float, called: Behavior | None) -> Html:
    interval = tables.interval_of(methods[own], name)
    others = {
        method: x
        for method in (*_BASELINES, TRUTH)
        if (x := tables.finite(methods.get(method, {}).get(name))) is not None
    }
    beside = [tag("span", f"{method} {tables.decimal(x)}") for method, x in others.items()]
    small = tag("small", tables.interval_text(interval)) if interval else None
    of = ""
    if called is not None and name in _OF_BEHAVIOR:
        shown = called.names if name == "vel_r2" else called.names[-1:]
        of = f" of {', '.join(shown[:4])}{' …' if len(shown) > 4 else ''}"
    return tag(
        "li",
        tag("h2", f"{typeset(name)}{of}"),
        tag("p", tables.decimal(value), " ", small, class_="big"),
        _bar(value, list(others.values())) if value >= 0 else None,
        tag("p", join(beside, " "), class_="beside") if beside else None,
        class_="card",
    )


def _bar(value: float, marks: Sequence[float]) -> Html:
    """A bar from 0 to a score, with marks at the scores of other methods."""
    width, height = 200, 12
    highest = max([value, *marks, 1e-9]) * 1.02
    end, *at = (width * max(x, 0.0) / highest for x in (value, *marks))
    lines = [tag("line", class_="scale-mark", x1=x, x2=x, y1=0, y2=height) for x in at]
    return tag(
        "svg",
        tag("rect", class_="scale-rest", x=0, y=4, width=width, height=4, rx=2),
        tag("rect", class_="scale-fill", x=0, y=4, width=end, height=4, rx=2),
        *lines,
        viewBox=f"0 0 {width} {height}",
        aria_hidden="true",
    )


def _selection(run: Run) -> str:
    if run.data.eval.heldout is None:
        return "The evaluated trials were not used to select weights."
    return (
        "The evaluated trials also selected the best weights of every member, so these scores are "
        "slightly better than on trials that selected nothing."
    )


def _ndt_hint(run: Run) -> Html:
    flags = [f"--config={about.shipped(run)[0]}", f"--data={run.config.data.path}"]
    if run.config.data.targets:
        flags.append(f"--targets={run.config.data.targets}")
    flags += [f"--run={run.path}", f"--out={run.path}_ndt"]
    what = "factors" if run.config.model.width else "neurons"
    text = f"To add NDT, the same model without attention over {what}, run: "
    return tag("p", text, tag("code", " ".join(["stndt baseline ndt", *flags])), class_="note")


def _published(run: Run, own: Methods) -> list[Child]:
    """Published scores of the whole data set, if the run was trained on one."""
    data = run.data
    trials = len(data.train) + len(data.eval)
    found = published.scores(data.name, bin_ms=data.bin_ms, neurons=data.neurons, trials=trials)
    if not found:
        return []
    text = (
        "Published scores are on the benchmark's test split, whose held-out counts are not public. "
        f"This run was scored on {len(data.eval)} other trials, which also selected its weights: "
        "small differences mean nothing."
    )
    caption = f"Published scores on {data.name}, and those of this run"
    return [
        tag("h3", "Published scores"),
        tag("p", text),
        tables.scores_table({**own, **found}, ours=list(own), caption=caption),
    ]
