"""The configuration that is chosen from the recording."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import stndt_jax as stndt
from stndt_jax.cli import main
from stndt_jax.config import automatic, loading, schema
from stndt_jax.config.automatic import Sizes
from stndt_jax.data import hdf5
from stndt_jax.types import Dims


def small(trials: int = 16, neurons: int = 7, bins: int = 9) -> stndt.SpikeData:
    counts = np.random.default_rng(0).poisson(0.5, (trials, bins, neurons))
    return stndt.SpikeData.from_arrays(counts, bin_ms=20)


@pytest.mark.parametrize("trials", [2, 30, 199, 200, 399, 400, 999, 1_000, 20_000])
@pytest.mark.parametrize(("bins", "neurons"), [(1, 1), (9, 7), (40, 127), (97, 169), (180, 137)])
def test_every_recording_gets_a_whole_setting(trials: int, bins: int, neurons: int) -> None:
    values = stndt.get_config("auto").to_dict()
    left = set(automatic.open_keys(values))
    chosen = [choice.values for choice in automatic.choose(Sizes(trials, bins, neurons, 20.0))]
    keys = [key for values in chosen for key in values]
    assert set(keys) == left and len(keys) == len(left)
    filled, words = automatic.filled_for(values, Sizes(trials, bins, neurons, 20.0))
    config = schema.from_mapping(filled)
    schema.check_dims(config, Dims(bins, 0, neurons, 1))
    assert config.train.validate_every <= config.train.epochs
    assert config.optimizer.warmup_epochs < config.train.epochs
    assert f"{trials:,} training trials" in words[0] and len(words) > 3


def test_what_the_user_sets_is_kept_and_not_spoken_of() -> None:
    config = stndt.get_config("auto")
    config.model.width = 10
    data = small()
    filled, words = automatic.filled(config.to_dict(), data)
    assert filled["model"]["width"] == 10 and "width" not in "".join(words)
    # What was given stays open.
    assert config.model.layers is None
    assert stndt.get_config("auto", data).model.layers == filled["model"]["layers"]


def test_the_schedule_follows_the_epochs_and_batch_that_are_set() -> None:
    values = stndt.get_config("auto").to_dict()
    values["train"] |= {"epochs": 20, "batch": 10}
    filled, words = automatic.filled_for(values, Sizes(trials=45, bins=20, neurons=9, bin_ms=20))
    assert filled["optimizer"]["warmup_epochs"] == pytest.approx(0.07 * 20)
    assert filled["train"]["validate_every"] == 1
    assert any("80 steps" in word for word in words)


def test_a_configuration_without_open_values_is_left_alone() -> None:
    values = stndt.get_config("tiny").to_dict()
    assert automatic.filled(values, small()) == (values, [])


@pytest.mark.parametrize(
    ("bins", "width", "heads"), [(10, None, 2), (9, None, 1), (10, 31, 1), (10, 0, 1), (10, 48, 2)]
)
def test_heads_divide_the_bins_and_the_width(bins: int, width: int | None, heads: int) -> None:
    values = stndt.get_config("auto").to_dict()
    values["model"]["width"] = width
    made, words = automatic.filled_for(values, automatic.Sizes(100, bins, 7, 20.0))
    assert made["model"]["heads"] == heads
    assert any("one head for" in line for line in words) == (heads == 1)
    assert bins % heads == 0 and (made["model"]["width"] or 7) % heads == 0


@pytest.mark.parametrize(
    ("bin_ms", "bins"), [(1, 30.0), (5, 6.0), (20, 1.5), (30, 1.0), (100, 1.0)]
)
def test_inputs_are_smoothed_over_a_time_not_a_number_of_bins(bin_ms: float, bins: float) -> None:
    choices = automatic.choose(Sizes(100, 50, 60, bin_ms))
    (found,) = [one for one in choices if "model.smooth" in one.values]
    assert found.values["model.smooth"] == bins and f"{bins * bin_ms:g} ms" in found.words
    many = automatic.choose(Sizes(1_000, 50, 60, bin_ms))
    assert [c.values["model.smooth"] for c in many if "model.smooth" in c.values] == [0.0]


def test_few_neurons_get_one_layer_and_more_noise_within_it() -> None:
    few, many = (
        {k: v for one in automatic.choose(Sizes(100, 50, n, 20.0)) for k, v in one.values.items()}
        for n in (39, 40)
    )
    assert (few["model.layers"], many["model.layers"]) == (1, 2)
    assert few["model.dropout"] > many["model.dropout"]
    assert few["model.dropout_embedding"] < many["model.dropout_embedding"]


def test_it_has_no_variants() -> None:
    with pytest.raises(stndt.UserError, match="auto has no variants"):
        loading.read(["--config=auto:paper"])


def test_without_a_recording_it_says_so() -> None:
    with pytest.raises(stndt.UserError, match=r"get_config\('auto', data\)"):
        stndt.hypers(stndt.get_config("auto"))
    with pytest.raises(stndt.UserError, match=r"config.data.path is empty"):
        loading.load(["--config=auto"])


@pytest.mark.long
def test_nothing_named_trains_by_the_rules(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = small()
    hdf5.write(data, tmp_path / "day.h5")
    path = f"--config.data.path={tmp_path / 'day.h5'}"
    short = ["--config.train.epochs=1", "--config.train.batch=16", "--config.model.layers=1"]
    assert main.main(["train", path, f"--workdir={tmp_path / 'run'}", *short]) == 0
    said = capfd.readouterr()
    assert "settings for 12 training trials of 9 bins of 20 ms and" in said.err
    assert "on the 2 training trials held back" in said.out and "smoothing" in said.out
    assert "on the 2 training trials held back" in (tmp_path / "run" / "log.txt").read_text()
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    by_rule, _ = automatic.filled(stndt.get_config("auto").to_dict(), data)
    assert written["model"]["width"] == by_rule["model"]["width"]
    assert written["model"]["layers"] == 1 and written["model"]["heads"] == 1
    # The run keeps what was chosen.
    assert main.main(["train", f"--workdir={tmp_path / 'run'}"]) == 0
