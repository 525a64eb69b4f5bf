"""Checkpoints: what goes in comes out, the newest first, damage is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stndt_jax.errors import UserError
from stndt_jax.runs import checkpoint
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.lock import Lock


class _Tree(NamedTuple):
    weights: dict
    step: jax.Array


def _tree(value: float) -> _Tree:
    return _Tree({"a": jnp.full((2, 3), value), "b": jnp.arange(4)}, jnp.int32(value))


def test_the_newest_of_two_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest is None
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, _tree(epoch))
    again = Checkpoints(tmp_path / "c")
    epoch, tree = again.load(jax.eval_shape(lambda: _tree(0.0)))
    assert epoch == 3
    np.testing.assert_array_equal(tree.weights["a"], np.full((2, 3), 3.0))
    np.testing.assert_array_equal(tree.weights["b"], np.arange(4))
    assert int(tree.step) == 3
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if p.name.isdecimal()) == ["2", "3"]


def test_nothing_to_load(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(UserError, match="holds no intact checkpoint"):
        checkpoints.load(_tree(0.0))
    with Lock(tmp_path), pytest.raises(UserError, match="is still training, wait"):
        checkpoints.load(_tree(0.0))


def test_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"a": jnp.zeros(3)})
    with pytest.raises(UserError, match="checkpoint 1"):
        checkpoints.load({"b": jnp.zeros(3)})


def _damage(folder: Path, number: int) -> None:
    file = max((folder / str(number)).rglob("d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_bit_sends_back_to_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, _tree(epoch))
    _damage(folder, 2)
    reading = Checkpoints(folder, repair=False)
    assert reading.latest == 1
    assert (folder / "2").exists()
    found = Checkpoints(folder)
    assert found.latest == 1
    assert "checkpoint 2" in found.found[0] and "damaged" in found.found[0]
    assert (tmp_path / "damaged" / "2.1").is_dir()
    found.save(2, _tree(2.0))
    _damage(folder, 2)
    assert Checkpoints(folder).latest == 1
    assert (tmp_path / "damaged" / "2.2").is_dir()


def test_one_without_its_digests_was_never_finished(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, _tree(epoch))
    (folder / "2.sha256").unlink()
    (folder / "3.orbax-checkpoint-tmp-1").mkdir()
    found = Checkpoints(folder)
    assert found.latest == 1
    assert "is incomplete" in found.found[0]
    assert not list(folder.glob("*tmp*"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    Checkpoints(folder).save(1, _tree(1))
    next((folder / "1").rglob("_METADATA")).unlink()
    found = Checkpoints(folder)
    assert found.latest is None
    assert "lacks state/_METADATA" in found.found[0]
    with pytest.raises(UserError, match=r"no intact checkpoint.*lacks"):
        found.load(_tree(0.0))


def test_a_full_disk_is_one_sentence_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, _tree(1))

    def full(path: Path, tree: object) -> None:
        path.mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device")

    monkeypatch.setattr(checkpoint.ocp, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*checkpoint 1 is kept"):
        checkpoints.save(2, _tree(2))
    assert Checkpoints(folder).latest == 1


def test_a_bug_in_saving_stays_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, tree: object) -> None:
        raise ValueError("not of the disk")

    monkeypatch.setattr(checkpoint.ocp, "save", broken)
    with pytest.raises(ValueError, match="not of the disk"):
        Checkpoints(tmp_path / "c").save(2, _tree(2))
