"""Rates to submission and table."""

from __future__ import annotations

import numpy as np
import pytest

from stndt_jax.evaluation import evaluate, submission
from stndt_jax.types import Dims


def test_table_sets_the_ensemble_beside_the_best_member() -> None:
    scores = {
        "members": [{"member": 0}, {"member": 1}],
        "ensemble": {"co_bps": 0.25, "vel_r2": 0.5},
        "best_member": {"member": 0, "co_bps": 0.2, "vel_r2": 0.45},
        "left_out": [2],
    }
    heading, cobps, velocity, left_out = evaluate.table(scores).splitlines()
    assert heading.split()[:4] == ["score", "ensemble", "best", "member"]
    assert cobps.split() == ["co-bps", "0.2500", "0.2000"]
    assert velocity.split() == ["vel", "R2", "0.5000", "0.4500"]
    assert "[2]" in left_out


def test_table_of_one_model_and_of_none() -> None:
    one = {"co_bps": 0.25}
    scores = {"members": [{}], "ensemble": one, "best_member": one, "left_out": []}
    assert evaluate.table(scores).splitlines()[1].split() == ["co-bps", "0.2500"]
    assert "nothing was scored" in evaluate.table({"members": [{}], "left_out": []})


def test_the_first_line_says_that_the_data_are_other_ones() -> None:
    one = {"co_bps": 0.25}
    scores = {"members": [{}], "ensemble": one, "best_member": one, "left_out": [], "data": "x"}
    for marked in (scores, {"members": [{}], "left_out": [], "data": "x"}):
        lines = evaluate.table(marked | {"data_differs": True}).splitlines()
        assert "scores on other data (x) than the run was trained on" in lines[0]
        assert lines[1:] == evaluate.table(marked | {"data_differs": False}).splitlines()


@pytest.mark.parametrize("forward", [0, 2])
def test_submission_cuts_rates_by_the_benchmarks_keys(forward: int) -> None:
    dims = Dims(3, forward, 4, 2)
    rates = np.random.default_rng(0).random((5, dims.bins, dims.neurons)).astype(np.float32)
    found = submission.of_rates({"eval": rates}, dims)
    np.testing.assert_array_equal(found["eval_rates_heldin"], rates[:, :3, :4])
    np.testing.assert_array_equal(found["eval_rates_heldout"], rates[:, :3, 4:])
    assert ("eval_rates_heldout_forward" in found) == bool(forward)
    if forward:
        np.testing.assert_array_equal(found["eval_rates_heldin_forward"], rates[:, 3:, :4])
        np.testing.assert_array_equal(found["eval_rates_heldout_forward"], rates[:, 3:, 4:])
