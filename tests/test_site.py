"""The site builds without a warning, loads nothing from elsewhere, and can be searched offline.

Its pages name commands, flags and keys that exist.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stndt_jax.cli import main
from stndt_jax.config import schema

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "generated" not in p.parts)
KINDS = ("custom", "arrays", "spikes", "mc_maze")
FLAG = re.compile(r"(?<![\w-])--(?:no)?([a-z][a-z-]*)((?:\.\w+)*)")
# Of every command, and of pip.
OTHERS = {"help", "version", "no-lock", "no-cache", "no-deps", "config"}
KEYS = {*schema.FIELDS, "seed", "population", *(f"members.{n}" for n in schema.HYPER_FIELDS)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site") / "html"
    words = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*words, str(ROOT / "docs"), str(folder)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr[-2000:]
    return folder


@pytest.mark.long
def test_every_page_is_whole_without_a_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="([^"]+)"', page.read_text())
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page
    assert "co-smoothing" in (site / "searchindex.js").read_text().lower()


@pytest.mark.long
def test_generated_pages_hold_commands_and_messages(site: Path) -> None:
    commands = (site / "generated" / "cli.html").read_text()
    assert 'id="stndt-train"' in commands
    messages = (site / "generated" / "messages.html").read_text()
    assert "wait for it, stop it, or choose another" in messages


@functools.cache
def flags_of(command: str, kind: str = "") -> set[str]:
    """The flags in the help of a command, without their ``no``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main.main([command, *([kind] if kind else []), "--help"]) == 0
    return {name for name, _ in FLAG.findall(out.getvalue())} | OTHERS


def commands_on(page: Path) -> list[list[str]]:
    """The commands in the code blocks of a page, as words after ``stndt``."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL)
    shell = "".join(text for language, text in blocks if not language)
    lines = shell.replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|\s)stndt (.*?)(?:\s#.*|&)?$", line) for line in lines)
    return [match[1].split() for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_flags_and_keys_on_pages_exist(page: Path) -> None:
    for words in commands_on(page):
        command, kind = words[0], "".join(k for k in words[1:2] if k in KINDS)
        assert command in {*main.COMMANDS, "--version"}, words
        if command in main.COMMANDS:
            used = {name for name, _ in FLAG.findall(" ".join(words))}
            assert used <= flags_of(command, kind), (words, used - flags_of(command, kind))
    every = {flag for command in main.COMMANDS for flag in flags_of(command)}
    every |= {flag for kind in KINDS for flag in flags_of("prepare", kind)}
    for code in re.findall(r"`(--[^`]+)`", page.read_text()):
        assert {name for name, _ in FLAG.findall(code)} <= every, code
    for key in re.findall(r"config\.(\w+(?:\.\w+)?)=", page.read_text()):
        assert key in KEYS, key
