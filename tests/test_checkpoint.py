"""Checkpoints: what goes in comes out, the newest first, damage is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stndt_jax.checkpoint import Checkpoints
from stndt_jax.errors import UserError


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
    checkpoints.close()
    again = Checkpoints(tmp_path / "c")
    epoch, tree = again.load(jax.eval_shape(lambda: _tree(0.0)))
    assert epoch == 3
    np.testing.assert_array_equal(tree.weights["a"], np.full((2, 3), 3.0))
    np.testing.assert_array_equal(tree.weights["b"], np.arange(4))
    assert int(tree.step) == 3
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if p.name.isdecimal()) == ["2", "3"]
    again.close()


def test_nothing_to_load(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.load(_tree(0.0))
    checkpoints.close()


def test_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"a": jnp.zeros(3)})
    with pytest.raises(UserError, match="epoch 1"):
        checkpoints.load({"b": jnp.zeros(3)})
    checkpoints.close()
