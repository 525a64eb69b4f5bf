"""Small charts as inline SVG, drawn in the page's own colours, light or dark.

Lines carry classes that the page's style colours: ``main`` for what this page is about, ``other``
for what stands beside it, ``reference`` for straight lines, ``s0`` to ``s7`` for runs compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.data.trials import evenly_spaced
from stndt_jax.report.markup import Html, tag
from stndt_jax.types import NDArray

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
MOST_POINTS = 250  # of a line; more cannot be seen
STRIP = (96, 12)
Scale = Callable[[float], float]


class Line(NamedTuple):
    """A curve: values that are not finite interrupt it."""

    name: str
    x: NDArray
    y: NDArray
    look: str = "main"


class Reference(NamedTuple):
    """A level to compare with."""

    name: str
    value: float


def lines(
    curves: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    references: Sequence[Reference] = (),
    robust: bool = False,
) -> Html:
    """Curves over a common axis.

    Args:
        curves: at least one; drawn in this order, the last on top.
        label: what the chart shows, for those who do not see it.
        x_label: with its unit.
        y_label: with its unit.
        references: levels, drawn dotted and named.
        robust: whether the first few values may lie outside, as those of an untrained model do.
    """
    x = np.concatenate([curve.x for curve in curves])
    y = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    levels = [r.value for r in references if math.isfinite(r.value)]
    low, high = _span(y, levels, robust)
    x_low, x_high = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
    x_high = x_high if x_high > x_low else x_low + 1

    def across(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts: list[Html] = []
    paths: list[Html] = []
    for value in ticks(low, high, 5):
        at = up(value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at))
        parts.append(tag("text", number(value), x=LEFT - 7, y=at + 4, text_anchor="end"))
    for value in ticks(x_low, x_high, 5):
        place = {"x": across(value), "y": HEIGHT - BOTTOM + 17, "text_anchor": "middle"}
        parts.append(tag("text", number(value), **place))
    for curve in curves:
        d = _path(*_thinned(curve.x, curve.y), across, up)
        paths.append(tag("path", tag("title", curve.name), class_=f"line {curve.look}", d=d))
    for reference in references:
        if not low <= reference.value <= high:
            continue
        at = up(reference.value)
        ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}
        parts.append(tag("line", class_="reference", **ends))
        where = {"x": WIDTH - RIGHT, "y": at - 4, "text_anchor": "end", "class_": "named"}
        parts.append(tag("text", f"{reference.name} {reference.value:.3f}", **where))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("text", x_label, x=(LEFT + WIDTH) / 2, y=HEIGHT - 4, text_anchor="middle"))
    turned = f"rotate(-90 12 {middle:g})"
    parts.append(tag("text", y_label, x=12, y=middle, transform=turned, text_anchor="middle"))
    clip = f"clip{_number_of(label, low, high)}"
    size = {"width": WIDTH - LEFT - RIGHT, "height": HEIGHT - TOP - BOTTOM + 8}
    area = tag("clipPath", tag("rect", x=LEFT, y=TOP - 4, **size), id=clip)
    return tag(
        "svg",
        area,
        *parts,
        tag("g", *paths, clip_path=f"url(#{clip})"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="chart",
        role="img",
        aria_label=label,
    )


def strip(
    value: float, low: float, high: float, interval: tuple[float, float] | None, *, ours: bool
) -> Html:
    """A dot, and its interval as a bar, on the common scale of a column of a table."""
    width, height = STRIP
    span = high - low if high > low else 1.0

    def across(x: float) -> float:
        return 5 + min(max((x - low) / span, 0.0), 1.0) * (width - 10)

    look = "ours" if ours else "theirs"
    middle = height / 2
    bar = None
    if interval is not None:
        ends = {"x1": across(interval[0]), "x2": across(interval[1]), "y1": middle, "y2": middle}
        bar = tag("line", class_=f"bar {look}", **ends)
    axis = tag("line", class_="grid", x1=5, x2=width - 5, y1=middle, y2=middle)
    dot = tag("circle", class_=f"dot {look}", cx=across(value), cy=middle, r=3.5)
    shape = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return tag("svg", axis, bar, dot, class_="strip", aria_hidden="true", **shape)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two ends, about so many."""
    step = (high - low) / max(about, 1)
    scale = 10.0 ** math.floor(math.log10(step))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= step * 0.75)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number as an axis or a sentence shows it, with a minus sign."""
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def _span(y: NDArray, levels: list[float], robust: bool) -> tuple[float, float]:
    if not y.size:
        y = np.array(levels or [0.0, 1.0])
    low, high = float(y.min()), float(y.max())
    if robust and y.size > 20:
        # The bulk decides; what lies far outside it would flatten the rest.
        quarter = np.quantile(y, (0.05, 0.5, 0.95))
        room = 3 * float(quarter[2] - quarter[0])
        low, high = max(low, float(quarter[1]) - room), min(high, float(quarter[1]) + room)
    low, high = min([low, *levels]), max([high, *levels])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _thinned(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    kept = evenly_spaced(len(x), MOST_POINTS)
    return x[kept], y[kept]


def _path(x: NDArray, y: NDArray, across: Scale, up: Scale) -> str:
    words, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen = "M"
            continue
        words.append(f"{pen}{across(a):.1f} {up(b):.1f}")
        pen = "L"
    return "".join(words)


def _number_of(*parts: object) -> int:
    """A short name for a part of a page, the same in every process."""
    value = 7
    for character in repr(parts):
        value = (value * 31 + ord(character)) % 1_000_003
    return value
