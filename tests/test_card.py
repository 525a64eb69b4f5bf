"""A model card: what is in it is what the run says."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.recordings import small_reach

from stndt_jax.cli import main
from stndt_jax.run import load_run


def test_card_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_reach(tmp_path)
    run = tmp_path / "run"
    words = [
        "train",
        "--config=tiny",
        "--config.train.epochs=2",
        f"--config.data.path={tmp_path / 'reach.h5'}",
        f"--config.data.targets={tmp_path / 'reach_target.h5'}",
        f"--workdir={run}",
    ]
    assert main.main(words) == 0
    assert main.main(["card", str(run)]) == 0
    assert "None yet: `stndt evaluate run`" in (run / "card.md").read_text()
    found = load_run(run).evaluate()
    assert main.main(["card", str(run)]) == 0
    text = (run / "card.md").read_text()
    data = load_run(run).data
    assert data.fingerprint() in text
    assert f"| training trials | {len(data.train)} |" in text
    assert f"| {found['ensemble']['co_bps']:.3f} |" in text
    assert "| smoothing |" in text and "The same trials selected" in text
    assert text.count("(fill in)") == 3
    # It replaces itself, and nothing else.
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert main.main(["card", str(run), f"--out={other}"]) == 2
    assert "not a Markdown file" in capsys.readouterr().err
    assert other.read_text() == "mine"
