"""HTML and SVG, with everything escaped.

`tag` escapes all children and attributes that are not `Html`. Only this file makes `Html` from
text that comes from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from importlib import resources
from typing import Any

# Elements without content, which have no end tag.
VOID = {"meta", "br", "img", "input", "link", "hr"}
# Characters that HTML or UTF-8 cannot represent; names of files may contain them.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


Child = str | int | float | None | Iterable[Any]


def text(value: object) -> Html:
    """Any value as escaped text."""
    shown = _NO_TEXT.sub(lambda found: ascii(found[0])[1:-1], str(value))
    return Html(html.escape(shown, quote=True))


def tag(name: str, /, *children: Child, **attributes: Any) -> Html:
    """An element; `class_` stands for class, `aria_label` for aria-label.

    Attributes that are None or False are left out; True has no value. Floats, which are
    coordinates, are rounded to two decimals.
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if isinstance(value, float):
            value = f"{value:.2f}".rstrip("0").rstrip(".")
        words.append(key if value is True else f'{key}="{text(value)}"')
    start = f"<{' '.join(words)}>"
    return Html(start) if name in VOID else Html(f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Html:
    """Children one after another; None is left out."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(str(child))
        elif isinstance(child, Iterable) and not isinstance(child, str):
            parts.append(join(child))
        else:
            parts.append(text(child))
    return Html(text(between).join(parts))


def data_script(name: str, value: object) -> Html:
    """A value that the page's script reads, as JSON that cannot end its element."""
    packed = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        packed = packed.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{text(name)}">{packed}</script>')


def document(title: str, *body: Child) -> Html:
    """A whole page, including its style sheet and script.

    Its content security policy forbids all connections, and all scripts and styles but these two.
    """
    here = resources.files(__package__)
    style, script = ((here / name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )
    page = tag("html", head, tag("body", *body, Html(f"<script>{script}</script>")), lang="en")
    return Html(f"<!doctype html>\n{page}\n")


def _digest(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"
