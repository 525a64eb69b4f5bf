"""Sphinx settings, and the pages that are generated: commands, error messages, notebooks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from docutils import nodes  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import generate  # noqa: E402

from stndt_jax import __version__  # noqa: E402

generate.everything(HERE / "generated")

project = "stndt_jax"
author = "stndt_jax authors"
project_copyright = author
version = release = __version__
html_title = f"stndt_jax {__version__}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "Thumbs.db", ".DS_Store"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# The notebooks stand in examples/ with their outputs; building the pages runs nothing.
nb_execution_mode = "off"
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"  # shapes and types stand in the docstrings
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
copybutton_prompt_text = "$ "
highlight_language = "none"  # commands; blocks of Python say so

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navigation_depth": 1,
    "show_toc_level": 2,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
# Pages without pages below them need no list of these.
_SINGLE = ("index", "install", "quickstart", "background", "troubleshooting")
html_sidebars: dict[str, list[str]] = {page: [] for page in _SINGLE}


def _inline(writer: Any, node: nodes.math) -> None:
    """Writes an equation as MathML, which browsers draw without a script."""
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    """Writes an equation on a line of its own; it scrolls by itself where it is wide."""
    equation = latex2mathml.converter.convert(node.astext(), display="block")
    writer.body.append(f'<div class="equation" tabindex="0">{equation}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Registers how equations are written."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
