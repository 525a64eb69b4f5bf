"""Tables of a page, which can be sorted and scroll on their own; tables of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stndt_jax.report.charts import strip
from stndt_jax.report.markup import Child, Html, join, tag
from stndt_jax.runs.score_names import INTERVAL, meaning, typeset

MINUS = "\N{MINUS SIGN}"

Scores = Mapping[str, Any]

# Scores of a table, in the order of its columns.
COLUMNS = ("co_bps", "fp_bps", "vel_r2", "tp_corr", "psth_r2", "rate_r2", "co_bps_of_oracle")


class Cell(NamedTuple):
    """A cell that is sorted by a value; None, for no value, comes last."""

    content: Child
    value: float | None


def finite(value: object) -> float | None:
    """A finite number, or None for anything else that a file may hold instead."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def number_cell(value: object, digits: int) -> Cell:
    """A number with fixed decimals, or a dash."""
    number = finite(value)
    return Cell(decimal(number, digits), number)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Child | Cell]],
    *,
    caption: str,
    sortable: bool = True,
    ours: Sequence[int] = (),
    stacks: bool = False,
) -> Html:
    """A table whose first column names its rows, in a box that scrolls if it is too wide.

    Args:
        heads: headings of the columns.
        rows: rows of cells; a column is numeric if all of its cells are `Cell`.
        caption: what it shows, drawn above the box so that it does not scroll with the table.
        sortable: whether a click on a heading sorts by its column.
        ours: indices of highlighted rows.
        stacks: whether a phone shows the cells of a row below one another, each with its heading.
    """
    sortable = sortable and len(rows) > 1
    head = []
    for c, title in enumerate(heads):
        numeric = bool(rows) and all(isinstance(row[c], Cell) for row in rows)
        content: Child = tag("button", title, type="button") if sortable else title
        head.append(tag("th", content, scope="col", class_="number" if numeric else None))
    body = []
    for r, (name, *cells) in enumerate(rows):
        first = tag("th", name, scope="row")
        look = "ours" if r in ours else None
        named = zip(cells, heads[1:] if stacks else [None] * len(cells), strict=True)
        body.append(tag("tr", first, *(_cell(cell, head) for cell, head in named), class_=look))
    content = [tag("thead", tag("tr", *head)), tag("tbody", *body)]
    looks = ["sortable"] * sortable + ["stacks"] * stacks
    box = tag(
        "div",
        tag("table", *content, class_=" ".join(looks) or None, aria_label=caption),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=f"Table: {caption}",
    )
    return join([tag("p", caption, class_="caption"), box])


def _cell(content: Child | Cell, head: str | None) -> Html:
    if isinstance(content, Cell):
        value = "none" if finite(content.value) is None else repr(content.value)
        return tag("td", content.content, class_="number", data_value=value, data_head=head)
    is_long = isinstance(content, str) and len(content) > 40
    return tag("td", content, class_="long" if is_long else "words", data_head=head)


def shown_scores(methods: Mapping[str, Scores]) -> list[str]:
    """The scores that any method has, in the order of `COLUMNS`."""
    found = methods.values()
    return [name for name in COLUMNS if any(finite(s.get(name)) is not None for s in found)]


def scores_table(
    methods: Mapping[str, Scores], *, ours: Sequence[str], caption: str, first: str = "Method"
) -> Html:
    """A row per method, a column per score: number and interval, and both as a dot and a bar.

    Args:
        methods: scores by method.
        ours: methods whose rows are highlighted.
        caption: what the table shows.
        first: heading of the methods.
    """
    columns = shown_scores(methods)
    scales = {name: _scale(list(methods.values()), name) for name in columns}
    rows = [
        [method, *(_score(scores, name, scales[name], method in ours) for name in columns)]
        for method, scores in methods.items()
    ]
    at = [r for r, method in enumerate(methods) if method in ours]
    heads = [first, *(typeset(name) for name in columns)]
    return table(heads, rows, caption=caption, ours=at, stacks=True)


def meanings(names: Sequence[str], behavior: Sequence[str] = ()) -> Html:
    """What the scores mean, as a list.

    Args:
        names: of the scores.
        behavior: names of the dimensions of behaviour; empty if they are unknown.
    """
    items = [(tag("dt", typeset(name)), tag("dd", meaning(name, behavior))) for name in names]
    return tag("dl", items, class_="meanings")


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals and a minus sign; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", MINUS)


def interval_of(scores: Scores, name: str) -> tuple[float, float] | None:
    """The interval of a score; None if it has none."""
    found = scores.get(name + INTERVAL)
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        return None
    low, high = map(finite, found)
    return None if low is None or high is None else (low, high)


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval in brackets; empty for None."""
    return "" if interval is None else f"[{decimal(interval[0])}, {decimal(interval[1])}]"


def _scale(methods: Sequence[Scores], name: str) -> tuple[float, float]:
    """The range of a score over all methods and their intervals, with 0."""
    values = [x for scores in methods if (x := finite(scores.get(name))) is not None]
    for scores in methods:
        values += interval_of(scores, name) or ()
    return min([0.0, *values]), max(values)


def _score(scores: Scores, name: str, scale: tuple[float, float], ours: bool) -> Cell:
    value, interval = finite(scores.get(name)), interval_of(scores, name)
    if value is None:
        return Cell("–", None)
    content = [
        tag("span", decimal(value), class_="value"),
        " ",
        tag("span", interval_text(interval), class_="interval") if interval else None,
        strip(value, *scale, interval, ours=ours),
    ]
    return Cell(content, value)
