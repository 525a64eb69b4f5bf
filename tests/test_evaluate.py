"""Rates to submission and table."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.imported_runs import SIZES, imported, one, record

from stndt_jax.cli import main
from stndt_jax.evaluation import evaluate, submission
from stndt_jax.run import load_run
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


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*is not the one that:UserWarning")
def test_scores_on_other_data_do_not_replace_those_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nlb_tools")
    run = imported(tmp_path, one(tmp_path / "a.pth"), f"--targets={tmp_path / 'target.h5'}")
    (tmp_path / "other").mkdir()
    other = record(tmp_path / "other" / "small.h5", SIZES, trials=9)
    words = ["evaluate", str(run), f"--data={other}", f"--targets={other.with_name('target.h5')}"]

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    # Without scores of its own a run gets those on other data, which its own replace.
    assert main.main(words) == 0
    assert json.loads((run / "scores.json").read_text())["data_differs"] is True
    assert main.main(words) == 0
    assert main.main(["evaluate", str(run)]) == 0
    assert json.loads((run / "scores.json").read_text())["data_differs"] is False
    before = contents(run)
    capsys.readouterr()
    assert main.main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{run / 'scores.json'} has the scores on the recording" in error
    assert "--out=DIR" in error
    out = tmp_path / "scores" / "other"
    assert main.main([*words, f"--out={out}", "--shots=2"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("these are scores on other data")
    assert f"wrote {out / 'scores.json'}" in said and "smoothing" in said
    assert contents(run) == before
    scores = json.loads((out / "scores.json").read_text())
    assert scores["data_differs"] is True and "2" in scores["few_shot"]
    with h5py.File(out / "submission.h5") as file:
        assert len(file["small/train_rates_heldin"]) == 9
    assert main.main([*words, f"--out={run}"]) == 2
    assert "is an input of this command" in capsys.readouterr().err
    found = load_run(run, data=str(other)).evaluate(out=tmp_path / "again")
    assert found["ensemble"] == scores["ensemble"] and contents(run) == before


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
