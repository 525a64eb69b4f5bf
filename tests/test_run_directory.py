"""The files of a run directory."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from stndt_jax import files
from stndt_jax.config import loading, schema
from stndt_jax.errors import UserError
from stndt_jax.runs import directory


def test_a_configuration_survives_its_json(tmp_path: Path) -> None:
    before = loading.load(
        ["--config=reach", "--config.members.learning_rate=(1e-3, 2e-3, 3e-3, 4e-3)"]
    )
    files.write_json(tmp_path / "config.json", schema.to_mapping(before))
    assert directory.read_config(tmp_path) == before


def test_differences_name_key_and_values() -> None:
    old = loading.load(["--config=tiny"])
    new = loading.load(["--config=tiny", "--config.train.epochs=11"])
    assert directory.differences(old, old) == []
    assert directory.differences(old, new) == ["train.epochs: 10 -> 11"]
    varied = dataclasses.replace(old, members={"dropout": (0.1,)})
    assert directory.differences(old, varied) == ["members.dropout: None -> [0.1]"]


@pytest.mark.parametrize("text", ["{", "[1]", '{"seed": 0}'])
def test_damaged_configurations_are_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config"):
        directory.read_config(tmp_path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        directory.read_config(tmp_path)


def test_versions_name_what_numbers_depend_on() -> None:
    assert {"python", "jax", "flax", "numpy", "stndt_jax"} <= set(directory.versions())


def test_a_session_has_the_commit_of_the_source_tree() -> None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        pytest.skip("the tests do not run in a clone")
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    commit = directory.session()["commit"]
    # A tag may come before it, and -dirty after it.
    assert commit is not None and head in commit


def test_a_directory_of_other_files_is_no_run_directory(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (".DS_Store", "slurm-12.out", "lock", "data.h5", "log.txt"):
        (photos / name).touch()
    (photos / "figures").mkdir()
    directory.check_free(photos)
    directory.check_free(tmp_path / "new")
    (photos / "cat.jpg").touch()
    (photos / "dog.jpg").touch()
    before = sorted(photos.iterdir())
    for refused in (directory.check_free, directory.set_aside):
        with pytest.raises(UserError, match=r"no run directory.*\(cat.jpg and 1 more\)"):
            refused(photos)
    assert sorted(photos.iterdir()) == before
    # What is left of a run may have anything beside it.
    (photos / "run.json").touch()
    directory.check_free(photos)
