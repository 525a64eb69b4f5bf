"""records: format numbers and reading older formats; score_names: labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stndt_jax.errors import UserError
from stndt_jax.runs import records, score_names


def test_a_file_has_its_format_first_and_is_read_back_without(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    records.write(path, {"members": [{"co_bps": 0.5}], "left out": 1})
    stored = json.loads(path.read_text())
    assert next(iter(stored)) == "format" and stored["format"] == 2
    # Nothing is renamed in a file of the newest format.
    assert records.read(path) == {"members": [{"co_bps": 0.5}], "left out": 1}


def test_format_1_gets_the_keys_of_format_2(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    old = {
        "members": [{"member": 0, "validation co-bps": 0.1, "co-bps": 0.2}],
        "left out": [1],
        "best member": {"vel R2": 0.3, "psth R2": None, "tp corr": -0.5},
        "ensemble": {"co-bps interval": [0.1, 0.3], "co-bps / oracle": 0.9},
    }
    new = {
        "members": [{"member": 0, "validation_co_bps": 0.1, "co_bps": 0.2}],
        "left_out": [1],
        "best_member": {"vel_r2": 0.3, "psth_r2": None, "tp_corr": -0.5},
        "ensemble": {"co_bps_interval": [0.1, 0.3], "co_bps_of_oracle": 0.9},
    }
    for content in (old, {"format": 1, **old}):
        path.write_text(json.dumps(content))
        assert records.read(path) == new


def test_a_file_without_keys_of_its_own_goes_under_one(tmp_path: Path) -> None:
    path = tmp_path / "others.json"
    # The name of a method may be anything, even "format".
    path.write_text(json.dumps({"format": {"co-bps": 0.5}, "MINT": {"fp-bps": 0.1}}))
    expected = {"methods": {"format": {"co_bps": 0.5}, "MINT": {"fp_bps": 0.1}}}
    assert records.read(path, under="methods") == expected
    records.write(path, expected)
    assert records.read(path, under="methods") == expected
    path.write_text('[{"stated co-bps": 1}]')
    assert records.read(path, under="members") == {"members": [{"stated_co_bps": 1}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds no JSON object; mend it"),
        ({"format": 3}, "has the format 3, but this version .* up to 2"),
        ({"format": "2"}, "has the format '2'"),
        ({"format": True}, "has the format True"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        records.read(path, "mend it")


def test_deep_nesting_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for depth in (300, 600, 900, 5000):
        path.write_text('{"a": ' + "[" * depth + "]" * depth + "}")
        try:
            records.read(path, "mend it")
        except UserError as error:
            assert str(error).endswith("mend it")


def test_labels() -> None:
    labels = ["co-bps", "fp-bps", "vel R2", "tp-corr", "PSTH R2", "rate R2"]
    assert [score_names.label(key) for key in list(score_names.SCORES)[:6]] == labels
    assert score_names.label("best_epoch") == "best epoch"
    assert score_names.axis_label("co_bps") == "co-bps (bits/spike)"
    assert score_names.axis_label("vel_r2") == "vel R²"
    assert score_names.axis_label("epochs") == "epochs"
    assert score_names.typeset("psth_r2") == "PSTH R²"
