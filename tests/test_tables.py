"""Tables of trials and units, and names: from arrays to a file and back, in the right order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import stndt_jax as stndt
from stndt_jax.data import hdf5, tables

R, T, N = 12, 5, 6


def recording(**options: Any) -> stndt.SpikeData:
    # The first bin of a trial and unit says which they are.
    counts = np.zeros((R, T, N), int)
    counts[:, 0] = 10 * np.arange(R)[:, None] + np.arange(N)
    given: dict[str, Any] = {
        "trial_table": {"reward": np.arange(R) / 4, "session": [f"s{r % 3}" for r in range(R)]},
        "unit_table": {"area": ["M1", "PMd"] * 3, "quality": np.arange(N)},
        "conditions": ["left", "right", ""] * 4,
        "behavior": np.random.default_rng(0).normal(size=(R, T, 2)),
        "behavior_names": ("vel_x", "vel_y"),
        "behavior_unit": "cm/s",
    }
    return stndt.SpikeData.from_arrays(counts, bin_ms=10, seed=3, **(given | options))


@pytest.mark.parametrize("through_files", [False, True])
def test_every_row_is_that_of_its_trial_and_unit(tmp_path: Path, through_files: bool) -> None:
    data = recording()
    if through_files:
        hdf5.write(data, tmp_path / "x.h5")
        hdf5.write_targets(data, tmp_path / "x_target.h5")
        assert data.fingerprint() == recording(trial_table={}, unit_table={}).fingerprint()
        data = hdf5.read(tmp_path / "x.h5", tmp_path / "x_target.h5")
    units = data.unit_table()
    np.testing.assert_array_equal(units["area"], np.array(["M1", "PMd"])[units["unit"] % 2])
    np.testing.assert_array_equal(units["quality"], units["unit"])
    np.testing.assert_array_equal(units["held_out"], [False] * data.heldin + [True] * data.heldout)
    sources = []
    for split, trials in (("train", data.train), ("eval", data.eval)):
        table = data.trial_table(split)
        source = table["source_trial"]
        counts = trials.counts(0, data.heldout)
        np.testing.assert_array_equal(counts[:, 0], 10 * source[:, None] + units["unit"])
        np.testing.assert_array_equal(table["reward"], source / 4)
        assert list(table["session"]) == [f"s{r % 3}" for r in source]
        assert list(table["condition"]) == [("left", "right", "")[r % 3] for r in source]
        sources += list(source)
    assert sorted(sources) == list(range(R))
    assert data.behavior_names == ("vel_x", "vel_y") and data.behavior_unit == "cm/s"
    assert data.condition_names == ("left", "right")


def test_a_subset_keeps_its_rows() -> None:
    data = recording()
    part = data.train.subset(np.array([4, 1]))
    for name, column in part.columns.items():
        np.testing.assert_array_equal(column, data.train.columns[name][[4, 1]])


def test_a_table_of_pandas_and_another_source() -> None:
    frame = pandas.DataFrame({"source_trial": np.arange(R) + 100, "choice": [None, "a"] * 6})
    table = recording(trial_table=frame).trial_table("eval")
    assert set(table["source_trial"]) <= set(range(100, 112))
    assert all((choice == "a") == source % 2 for choice, source in
               zip(table["choice"], table["source_trial"], strict=True))  # fmt: skip


def test_whole_numbers_are_conditions_as_they_are() -> None:
    numbers, names = tables.conditions([3, -1, 0.0, np.nan], 4)
    assert numbers is not None and numbers.tolist() == [3, -1, 0, -1] and names == ()
    numbers, names = tables.conditions([45.5, -90.0, np.nan], 3)
    assert numbers is not None and numbers.tolist() == [1, 0, -1] and names == ("-90.0", "45.5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trial_table": {"reward": [1, 2]}}, "'reward' has shape"),
        ({"trial_table": {"reward": [{}] * R}}, "several kinds"),
        ({"trial_table": {"start_s": np.zeros(R)}, "starts": np.zeros(R)}, "name is taken"),
        ({"unit_table": {"held_out": np.zeros(N)}}, "name is taken"),
        ({"trial_table": {"a/b": np.zeros(R)}}, "no name of a column"),
        ({"trial_table": 5}, "give columns by name"),
        ({"unit_table": {"area": ["M1"]}}, f"each of the {N} units"),
        ({"unit_table": {"unit": list("abcdef")[:N]}, "units": None}, "units holds texts"),
        ({"conditions": ["left"]}, "conditions has shape"),
        ({"conditions": [{}] * R}, "one number or text"),
        ({"behavior_names": ("x",)}, "1 names of 2 dimensions"),
    ],
)
def test_what_fits_no_trial_or_unit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(stndt.UserError, match=message):
        recording(**options)


def test_columns_that_say_what_an_argument_says_take_its_place() -> None:
    frame = pandas.DataFrame(
        {"condition": ["a", "b", None] * 4, "start_s": np.arange(R) * 2.5, "block": range(R)}
    )
    units = {"unit": np.arange(N) + 1000, "area": ["M1"] * N}
    data = recording(trial_table=frame, unit_table=units, conditions=None)
    assert data.condition_names == ("a", "b")
    assert sorted(data.unit_table()["unit"]) == list(range(1000, 1000 + N))
    for split in ("train", "eval"):
        table = data.trial_table(split)
        np.testing.assert_array_equal(table["start_s"], 2.5 * table["source_trial"])
        np.testing.assert_array_equal(table["block"], table["source_trial"])
        assert list(table["condition"]) == [("a", "b", "")[r % 3] for r in table["source_trial"]]
    assert set(data.train.columns) == {"source_trial", "block"}
    assert set(data.unit_columns) == {"area"}
