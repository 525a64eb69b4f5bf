"""Planted carriers among noise neurons, in a recording and a model of the smallest size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import planted

from stndt_jax.interpret import ablation, integrated_gradients
from stndt_jax.training import restore


def test_held_out_neurons_depend_on_carriers_alone() -> None:
    data, carries = planted.record(trials=60, eval_trials=10)
    assert carries.sum() == 8 and data.heldin == 24 and data.heldout == 8
    assert data.train.rates is not None
    rates = np.log(data.train.rates).reshape(-1, 32)
    like = np.abs(np.corrcoef(rates.T)[:24, 24:])
    assert like[carries].max(axis=1).min() > 0.3
    assert like[~carries].max() < 0.3
    # Neither the mean rate nor the variance of a neuron separates them.
    spread = rates[:, :24].std(axis=0)
    assert spread[carries].mean() == pytest.approx(spread[~carries].mean(), rel=0.1)


def test_auc_counts_pairs() -> None:
    assert planted.auc(np.array([3.0, 1, 2, 2]), np.array([True, False, True, False])) == 0.875


@pytest.mark.long
def test_carriers_are_found_and_missed(tmp_path: Path) -> None:
    data, carries = planted.record(
        trials=96, eval_trials=32, bins=12, carriers=4, noise=8, heldout=4, mean_count=1.0
    )
    run = planted.trained(
        tmp_path,
        data,
        "--config.train.epochs=40",
        "--config.train.validate_every=10",
        "--config.model.layers=1",
        "--config.optimizer.learning_rate=1e-2",
        "--config.model.dropout=0.1",
        "--config.model.dropout_rates=0.1",
        "--config.model.dropout_embedding=0.1",
    )
    models = restore.models(run)
    importance = integrated_gradients.attribute(models[0], data.eval, steps=4).importance
    assert planted.auc(importance, carries) > 0.9
    found = ablation.drop(models, importance, fractions=(0.34,), repeats=2)
    effect = ablation.effect(found, "this")
    assert effect.matters and effect.random - effect.ordered > 0.2 * effect.full
    orders = found["models"]["this"]
    full, least = orders[ablation.LEAST_FIRST]["co_bps"][0]
    assert full > 0.05 and least > 0.8 * full
