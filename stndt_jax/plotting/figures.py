"""Figures with their titles and captions, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from stndt_jax.plotting import style
from stndt_jax.runs import directory


class Drawing(NamedTuple):
    """A figure that is not written yet.

    Attributes:
        name: its key, also the name of its files: "psths", "attention", ...
        title: what it shows, a few words.
        caption: how to read it, plain text.
        draw: makes the figure; with ``narrow=True``, one as wide as a phone, whose panels are below
            one another.
    """

    name: str
    title: str
    caption: str
    draw: Callable[..., Figure]


class SavedFigure(NamedTuple):
    """A figure that was written.

    Attributes:
        name: its key: "psths", "attention", ...
        file: the PNG; an SVG of the same name is beside it.
        caption: how to read it, plain text.
        title: what it shows, a few words.
        narrow: SVG of the same figure for a phone; None if it was not drawn.
    """

    name: str
    file: Path
    caption: str
    title: str
    narrow: Path | None = None


def save(drawings: Iterable[Drawing], out: Path, *, narrow: bool = False) -> list[SavedFigure]:
    """Writes figures as PNG and SVG, one after another.

    Args:
        drawings: the figures.
        out: folder to write to.
        narrow: whether to write a second SVG for phones, in the folder ``narrow`` inside.

    Raises:
        UserError: a file cannot be written.
    """
    directory.make(out)
    if narrow:
        directory.make(out / "narrow")
    saved = []
    for drawing in drawings:
        name = drawing.name
        file, *_ = style.save(drawing.draw(), out / f"{name}.png", svg=True)
        small = None
        if narrow:
            small = style.save_svg(drawing.draw(narrow=True), out / "narrow" / f"{name}.svg")
        saved.append(SavedFigure(name, file, drawing.caption, drawing.title, small))
    return saved
