"""A model card: what is in it is what the run says."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from helpers.recordings import small_reach

from stndt_jax.cli import main
from stndt_jax.run import load_run


@pytest.mark.long
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
    assert "None yet: `stndt evaluate`" in (run / "card.md").read_text()
    found = load_run(run).evaluate()
    assert main.main(["card", str(run)]) == 0
    text = (run / "card.md").read_text()
    data = load_run(run).data
    assert data.fingerprint() in text
    assert f"| training trials | {len(data.train)} |" in text
    assert f"| {found['ensemble']['co_bps']:.3f} |" in text
    assert "| smoothing |" in text and "The same trials selected" in text
    assert text.count("(fill in)") == 3
    assert f'load_run("{run}")' in text
    # Scores against the targets of another recording are not shown as the run's own.
    (tmp_path / "other").mkdir()
    foreign = small_reach(tmp_path / "other", seed=2) / "reach_target.h5"
    (run / "scores.json").unlink()  # which would not be replaced
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        capsys.readouterr()
        assert main.main(["evaluate", str(run), f"--targets={foreign}"]) == 0
    out, err = capsys.readouterr()
    assert "belong to another recording" in err and "scores on other data" in out.splitlines()[0]
    assert load_run(run).scores["data_differs"] is True
    assert main.main(["card", str(run)]) == 0
    capsys.readouterr()
    assert "**Not on the data above" in (run / "card.md").read_text()
    # What was filled in is kept.
    filled = (run / "card.md").read_text().replace("(fill in): of the weights", "MIT", 1)
    (run / "card.md").write_text(filled)
    assert main.main(["card", str(run)]) == 2
    assert "are filled in" in capsys.readouterr().err
    assert (run / "card.md").read_text() == filled
    # It replaces itself, and nothing else.
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert main.main(["card", str(run), f"--out={other}"]) == 2
    assert "not a model card" in capsys.readouterr().err
    assert other.read_text() == "mine"
