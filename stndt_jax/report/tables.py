"""Tables of a page: scores with intervals, members, settings; sortable, scrolling by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stndt_jax.report.charts import strip
from stndt_jax.report.markup import Child, Html, join, tag
from stndt_jax.runs.score_names import INTERVAL, SCORES, typeset

MINUS = "\N{MINUS SIGN}"

Scores = Mapping[str, Any]

# Scores of a table, in the order of its columns.
COLUMNS = ("co_bps", "fp_bps", "vel_r2", "tp_corr", "psth_r2", "rate_r2", "co_bps_of_oracle")


class Cell(NamedTuple):
    """A cell that sorts by a value."""

    content: Child
    value: float | None


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Child | Cell]],
    *,
    caption: str,
    sortable: bool = True,
    ours: Sequence[int] = (),
) -> Html:
    """A table whose first column names its rows, in a box that scrolls where it is too wide.

    Args:
        heads: of the columns.
        rows: a column of `Cell` is one of numbers.
        caption: what it holds.
        sortable: whether a press on a column's head sorts by it.
        ours: rows that stand out.
    """
    numbers = [
        bool(rows) and all(isinstance(row[c], Cell) for row in rows) for c in range(len(heads))
    ]

    def head(c: int) -> Html:
        inner: Child = (
            tag("button", heads[c], type="button") if sortable and len(rows) > 1 else (heads[c])
        )
        return tag("th", inner, scope="col", class_="number" if numbers[c] else None)

    def cell(c: int, content: Child | Cell) -> Html:
        if isinstance(content, Cell):
            value = content.value
            known = value is not None and math.isfinite(value)
            return tag(
                "td", content.content, class_="number", data_value=repr(value) if known else "none"
            )
        long = isinstance(content, str) and len(content) > 40
        look = "long" if long else "words"
        return tag("th", content, scope="row") if c == 0 else tag("td", content, class_=look)

    body = [
        tag(
            "tr",
            *(cell(c, content) for c, content in enumerate(row)),
            class_="ours" if r in ours else None,
        )
        for r, row in enumerate(rows)
    ]
    box = tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(head(c) for c in range(len(heads))))),
            tag("tbody", *body),
            class_="sortable" if sortable and len(rows) > 1 else None,
            aria_label=caption,
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=f"Table: {caption}",
    )
    # Above the box, not in the table: it need not scroll with it.
    return join([tag("p", caption, class_="caption"), box])


def shown_metrics(methods: Mapping[str, Scores]) -> list[str]:
    """The scores that any method has, in the order of `COLUMNS`."""
    found = methods.values()
    return [name for name in COLUMNS if any(_value(s, name) is not None for s in found)]


def scores_table(
    methods: Mapping[str, Scores], *, ours: Sequence[str], caption: str, first: str = "Method"
) -> Html:
    """Methods down, scores across; every cell a number, its interval, and both as a dot and bar."""
    columns = shown_metrics(methods)
    scales = {name: _scale(list(methods.values()), name) for name in columns}
    rows = [
        [method, *(_score(scores, name, scales[name], method in ours) for name in columns)]
        for method, scores in methods.items()
    ]
    at = [r for r, method in enumerate(methods) if method in ours]
    heads = [first, *(typeset(name) for name in columns)]
    return table(heads, rows, caption=caption, ours=at)


def meanings(names: Sequence[str]) -> Html:
    """What the scores mean, as a list."""
    items = [(tag("dt", typeset(name)), tag("dd", SCORES[name].meaning)) for name in names]
    return tag("dl", items, class_="meanings")


def decimal(value: float | None, digits: int = 3) -> str:
    """A score with three decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", MINUS)


def interval_of(scores: Scores, name: str) -> tuple[float, float] | None:
    """The interval of a score, where it has one."""
    found = scores.get(name + INTERVAL)
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        return None
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in found):
        return None
    return float(found[0]), float(found[1])


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if interval is None else f"[{decimal(interval[0])}, {decimal(interval[1])}]"


def _value(scores: Scores, name: str) -> float | None:
    found = scores.get(name)
    fine = isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if fine and found is not None else None


def _scale(methods: Sequence[Scores], name: str) -> tuple[float, float]:
    values = [v for scores in methods if (v := _value(scores, name)) is not None]
    for scores in methods:
        values += interval_of(scores, name) or ()
    return min([0.0, *values]), max(values)


def _score(scores: Scores, name: str, scale: tuple[float, float], ours: bool) -> Cell:
    value, interval = _value(scores, name), interval_of(scores, name)
    if value is None:
        return Cell("–", None)
    content = [
        tag("span", decimal(value), class_="value"),
        tag("span", interval_text(interval), class_="interval") if interval else None,
        strip(value, *scale, interval, ours=ours),
    ]
    return Cell(content, value)
