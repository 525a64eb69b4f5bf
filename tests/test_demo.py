"""The demo's whole road, shortened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stndt_jax.cli import main


@pytest.mark.long
def test_the_demo_scores_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "demo",
        f"--out={tmp_path}",
        "--config.population=2",
        "--config.model.layers=1",
        "--config.train.epochs=2",
        "--config.train.validate_every=1",
        "--config.parallel.devices=1",
    ]
    assert main.main(argv) == 0
    printed = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())["methods"]
    assert set(scores) == {"smoothing", "best member", "ensemble of 2", "true rates"}
    assert scores["true rates"]["co_bps_of_oracle"] == pytest.approx(1)
    assert scores["smoothing"]["co_bps"] < scores["true rates"]["co_bps"]
    figures = sorted(path.name for path in (tmp_path / "figures").glob("*.png"))
    wanted = {"single_trials", "psths", "behavior", "training", "scores", "calibration"}
    assert {f"{name}.png" for name in wanted} <= set(figures)
    assert all(name in printed for name in figures)
