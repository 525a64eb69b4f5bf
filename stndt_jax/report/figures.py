"""The figures of a report: drawn by `plotting`, embedded in the page with their captions.

A figure is embedded as SVG, whose colours follow the light or dark scheme, and a second time as it
is drawn for phones.
"""

from __future__ import annotations

import base64
import colorsys
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stndt_jax.errors import install
from stndt_jax.interpret import ablation
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.report.markup import Child, Html, tag
from stndt_jax.run import Run

if TYPE_CHECKING:
    from stndt_jax.plotting.figures import SavedFigure

# Figures of the section about attention; the page draws the training curves by itself.
ATTENTION = ("attention", "lags", "importance", "areas", "agreement", "conditions", "dropping")
_OWN = ("training",)
# Pixels of the page for each point of a figure, so that the letters of all figures have one size;
# narrower figures than _NARROW are placed side by side.
SCALE, _NARROW = 1.72, 650
# The page is a phone's up to this width; page.css has the same.
_PHONE = "(max-width: 40rem)"


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
        missing = f"There are no figures: {error.name} is missing; {install('plots')}"
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
        narrow=True,
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
    return tag("div", *map(_embedded, figures), class_="figures")


def _embedded(figure: SavedFigure) -> Html:
    """A figure inside the page: one SVG, and another one for phones if it was drawn."""
    wide = figure.file.with_suffix(".svg").read_text("utf-8")
    width, height = _size(wide)
    text = f"{figure.title}. {figure.caption}"
    image = tag("img", src=_address(wide), alt=text, width=width, height=height)
    if figure.narrow is not None:
        small = figure.narrow.read_text("utf-8")
        size = dict(zip(("width", "height"), _size(small), strict=True))
        image = tag("picture", tag("source", media=_PHONE, srcset=_address(small), **size), image)
    return tag(
        "figure",
        tag("h3", figure.title),
        tag("figcaption", figure.caption),
        tag("div", image, class_="paper"),
        class_="narrow" if width < _NARROW else None,
    )


def _size(svg: str) -> tuple[int, int]:
    """Width and height of a figure on the page, pixels."""
    head = svg[svg.index("<svg") :].partition(">")[0]
    points = [re.search(rf'\b{side}="([\d.]+)pt"', head) for side in ("width", "height")]
    width, height = (round(float(found[1]) * SCALE) if found else 0 for found in points)
    return width, height


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(adaptive(svg).encode()).decode()}"


def adaptive(svg: str) -> str:
    """An SVG of matplotlib whose colours follow the light or dark scheme.

    Every colour becomes a variable, which has another value in the dark scheme: of the same hue,
    but with its lightness turned, so that black ink is light and white paper is dark. Pictures
    inside the SVG keep their colours. Coordinates are rounded, which halves its size.

    Args:
        svg: as `plotting.style` writes it.
    """
    before, _, body = svg.partition("<defs>")
    colors = sorted(set(re.findall(r"(?<=[ :])#[0-9a-f]{6}(?=[;\"])", body)) | {_INK})
    body = re.sub(r"(?<=[ :])#([0-9a-f]{6})(?=[;\"])", r"var(--c\1)", body)
    body = re.sub(r"(\d\.\d{3})\d+", r"\1", body)
    light = "".join(f"--c{color[1:]}:{color};" for color in colors)
    dark = "".join(f"--c{color[1:]}:{turned(color)};" for color in colors)
    style = (
        f"<style>:root{{{light}fill:var(--c{_INK[1:]})}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    )
    return f"{before}{style}<defs>{body}"


# What matplotlib leaves out of an SVG, as it is the default.
_INK = "#000000"
# Colours that the dark scheme has instead: the page's surface for paper, and marks on pictures.
_TURNED = {"#ffffff": "#1b1f23", "#fffffe": "#fffffe"}
_LIGHTEST, _DARKEST = 0.91, 0.12


def turned(color: str) -> str:
    """A colour of the light scheme as the dark scheme has it, both as "#rrggbb"."""
    if color in _TURNED:
        return _TURNED[color]
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    # The power keeps greys and colours of middle lightness apart from the dark page.
    lightness = _LIGHTEST - (_LIGHTEST - _DARKEST) * lightness**1.4
    channels = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * x):02x}" for x in channels)
