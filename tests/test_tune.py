"""Tuning: on the training trials alone, and a configuration at its end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import stndt_jax as stndt
from stndt_jax.cli import main
from stndt_jax.data import hdf5
from stndt_jax.workflows import tune


def recording(trials: int) -> stndt.SpikeData:
    counts = np.random.default_rng(0).poisson(0.7, (trials, 6, 5))
    return stndt.SpikeData.from_arrays(counts, bin_ms=20)


def test_the_part_is_of_training_trials_only() -> None:
    data = recording(40)
    part = tune.training_part(data, seed=3)
    assert len(part.train) + len(part.eval) == len(data.train) == 30
    whole = {trial.tobytes() for trial in data.train.heldin}
    seen = [trial.tobytes() for split in (part.train, part.eval) for trial in split.heldin]
    assert sorted(seen) == sorted(trial.tobytes() for trial in data.train.heldin)
    assert whole.isdisjoint(trial.tobytes() for trial in data.eval.heldin)
    assert tune.training_part(data, seed=3).fingerprint() == part.fingerprint()
    assert tune.training_part(data, seed=4).fingerprint() != part.fingerprint()


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(stndt.UserError, match="too few to hold some back"):
        tune.training_part(recording(4), seed=0)


def test_without_held_out_neurons_nothing_can_be_compared() -> None:
    data = recording(40)
    train = dataclasses.replace(data.train, heldout=None, heldout_forward=None)
    with pytest.raises(stndt.UserError, match="no held-out neurons"):
        tune.training_part(dataclasses.replace(data, train=train), seed=0)


@pytest.mark.long
def test_from_a_recording_to_a_configuration_that_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hdf5.write(recording(24), tmp_path / "day.h5")
    short = ["--config.train.epochs=2", "--config.model.width=8", "--config.train.batch=8"]
    argv = ["tune", f"{tmp_path / 'day.h5'}", f"--out={tmp_path / 'out'}", "--trials=2", *short]
    assert main.main(argv) == 0
    said = capsys.readouterr().out
    assert "setting to start from" in said and "4 training trials held back" in said
    config = stndt.get_config(tmp_path / "out" / "config.json")
    assert config.model.width == 8 and config.data.path == f"{tmp_path / 'day.h5'}"
    # The same command again has nothing left to do.
    assert main.main(argv) == 0
    chosen = f"--config={tmp_path / 'out' / 'config.json'}"
    assert main.main(["train", chosen, f"--workdir={tmp_path / 'run'}"]) == 0
