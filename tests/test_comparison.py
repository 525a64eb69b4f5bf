"""A model beside the baselines: on which trials, and what is said of one below them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stndt_jax as stndt
from stndt_jax.config import schema
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import baselines, comparison, method_scores, scoring
from stndt_jax.training import batches


@pytest.fixture(scope="module")
def known() -> SpikeData:
    return stndt.simulate(
        "reach", trials=24, eval_trials=8, bins=8, bins_forward=2, heldin=6, heldout=3,
        directions=2, curved=False, seed=1,
    )  # fmt: skip


def withheld(data: SpikeData) -> SpikeData:
    unknown = dataclasses.replace(
        data.eval, heldout=None, heldin_forward=None, heldout_forward=None, rates=None
    )
    return dataclasses.replace(data, eval=unknown)


def config(fraction: float = 0.25) -> schema.Config:
    values = stndt.get_config("tiny").to_dict()
    values["data"]["validation_fraction"] = fraction
    return schema.from_mapping(values)


def test_evaluated_trials_are_scored_where_their_counts_are_known(known: SpikeData) -> None:
    assert comparison.selecting(config(), known) is known


def test_otherwise_the_trials_that_select_are(known: SpikeData) -> None:
    data = withheld(known)
    seen = comparison.selecting(config(), data)
    assert seen is not None and (len(seen.train), len(seen.eval)) == (18, 6)
    # They are the trials that training itself holds back.
    train, valid, _ = batches.split(config(), data)
    assert valid is not None
    wanted = np.concatenate([seen.eval.heldin, seen.eval.heldout], axis=-1)
    np.testing.assert_array_equal(valid.counts[:, :8], wanted)
    np.testing.assert_array_equal(train.counts[:, :8, :6], seen.train.heldin)
    assert comparison.selecting(config(0.0), data) is None


def test_scores_are_those_of_the_baseline(known: SpikeData) -> None:
    found = comparison.scores(known).scores
    targets = hdf5.targets_of(known)
    rates = baselines.smoothing(known, sd_ms=None)
    wanted = scoring.score(rates, targets, kind=scoring.kind_of(targets))
    assert found["smoothing"] == wanted


def test_a_model_below_a_baseline_is_never_silent(tmp_path: Path, known: SpikeData) -> None:
    said: list[str] = []
    row = {"best_cobps": [0.3, None], "valid_cobps": [-9.0, None]}
    comparison.of_training(tmp_path, config(), known, row, said.append)
    cobps = comparison.scores(known).scores["smoothing"]["co_bps"]
    assert "on the 8 evaluated trials: -9.0000 with the last weights, 0.3000 with" in said[0]
    assert f"smoothing {cobps:.4f}" in said[0]
    assert said[1].startswith("the model is below smoothing") and "stndt tune" in said[1]
    # Scored once a recording: what the directory keeps is what is said.
    kept = tmp_path / "baselines.json"
    kept.write_text(kept.read_text().replace(f"{cobps}", "-10.0"))
    again: list[str] = []
    comparison.of_training(tmp_path, config(), known, row, again.append)
    assert "smoothing -10.0000" in again[0]
    # Other trials are scored anew.
    comparison.of_training(tmp_path, config(), withheld(known), row, again.append)
    assert "on the 6 training trials held back" in again[-2]


def test_a_file_that_cannot_keep_them_costs_no_scores(tmp_path: Path, known: SpikeData) -> None:
    (tmp_path / "baselines.json" / "a").mkdir(parents=True)
    said: list[str] = []
    row = {"best_cobps": [0.3], "valid_cobps": [0.2]}
    with pytest.warns(UserWarning) as warned:
        comparison.of_training(tmp_path, config(), known, row, said.append)
    assert "0.2000 with the last weights" in said[0] and "smoothing" in said[0]
    assert any("cannot be written" in str(one.message) for one in warned)


def test_nothing_held_back_is_said(tmp_path: Path, known: SpikeData) -> None:
    said: list[str] = []
    row = {"best_cobps": [None], "valid_cobps": [None]}
    comparison.of_training(tmp_path, config(0.0), withheld(known), row, said.append)
    assert len(said) == 1 and "nothing was scored" in said[0]


def test_they_stand_beside_the_scores_of_a_run(tmp_path: Path, known: SpikeData) -> None:
    comparison.beside(tmp_path, withheld(known))
    assert method_scores.read(tmp_path) == {}
    comparison.beside(tmp_path, known)
    assert method_scores.read(tmp_path)["smoothing"] == comparison.scores(known).scores["smoothing"]


def test_they_are_scored_against_what_the_run_is(tmp_path: Path, known: SpikeData) -> None:
    """Decode masks of a target file change vel R2, of the baselines too."""
    targets = hdf5.targets_of(known)
    for key, trials in (("train_decode_mask", known.train), ("eval_decode_mask", known.eval)):
        targets[key] = (np.arange(len(trials)) % 2 == 0)[:, None]
    comparison.beside(tmp_path, known)
    plain = method_scores.read(tmp_path)["smoothing"]
    comparison.beside(tmp_path, known, hdf5.targets_of(known))
    assert method_scores.read(tmp_path)["smoothing"] == plain
    comparison.beside(tmp_path, known, targets)
    masked = method_scores.read(tmp_path)["smoothing"]
    rates = baselines.smoothing(known)
    assert masked == scoring.score(rates, targets, kind="velocity")
    assert masked["vel_r2"] != plain["vel_r2"] and masked["co_bps"] == plain["co_bps"]


def test_too_small_a_recording_has_fewer_baselines() -> None:
    counts = np.random.default_rng(0).poisson(1.0, (3, 4, 2))
    data = stndt.SpikeData.from_arrays(counts, bin_ms=20, heldout=[1], evaluated=[2])
    assert set(comparison.scores(data).scores) <= set(comparison.names())
    assert comparison.scores(data).left_out.keys() <= set(comparison.names())


def test_a_baseline_that_does_not_fit_is_said(
    tmp_path: Path, known: SpikeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("too few trials")

    monkeypatch.setattr(comparison.baselines, "smoothing", refuse)
    row = {"best_cobps": [0.3], "valid_cobps": [0.2]}
    for _ in range(2):  # scored, then read from the directory
        said: list[str] = []
        comparison.of_training(tmp_path, config(), known, row, said.append)
        assert "smoothing is not scored: too few trials" in said


def test_without_held_out_neurons_nothing_is_compared(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(1.0, (6, 4, 3))
    data = stndt.SpikeData.from_arrays(counts, bin_ms=20, heldout=[1], evaluated=[5])
    without: dict[str, Any] = {"heldout": None, "heldout_forward": None}
    data = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, **without),
        eval=dataclasses.replace(data.eval, **without),
    )
    said: list[str] = []
    comparison.of_training(tmp_path, config(), data, {}, said.append)
    assert len(said) == 1 and "no held-out neurons" in said[0]


def test_the_verdict_of_training_holds_until_the_run_is_evaluated(
    tmp_path: Path, known: SpikeData
) -> None:
    row = {"best_cobps": [0.3], "valid_cobps": [-9.0]}
    comparison.of_training(tmp_path, config(), known, row, lambda _: None)
    words = comparison.verdict(tmp_path, {})
    assert words.startswith("the model is below smoothing")
    assert "last weights are 9.3000 below the best" in words
    assert comparison.scored(tmp_path)["smoothing"] == pytest.approx(
        comparison.scores(known).scores["smoothing"]["co_bps"]
    )
    assert comparison.verdict(tmp_path, {"ensemble": {"co_bps": 9.0}}) == ""


def test_a_model_worse_than_mean_rates_is_never_silent() -> None:
    assert "worse than the mean rate" in comparison.below(-0.1, {"smoothing": -0.2})
    assert comparison.below(0.1, {"smoothing": -0.2}) == ""
