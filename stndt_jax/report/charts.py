"""Small charts as inline SVG in the page's colours, light or dark.

Lines have classes that the page's style sheet colours: ``main`` for the run of this page, ``other``
for what it is compared with, ``reference`` for straight lines, ``s0`` to ``s7`` for several runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.data.trials import evenly_spaced
from stndt_jax.report.markup import Html, tag
from stndt_jax.types import NDArray

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 40
MOST_POINTS = 250  # of a line; more would not be visible
STRIP = (96, 12)


class Line(NamedTuple):
    """A curve, interrupted at values that are not finite; ``look`` is its class."""

    name: str
    x: NDArray
    y: NDArray
    look: str = "main"


class Reference(NamedTuple):
    """A value to compare with, drawn as a horizontal line."""

    name: str
    value: float


class _Axes(NamedTuple):
    """The ranges of both axes, and where values lie in the picture."""

    x_low: float
    x_high: float
    low: float
    high: float

    def across(self, x: float) -> float:
        """Horizontal position of a value."""
        return LEFT + (x - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def up(self, y: float) -> float:
        """Vertical position of a value."""
        return TOP + (self.high - y) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def lines(
    curves: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    references: Sequence[Reference] = (),
    robust: bool = False,
) -> Html:
    """Curves with a common x axis.

    Args:
        curves: at least one; drawn in this order, the last on top.
        label: what the chart shows, for screen readers.
        x_label: with its unit.
        y_label: with its unit.
        references: values, drawn dotted and labelled.
        robust: whether extreme values may lie outside, as the first ones of an untrained model do.
    """
    x = np.concatenate([curve.x for curve in curves])
    y = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    low, high = _range(y, [r.value for r in references if math.isfinite(r.value)], robust)
    x_low, x_high = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
    axes = _Axes(x_low, x_high if x_high > x_low else x_low + 1, low, high)
    paths = [
        tag("path", tag("title", curve.name), class_=f"line {curve.look}", d=_path(curve, axes))
        for curve in curves
    ]
    # Extreme values are clipped at the edges of the chart.
    clip = f"clip{_hash(label, low, high)}"
    size = {"width": WIDTH - LEFT - RIGHT, "height": HEIGHT - TOP - BOTTOM + 8}
    area = tag("clipPath", tag("rect", x=LEFT, y=TOP - 4, **size), id=clip)
    shown = [reference for reference in references if low <= reference.value <= high]
    return tag(
        "svg",
        area,
        *_grid(axes, x_label, y_label),
        *(part for reference in shown for part in _reference(reference, axes)),
        tag("g", *paths, clip_path=f"url(#{clip})"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="chart",
        role="img",
        aria_label=label,
    )


def _grid(axes: _Axes, x_label: str, y_label: str) -> list[Html]:
    """Horizontal lines, numbers at the ticks and the labels of the axes."""
    parts = []
    for value in ticks(axes.low, axes.high, 5):
        at = axes.up(value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at))
        parts.append(tag("text", number(value), x=LEFT - 7, y=at + 4, text_anchor="end"))
    for value in ticks(axes.x_low, axes.x_high, 5):
        position = {"x": axes.across(value), "y": HEIGHT - BOTTOM + 17, "text_anchor": "middle"}
        parts.append(tag("text", number(value), **position))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f"rotate(-90 12 {middle:g})"
    return [
        *parts,
        tag("text", x_label, x=(LEFT + WIDTH) / 2, y=HEIGHT - 4, text_anchor="middle"),
        tag("text", y_label, x=12, y=middle, transform=turned, text_anchor="middle"),
    ]


def _reference(reference: Reference, axes: _Axes) -> tuple[Html, Html]:
    """A dotted line and its name."""
    at = axes.up(reference.value)
    ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}
    position = {"x": WIDTH - RIGHT, "y": at - 4, "text_anchor": "end"}
    text = f"{reference.name} {reference.value:.3f}"
    return tag("line", class_="reference", **ends), tag("text", text, class_="named", **position)


def strip(
    value: float, low: float, high: float, interval: tuple[float, float] | None, *, ours: bool
) -> Html:
    """A dot, and its interval as a bar, on a scale from ``low`` to ``high``.

    Args:
        value: where the dot is.
        low: left end of the scale.
        high: right end of the scale.
        interval: ends of the bar; None for no bar.
        ours: whether it belongs to the run of this page, which has another colour.
    """
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
    """About ``about`` round numbers between two ends."""
    step = (high - low) / max(about, 1)
    scale = 10.0 ** math.floor(math.log10(step))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= step * 0.75)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number for an axis, with a minus sign."""
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def _range(y: NDArray, references: list[float], robust: bool) -> tuple[float, float]:
    """The range of an axis: all values, or with ``robust`` most of them, and all references."""
    if not y.size:
        y = np.array(references or [0.0, 1.0])
    low, high = float(y.min()), float(y.max())
    if robust and y.size > 20:
        low_quantile, median, high_quantile = map(float, np.quantile(y, (0.05, 0.5, 0.95)))
        reach = 3 * (high_quantile - low_quantile)
        low, high = max(low, median - reach), min(high, median + reach)
    low, high = min([low, *references]), max([high, *references])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _path(curve: Line, axes: _Axes) -> str:
    """The ``d`` of an SVG path through at most `MOST_POINTS` points."""
    kept = evenly_spaced(len(curve.x), MOST_POINTS)
    words, pen = [], "M"
    for x, y in zip(curve.x[kept].tolist(), curve.y[kept].tolist(), strict=True):
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        words.append(f"{pen}{axes.across(x):.1f} {axes.up(y):.1f}")
        pen = "L"
    return "".join(words)


def _hash(*parts: object) -> int:
    """A short identifier that is the same in every process, unlike Python's hash."""
    value = 7
    for character in repr(parts):
        value = (value * 31 + ord(character)) % 1_000_003
    return value
