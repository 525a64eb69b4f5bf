"""The figures of a report: drawn by `plotting`, embedded in the page with their captions."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stndt_jax.interpret import ablation
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.run import Run

if TYPE_CHECKING:
    from stndt_jax.plotting.figures import SavedFigure

# Figures of the section about attention; the page draws the training curves by itself.
ATTENTION = ("attention", "lags", "importance", "agreement", "conditions", "dropping")
_OWN = ("training",)
# Pixels of the page for each pixel of a figure, which has 200 to the inch, so that the letters of
# all figures have one size; narrower figures than _NARROW are placed side by side.
SCALE, _NARROW = 0.62, 650


class RunFigures(NamedTuple):
    """What was drawn and computed of a run.

    Attributes:
        figures: figures.
        found: attention and importance; None if they were not computed.
        dropped: scores with neurons silenced; None if they were not computed.
        missing: why there are no figures, in one sentence; empty if there are.
    """

    figures: Sequence[SavedFigure] = ()
    found: Interpretation | None = None
    dropped: Mapping[str, Any] | None = None
    missing: str = ""


def draw(run: Run, say: Callable[[str], object]) -> RunFigures:
    """Draws all figures of a run into its folder ``figures``.

    Args:
        run: an evaluated run.
        say: called with a few words before every step that takes long.
    """
    try:
        from stndt_jax.plotting import run_figures
    except ModuleNotFoundError as error:
        missing = f"There are no figures: {error.name} is missing (pip install 'stndt_jax[plots]')."
        return RunFigures(missing=missing)
    say("reading the interpretation" if run.was_interpreted else "computing attention")
    found, dropped = run.interpretation, ablation.read(run.path / "interpret")
    say("drawing figures")
    drawn = run_figures.draw_all(
        run.path,
        run.path / "figures",
        data_path=run.data_path,
        targets_path=run.targets_path,
        interpretation=found,
        dropped=dropped,
    )
    return RunFigures(drawn, found, dropped)


def section(drawn: RunFigures) -> list[Child]:
    """Figures of rates and behaviour."""
    shown = [figure for figure in drawn.figures if figure.name not in (*_OWN, *ATTENTION)]
    note = tag("p", drawn.missing, class_="note") if drawn.missing else None
    return [part for part in (note, gallery(shown)) if part is not None]


def gallery(figures: Sequence[SavedFigure]) -> Html | None:
    """Figures with their titles and captions; None if there are none."""
    if not figures:
        return None
    shown = (_embedded(f.file.with_suffix(".png"), f.title, f.caption) for f in figures)
    return tag("div", *shown, class_="figures")


def _embedded(file: Path, title: str, caption: str) -> Html:
    """A PNG inside the page."""
    raw = file.read_bytes()
    data = base64.b64encode(raw).decode()
    # The first block of a PNG holds its width and height.
    width, height = (round(pixels * SCALE) for pixels in struct.unpack(">II", raw[16:24]))
    source = f"data:image/png;base64,{data}"
    text = f"{title}. {caption}"
    image = tag("img", src=source, alt=text, width=width, height=height)
    return tag(
        "figure",
        tag("h3", title),
        tag("figcaption", caption),
        tag("div", image, class_="paper"),
        class_="narrow" if width < _NARROW else None,
    )
