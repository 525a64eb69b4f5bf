"""A reproduction: stages done once however often it dies, and a report that claims no more."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stndt_jax.cli import main
from stndt_jax.errors import UserError
from stndt_jax.evaluation import leaderboard
from stndt_jax.report import reproduction
from stndt_jax.workflows import reproduce
from stndt_jax.workflows.reproduce import Task

STAGES = ("_prepare", "_search", "_ensemble", "_score", "_retrain", "_submit")
SCORES = {"co_bps": 0.25, "vel_r2": 0.75, "psth_r2": 0.5, "fp_bps": 0.125}
DONE: dict[str, dict[str, Any]] = {
    "prepare": {
        "test_phase": True,
        "why": "",
        "train_trials": 16,
        "validation_trials": 8,
        "bins": [140, 40],
        "neurons": [137, 45],
    },
    "search": {},
    "ensemble": {"size": 3, "candidates": 8},
    "score": {"best_member": {"member": 1, **SCORES}, "ensemble": {**SCORES, "co_bps": 0.3}},
    "retrain": {},
    "submit": {"file": "runs/test/submission.h5"},
}


def _task(folder: Path, **changes: Any) -> Task:
    given = {"trials": 8, "population": "4", "settings": (), "say": lambda _: None, **changes}
    return Task("mc_maze", folder / "nwb", folder / "work", "small", **given)


class Killed(BaseException):
    pass


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Stages that leave what they leave, and are counted."""
    counted: Counter[str] = Counter()

    def staged(name: str) -> Any:
        def stage(_: Task) -> dict[str, Any]:
            counted[name] += 1
            # Two of them die when they are reached for the first time.
            if name in ("_search", "_retrain") and counted[name] == 1:
                raise Killed
            return DONE[name[1:]]

        return stage

    for name in STAGES:
        monkeypatch.setattr(reproduce, name, staged(name))
    return counted


def test_killed_twice_every_stage_is_done_once(tmp_path: Path, calls: Counter[str]) -> None:
    for _ in range(2):
        with pytest.raises(Killed):
            reproduce.run(_task(tmp_path))
    report = reproduce.run(_task(tmp_path))
    assert calls == {**dict.fromkeys(STAGES, 1), "_search": 2, "_retrain": 2}
    reproduce.run(_task(tmp_path))
    assert calls["_prepare"] == 1
    assert "| **here, ensemble** | validation | 0.3000 |" in report.read_text()
    with pytest.raises(UserError, match="trials: 8 -> 9"):
        reproduce.run(_task(tmp_path, trials=9))


def _text(**changes: Any) -> str:
    prepared = {**DONE["prepare"], **changes.pop("prepare", {})}
    about = {
        "name": "mc_maze",
        "budget": "paper",
        "settings": ["--config=mc_maze"],
        "trials": 120,
        "as_published": True,
        "done": {**DONE, "prepare": prepared},
        **changes,
    }
    return reproduction.text(**about)


def test_the_report_says_what_is_comparable() -> None:
    whole = _text()
    assert "| STNDT, ensemble | test, published | 0.3862 | 0.9095 | 0.6693 | 0.2686 |" in whole
    assert "| Smoothing | test, published | 0.2109 | 0.6238 | 0.1853 | - |" in whole
    assert "on the validation split" in whole
    assert "only the benchmark's server can compute" in whole
    assert "cannot be compared" not in whole
    assert "the effort is not" not in whole
    small = _text(prepare={"neurons": [5, 3]}, as_published=False, trials=4, budget="small")
    assert "it has 8 neurons and 180 bins, the benchmark's has 182 and 180" in small
    assert "cannot be compared" in small and "the effort is not" in small
    assert "from 4 trials with `config=mc_maze`" in small
    without = _text(prepare={"test_phase": False, "why": "nwb has no test file"})
    assert "no submission file for the test split: nwb has no test file" in without
    assert "No scores of this method are published" in _text(name="mc_maze_small")


def test_published_numbers() -> None:
    """Some of each data set, as the benchmark's table has them."""
    table = {name: dict(leaderboard.rows(name)) for name in leaderboard.SIZES}
    assert [len(rows) for rows in table.values()] == [14, 10, 9, 9]
    assert table["mc_rtt"]["STNDT, ensemble"] == {
        "co_bps": 0.2095, "vel_r2": 0.6270, "fp_bps": 0.1244,
    }  # fmt: skip
    assert table["dmfc_rsg"]["MINT"]["tp_corr"] == -0.6929
    assert table["area2_bump"]["STNDT, single"]["psth_r2"] == 0.6454
    assert "iLQR-VAE" not in table["mc_rtt"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["mc_mace", "--nwb=x", "--workdir=y"], "mc_mace is no data set of the benchmark"),
        (["mc_maze", "--nwb=x"], "--workdir is missing"),
        (["mc_maze", "--nwb=x", "--workdir=y", "--config=tiny"], "--config=tiny cannot be set"),
    ],
)
def test_mistakes(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["reproduce", *argv]) == 2
    assert sentence in capsys.readouterr().err


def test_the_users_settings_win(tmp_path: Path) -> None:
    task = _task(tmp_path, settings=("--config.train.epochs=9",))
    settings = reproduce._settings(task)
    assert settings[0] == "--config=mc_maze_large"
    assert [word for word in settings if "epochs=" in word] == [
        "--config.train.epochs=9", "--config.optimizer.warmup_epochs=4",
    ]  # fmt: skip
    paper = dataclasses.replace(task, budget="paper", settings=())
    assert reproduce._settings(paper) == ["--config=mc_maze:paper", "--config.data.name=mc_maze"]
