"""Writes the pages that are made from the code: commands, error messages, copied files."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from stndt_jax.cli import main

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = (
    *("quickstart", "your_own_data", "real_recording", "vmap_ensemble"),
    "change_the_attention",
)


def everything(folder: Path) -> None:
    """Writes all generated pages into a folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "cli.md").write_text(commands())
    (folder / "messages.md").write_text(messages())
    (folder / "changelog.md").write_text((ROOT / "CHANGELOG.md").read_text())
    (folder / "benchmarks.md").write_text((ROOT / "benchmarks" / "README.md").read_text())
    (folder / "api_example.md").write_text(
        "# The API as a program\n\n"
        "This is `examples/api.py` of the repository, which the tests run.\n\n"
        f"```python\n{(ROOT / 'examples' / 'api.py').read_text()}```\n"
    )
    for name in NOTEBOOKS:
        notebook = (ROOT / "examples" / f"{name}.ipynb").read_text()
        # They link to pages of docs/, into which they are copied.
        (folder / f"{name}.ipynb").write_text(notebook.replace("](../docs/", "](../"))


def commands() -> str:
    """The reference of the command line: the help of every command."""
    parts = ["# Command line", "", "```text", main.usage(), "```", ""]
    for group, members in main.GROUPS.items():
        parts += [f"## {group}", ""]
        for name in members:
            parts += [f"### stndt {name}", "", "```text", _help(name).rstrip(), "```", ""]
    return "\n".join(parts)


def _help(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main.main([command, "--help"])
    if code:
        raise RuntimeError(f"stndt {command} --help ended with {code}")
    return out.getvalue()


def messages() -> str:
    """All error messages of the package, by the package they come from."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "stndt_jax").rglob("*.py")):
        package = path.relative_to(ROOT / "stndt_jax").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "UserError" and node.args:
                sentence = "".join(_pieces(node.args[0]))
                # What is put together elsewhere has no sentence of its own here.
                if len(sentence.replace("…", "").split()) > 3:
                    found.setdefault(package, set()).add(sentence)
    parts = [
        "# All error messages",
        "",
        textwrap.fill(
            "Every message that asks something of you, as it stands in the code; … is what the "
            "message fills in. Look for a few of its words with the search of this page or of "
            "your browser.",
            100,
        ),
        "",
    ]
    for package, sentences in sorted(found.items()):
        parts += [f"## {package}", ""]
        parts += [f"- {_escaped(sentence)}" for sentence in sorted(sentences)] + [""]
    return "\n".join(parts)


def _pieces(node: ast.expr) -> Iterator[str]:
    """The text of an f-string, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _pieces(value)
    elif isinstance(node, ast.BinOp):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    else:
        yield "…"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", re.sub(r"\s+", " ", text).strip())
