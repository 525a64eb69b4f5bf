"""Figures with their titles and captions, and writing them."""

from __future__ import annotations

from collections.abc import Iterable
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
        figure: the figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


class SavedFigure(NamedTuple):
    """A figure that was written.

    Attributes:
        name: its key: "psths", "attention", ...
        file: the PNG; an SVG of the same name is beside it.
        caption: how to read it, plain text.
        title: what it shows, a few words.
    """

    name: str
    file: Path
    caption: str
    title: str


def save(drawings: Iterable[Drawing], out: Path) -> list[SavedFigure]:
    """Writes figures as PNG and SVG, one after another.

    Raises:
        UserError: a file cannot be written.
    """
    directory.make(out)
    saved = []
    for drawing in drawings:
        file, *_ = style.save(drawing.figure, out / f"{drawing.name}.png", svg=True)
        saved.append(SavedFigure(drawing.name, file, drawing.caption, drawing.title))
    return saved
