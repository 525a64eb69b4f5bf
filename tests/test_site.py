"""The site builds without a warning, loads nothing from elsewhere, and can be searched offline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
