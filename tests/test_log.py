"""Metrics to files, whole rows only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stndt_jax.runs import log


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_strict_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = log.RunLog(tmp_path, epochs=4)
    run.metrics({"epoch": 2, "loss": [0.5, float("nan")]}, "half way")
    run.metrics({"epoch": 4, "loss": [0.25, 0.5]}, "all the way")
    run.say("done [with brackets]")
    run.close()
    assert _rows(tmp_path / "metrics.jsonl") == [
        {"epoch": 2, "loss": [0.5, None]},
        {"epoch": 4, "loss": [0.25, 0.5]},
    ]
    text = (tmp_path / "log.txt").read_text()
    assert "epoch 4/4  all the way" in text
    assert "done [with brackets]" in text
    assert "done [with brackets]" in capsys.readouterr().err


def test_going_on_drops_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 2}\n{"epoch": 4}\n{"epoch": 6}\n{"epoc')
    log.RunLog(tmp_path, epochs=8, first_epoch=4, quiet=True).close()
    assert _rows(path) == [{"epoch": 2}, {"epoch": 4}]


def test_torn_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 2}\n{"epo\n[1]\n{"epoch": 3}\n')
    assert [row["epoch"] for row in log.read_metrics(path)] == [2, 3]


def test_tensorboard_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    run = log.RunLog(tmp_path, epochs=1, quiet=True)
    run.metrics({"epoch": 1, "loss": [0.5]}, "")
    run.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
