"""The figures of a report, and what models attend to as a table of neurons."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stndt_jax.interpret import ablation, rankings
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.report import tables
from stndt_jax.report.markup import Child, Html, join, tag
from stndt_jax.run import Run

if TYPE_CHECKING:
    from stndt_jax.plotting.figures import SavedFigure

# The page draws these by itself.
_OWN = ("training",)
# Pixels of a page to those of a figure, which has 200 to the inch; narrow ones stand in pairs.
_SCALE, _NARROW = 0.62, 650
_ATTENDED = ("attention", "lags", "importance", "agreement", "conditions", "dropping")
Say = Callable[[str], object]


class Pictures(NamedTuple):
    """What was drawn and computed of a run.

    Attributes:
        figures: drawn figures.
        found: what the models attend to; None where it was not looked at.
        dropped: scores with silenced neurons; None where none were.
        missing: why there are no figures, one sentence; empty where there are.
    """

    figures: Sequence[SavedFigure]
    found: Interpretation | None
    dropped: Mapping[str, Any] | None
    missing: str = ""


def draw(run: Run, say: Say) -> Pictures:
    """Draws all figures of a run into its folder ``figures``."""
    try:
        from stndt_jax.plotting import run_figures as figures
    except ModuleNotFoundError as error:
        why = f"There are no figures, for {error.name} is missing: pip install 'stndt_jax[plots]'."
        return Pictures([], None, None, why)
    say("looking at attention" if not run.was_interpreted else "reading what was interpreted")
    found, dropped = run.interpretation, ablation.read(run.path / "interpret")
    say("drawing")
    drawn = figures.draw_all(
        run.path,
        run.path / "figures",
        data_path=run.data_path,
        targets_path=run.targets_path,
        interpretation=found,
        dropped=dropped,
    )
    return Pictures(drawn, found, dropped)


def of_rates(pictures: Pictures) -> list[Child]:
    """Figures of rates and behaviour."""
    shown = [f for f in pictures.figures if f.name not in (*_OWN, *_ATTENDED)]
    note = tag("p", pictures.missing, class_="note") if pictures.missing else None
    return [part for part in (note, _gallery(shown)) if part is not None]


def of_attention(run: Run, pictures: Pictures) -> list[Child]:
    """Figures of attention and of dropped neurons, sentences on them, and a table of neurons."""
    if pictures.found is None:
        return []
    parts: list[Child] = [
        tag(
            "p",
            "Importance of a neuron is the attention that it receives from all neurons, mean over "
            "layers, trials and members. ",
            *_sentences(pictures.found, pictures.dropped),
        )
    ]
    if not run.was_interpreted:
        ask = tag("code", f"stndt interpret {run.path}")
        more = "adds a second opinion, by integrated gradients, and drops neurons to see whether"
        parts.append(tag("p", ask, f" {more} it matters.", class_="note"))
    parts.append(_gallery([f for f in pictures.figures if f.name in _ATTENDED]))
    parts.append(
        tag("details", tag("summary", "Every neuron as a table"), _neurons(pictures.found))
    )
    return [part for part in parts if part is not None]


def picture(file: Path, title: str, sentence: str) -> Html:
    """A PNG with its title and how to read it, inside the page."""
    raw = file.read_bytes()
    data = base64.b64encode(raw).decode()
    # A PNG's first block tells its size; a figure has the same letters on every screen then.
    width, height = (round(x * _SCALE) for x in struct.unpack(">II", raw[16:24]))
    size = {"width": width, "height": height}
    return tag(
        "figure",
        tag("h3", title),
        tag("figcaption", sentence),
        tag(
            "div",
            tag("img", src=f"data:image/png;base64,{data}", alt=f"{title}. {sentence}", **size),
            class_="paper",
        ),
        class_="narrow" if width < _NARROW else None,
    )


def _gallery(figures: Sequence[SavedFigure]) -> Html | None:
    if not figures:
        return None
    shown = (picture(f.file.with_suffix(".png"), f.title, f.caption) for f in figures)
    return tag("div", *shown, class_="figures")


def _sentences(found: Interpretation, dropped: Mapping[str, Any] | None) -> list[Child]:
    told = found.summary
    words: list[str] = []
    if "spatial" in told:
        words.append(f"{str(told['spatial']).capitalize()}.")
    if "top_share" in told:
        even = rankings.top_count(found.heldin) / found.heldin
        words.append(
            f"The top tenth of held-in neurons receives {told['top_share']:.0%} of their attention "
            f"(an even share would be {even:.0%})."
        )
    members = told.get("agreement", {}).get("members", {})
    if members.get("rankings", 0) > 1:
        words.append(
            f"Members agree on the ranking with a correlation of {_two(members['spearman'])}."
        )
    if _is_number(told.get("importance_and_rate")):
        words.append(
            f"Importance and mean rate correlate by {_two(told['importance_and_rate'])}: near 1 it "
            "would say little more than how much a neuron fires."
        )
    for name in dropped["models"] if dropped is not None else ():
        cost = ablation.separation(dropped, name) if dropped is not None else math.nan
        if math.isfinite(cost):
            words.append(
                f"Silencing the most important neurons first cost {name} {cost:.1%} of its co-bps "
                "more than silencing random ones, on average."
            )
    return [join(words, " ")]


def _neurons(found: Interpretation) -> Html:
    n, N = found.heldin, len(found.rate_hz)
    values: dict[str, Sequence[Any]] = {"mean rate (spikes/s)": found.rate_hz.tolist()}
    digits = {"mean rate (spikes/s)": 2}
    if found.importance is not None:
        ranks = rankings.ranks_by_group(found.importance, n).tolist()
        even = (found.importance * N).tolist()
        values |= {"rank": ranks, "importance (1 is even)": even}
        digits |= {"rank": 0, "importance (1 is even)": 3}
    if found.gradient_importance is not None:
        values["by gradients (nats)"] = found.gradient_importance.tolist()
        digits["by gradients (nats)"] = 4
    rows: list[list[Child | tables.Cell]] = []
    for i in range(N):
        row: list[Child | tables.Cell] = [f"neuron {i}"]
        if found.units is not None:
            row.append(tables.Cell(str(int(found.units[i])), float(found.units[i])))
        row.append("held-in" if i < n else "held-out")
        for name, column in values.items():
            known = _is_number(column[i])
            value = float(column[i]) if known else None
            row.append(tables.Cell(tables.decimal(value, digits[name]), value))
        rows.append(row)
    heads = ["Neuron", *(["unit"] if found.units is not None else []), "kind", *values]
    caption = "Neurons; rank is among the held-in or the held-out ones"
    return tables.table(heads, rows, caption=caption)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _two(value: object) -> str:
    return tables.decimal(float(value), 2) if isinstance(value, (int, float)) else "–"
