"""The parts that all pages have: a header, links to sections, the sections, a footer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stndt_jax import __version__
from stndt_jax.report.markup import Child, Html, document, join, tag


class Section(NamedTuple):
    """A section of a page; one without parts is left out.

    Attributes:
        key: identifier that links refer to.
        title: heading.
        parts: content.
    """

    key: str
    title: str
    parts: Sequence[Child]


def page(
    title: str,
    *,
    kicker: Child,
    heading: str,
    lead: Sequence[Child],
    sections: Sequence[Section],
    footer: str = "",
) -> Html:
    """A page with the section "scores" first.

    Args:
        title: of the browser's window.
        kicker: a line above the heading.
        heading: name of what the page is about.
        lead: what follows the heading.
        sections: in their order.
        footer: sentences after the version that made the page.
    """
    shown = [section for section in sections if section.parts]
    links = [tag("li", tag("a", section.title, href=f"#{section.key}")) for section in shown]
    top = tag("div", tag("p", kicker, class_="kicker"), tag("h1", heading), *lead, class_="wide")
    made = f"Made by stndt_jax {__version__}."
    return document(
        title,
        tag("a", "Skip to the scores", href="#scores", class_="skip"),
        tag("header", top),
        tag("nav", tag("ul", *links, class_="wide"), aria_label="Sections"),
        tag("main", *map(_section, shown), class_="wide"),
        tag("footer", tag("div", f"{made} {footer}".strip(), class_="wide")),
    )


def details(title: str, *children: Child) -> Html:
    """Content that is folded away until its title is clicked."""
    return tag("details", tag("summary", title), *children)


def listed(names: Sequence[Child]) -> Html:
    """Names as in a sentence: "a, b and c"."""
    if len(names) < 2:
        return join(names)
    return join([join(names[:-1], ", "), " and ", names[-1]])


def _section(section: Section) -> Html:
    heading = tag("h2", section.title, id=f"{section.key}-title")
    label = f"{section.key}-title"
    return tag("section", heading, *section.parts, id=section.key, aria_labelledby=label)
