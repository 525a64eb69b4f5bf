"""Attention and the importance of neurons in a report: sentences, figures, a table of neurons."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stndt_jax.interpret import ablation, rankings
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.report import tables
from stndt_jax.report.figures import ATTENTION, RunFigures, gallery
from stndt_jax.report.layout import details
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.run import Run


def section(run: Run, drawn: RunFigures) -> list[Child]:
    """Sentences on importance, figures of attention and of dropped neurons, a table of neurons."""
    found = drawn.found
    if found is None:
        return []
    importance = "the attention that it receives from all neurons"
    if found.has_factors:
        importance = "the attention that a model's factors receive, brought to it by the read-in"
    text = " ".join(
        [
            f"The importance of a neuron is {importance}, averaged over layers, trials and "
            "members.",
            *(["Held-out neurons are not read in to factors."] if found.has_factors else []),
            *_importance_sentences(found),
            *_dropping_sentences(drawn.dropped),
        ]
    )
    parts: list[Child] = [tag("p", text), *_areas(found)]
    if not run.was_interpreted:
        command = tag("code", f"stndt interpret {run.path}")
        rest = (
            " adds a second measure, integrated gradients, and drops neurons to test whether the "
            "important ones matter."
        )
        parts.append(tag("p", command, rest, class_="note"))
    parts.append(gallery([figure for figure in drawn.figures if figure.name in ATTENTION]))
    parts.append(details("All neurons as a table", _neurons(found)))
    return [part for part in parts if part is not None]


def _importance_sentences(found: Interpretation) -> list[str]:
    summary = found.summary
    sentences = []
    if "spatial" in summary:
        sentences.append(_sentence(summary["spatial"]))
    if "silent" in summary:
        sentences.append(_sentence(summary["silent"]))
    if "top_share" in summary:
        share = summary["top_share"]
        even = rankings.top_count(found.heldin) / found.heldin
        has = f"receives {share:.0%} of their attention (with uniform attention"
        if found.has_factors:
            has = f"has {share:.0%} of their importance (with uniform importance"
        sentences.append(f"The top tenth of held-in neurons {has}, it would be {even:.0%}).")
    members = summary.get("agreement", {}).get("members", {})
    if members.get("rankings", 0) > 1:
        r = tables.decimal(tables.finite(members["spearman"]), 2)
        sentences.append(f"Between members, rankings of neurons correlate with {r} on average.")
    with_rate = tables.finite(summary.get("importance_and_rate"))
    if with_rate is not None:
        sentences.append(
            f"The correlation of importance with mean rate is {tables.decimal(with_rate, 2)}; "
            "close to 1, importance would say little more than the rate."
        )
    return sentences


def _dropping_sentences(dropped: Mapping[str, Any] | None) -> list[str]:
    if dropped is None:
        return []
    return [
        _sentence(text) for name in dropped["models"] for text in ablation.sentences(dropped, name)
    ]


def _sentence(text: object) -> str:
    """Text with a capital letter and a final point, with minus signs for numbers below 0."""
    words = re.sub(r"(?<![\w.])-(?=\d)", tables.MINUS, str(text))
    return f"{words[:1].upper()}{words[1:]}."


def _areas(found: Interpretation) -> list[Child]:
    """Tables of the areas, and sentences on the attention between them."""
    rows = found.summary.get("areas", [])
    if not rows:
        return []
    measures = {"attention": "by attention", "gradients": "by gradients"}
    shown = {key: name for key, name in measures.items() if rows[0].get(key) is not None}
    heads = ["Area", "held-in", "held-out", "mean rate (spikes/s)", *shown.values()]
    body: list[list[Child | tables.Cell]] = [
        [
            str(row["area"]),
            *(tables.number_cell(row[key], 0) for key in ("heldin", "heldout")),
            tables.number_cell(row["rate_hz"], 2),
            *(tables.number_cell(row[key], 2) for key in shown),
        ]
        for row in rows
    ]
    caption = (
        "Areas: neurons, and importance of the held-in ones, relative to the mean of all held-in "
        "neurons"
    )
    parts: list[Child] = [
        tag("h3", "Areas"),
        tables.table(heads, body, caption=caption, stacks=True),
    ]
    if found.between_areas is not None:
        names = [str(row["area"]) for row in rows]
        pairs: list[list[Child | tables.Cell]] = [
            [name, *(tables.number_cell(x, 2) for x in values)]
            for name, values in zip(names, found.between_areas.tolist(), strict=True)
        ]
        caption = "Attention of areas (rows) to areas (columns), relative to uniform attention"
        heads = ["Of", *(f"to {name}" for name in names)]
        parts.append(tables.table(heads, pairs, caption=caption, stacks=True))
    said = [_sentence(text) for text in found.summary.get("between_areas", [])]
    return [*parts, tag("p", " ".join(said)) if said else None]


def _neurons(found: Interpretation) -> Html:
    """Rate and importance of every neuron."""
    n, N = found.heldin, len(found.rate_hz)
    columns: list[tuple[str, int, Sequence[float]]] = [
        ("mean rate (spikes/s)", 2, found.rate_hz.tolist())
    ]
    if found.importance is not None:
        ranks = rankings.ranks_by_group(found.importance, n).astype(float)
        if not found.importance[n:].any():
            ranks[n:] = math.nan
        columns += [
            ("rank", 0, ranks.tolist()),
            ("importance (1 is uniform)", 3, (found.importance / found.uniform).tolist()),
        ]
    if found.gradient_importance is not None:
        columns.append(("by gradients (nats)", 4, found.gradient_importance.tolist()))
    rows: list[list[Child | tables.Cell]] = []
    for i in range(N):
        unit = [] if found.units is None else [tables.number_cell(float(found.units[i]), 0)]
        kind = "held-in" if i < n else "held-out"
        numbers = [tables.number_cell(values[i], digits) for _, digits, values in columns]
        area = [] if found.areas is None else [str(found.areas[i])]
        rows.append([f"neuron {i}", *unit, *area, kind, *numbers])
    known = {"unit": found.units, "area": found.areas}
    extra = [name for name, values in known.items() if values is not None]
    heads = ["Neuron", *extra, "kind", *(name for name, _, _ in columns)]
    caption = "Neurons; ranks are among the held-in or among the held-out ones"
    return tables.table(heads, rows, caption=caption)
