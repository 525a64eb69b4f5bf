"""Who is pruned: by arithmetic, by Optuna's own median, and the same again after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from stndt_jax.search import pruning
from stndt_jax.search.pruning import Pruner
from stndt_jax.search.space import Range, Space
from stndt_jax.search.study import Study

SPACE = Space({"dropout": Range(0.1, 0.5, False, False)}, {})


def test_epochs_end_with_validations() -> None:
    assert pruning.epochs("none", 320, 10) == []
    assert pruning.epochs("halving", 320, 10) == [40, 80, 160]
    assert pruning.epochs("median", 320, 10) == [80, 120, 160, 200, 240, 280]
    assert pruning.epochs("halving", 10, 4) == [4, 8]


def test_halving_by_hand() -> None:
    keep = pruning.halving(np.array([0.1, 0.4, 0.3]), [0.2, 0.5])
    np.testing.assert_array_equal(keep, [False, True, True])
    np.testing.assert_array_equal(pruning.halving(np.array([0.1]), []), [True])
    np.testing.assert_array_equal(pruning.halving(np.array([-np.inf, 0.1]), []), [False, True])


def test_median_is_optunas() -> None:
    """Its pruner, asked trial by trial, of the same scores."""
    rng = np.random.default_rng(0)
    whole, mine_K = rng.normal(size=5), rng.normal(size=12)
    oracle = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=pruning.ENOUGH, n_warmup_steps=0),
    )
    for value in whole:
        trial = oracle.ask()
        trial.report(value, 10)
        oracle.tell(trial, value)
    asked = []
    for value in mine_K:
        trial = oracle.ask()
        trial.report(value, 10)
        asked.append(not trial.should_prune())
        oracle.tell(trial, state=optuna.trial.TrialState.FAIL)
    found = pruning.median(mine_K, list(whole))
    np.testing.assert_array_equal(found, asked)
    assert 0 < found.sum() < 12


def test_too_few_trials_prune_nobody() -> None:
    assert pruning.median(np.array([0.0]), [1.0] * (pruning.ENOUGH - 1)).all()
    assert not pruning.median(np.array([0.0]), [1.0] * pruning.ENOUGH).any()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_decisions_are_those_of_before(tmp_path: Path, study: Study) -> None:
    study.ask("0000", 4, SPACE, seed=0)
    run = tmp_path / "run"
    run.mkdir()
    pruner = Pruner("halving", [10, 20], run, study, [0, 1, 2, 3])
    best_K = np.array([0.1, 0.4, np.nan, 0.3])
    assert pruner(5, best_K).all()
    np.testing.assert_array_equal(pruner(10, best_K), [False, True, False, True])
    assert study.trials()[1].reported == {10: 0.4}
    assert study.trials()[2].reported == {}
    # Others come to the same epoch, better than all; the run is killed and begins again.
    study.ask("0001", 4, SPACE, seed=0)
    for number in range(4, 8):
        study.report(number, 10, 9.0)
    again = Pruner("halving", [10, 20], run, study, [0, 1, 2, 3])
    np.testing.assert_array_equal(again(10, best_K), [False, True, False, True])
    # Nobody who has gone comes back, nor counts.
    np.testing.assert_array_equal(again(15, best_K), [False, True, False, True])
    np.testing.assert_array_equal(again(20, best_K), [False, True, False, False])
    # A third time, from the beginning: what is decided for later has not happened yet.
    third = Pruner("halving", [10, 20], run, study, [0, 1, 2, 3])
    assert third(5, best_K).all()
    np.testing.assert_array_equal(third(10, best_K), [False, True, False, True])
    assert pruning.decided(run) == {"10": [0, 2], "20": [3]}
    assert pruning.pruned(pruning.decided(run)) == {0, 2, 3}


def test_the_median_is_of_whole_trials(tmp_path: Path, study: Study) -> None:
    study.ask("0000", 6, SPACE, seed=0)
    for number, value in enumerate([0.1, 0.2, 0.3, 0.4, 9.0, 9.0]):
        study.report(number, 10, value)
    for number in range(4):
        study.tell(number, 1.0)
    study.tell(4, 9.0, pruned=True)
    study.ask("0001", 2, SPACE, seed=0)
    keep_K = Pruner("median", [10], tmp_path, study, [6, 7])(10, np.array([0.24, 0.26]))
    np.testing.assert_array_equal(keep_K, [False, True])
