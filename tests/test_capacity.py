"""How many members: enough populations to learn from, no more than memory holds."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import pytest
from stndt_jax.configs import mc_maze

from stndt_jax import capacity, config
from stndt_jax.types import Dims

MAZE = config.from_mapping(mc_maze.get_config().to_dict())
DIMS = Dims(140, 40, 137, 45)


def test_on_cpus_there_are_eight_populations_or_more() -> None:
    assert [capacity.population(MAZE, DIMS, n) for n in (1, 8, 9, 24, 120)] == [1, 1, 2, 3, 8]


def _devices(monkeypatch: pytest.MonkeyPatch, count: int, gib: float) -> None:
    one = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": int(gib * 2**30)})
    monkeypatch.setattr(jax, "devices", lambda: [one] * count)
    monkeypatch.setattr(jax, "device_count", lambda: count)


def test_on_accelerators_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    each = capacity.member_bytes(MAZE, DIMS) / 2**30
    _devices(monkeypatch, 1, 1000 * each)
    assert capacity.population(MAZE, DIMS, 120) == 15
    _devices(monkeypatch, 1, 10 * each)
    assert capacity.population(MAZE, DIMS, 120) == 6
    _devices(monkeypatch, 1, 0.1 * each)
    assert capacity.population(MAZE, DIMS, 120) == 1
    # Every device has as many as every other.
    _devices(monkeypatch, 4, 1000 * each)
    assert capacity.population(MAZE, DIMS, 120) == 16
    _devices(monkeypatch, 4, 4 * each)
    assert capacity.population(MAZE, DIMS, 120) == 8


def test_what_a_member_takes_grows_with_what_is_kept() -> None:
    """Twice the layers or trials of a batch is about twice the memory; NDT takes less."""
    size = capacity.member_bytes(MAZE, DIMS)
    deep = dataclasses.replace(MAZE, model=dataclasses.replace(MAZE.model, layers=8))
    wide = dataclasses.replace(MAZE, train=dataclasses.replace(MAZE.train, batch=128))
    plain = dataclasses.replace(MAZE, model=dataclasses.replace(MAZE.model, spatial=False))
    assert capacity.member_bytes(deep, DIMS) == pytest.approx(2 * size, rel=0.1)
    assert capacity.member_bytes(wide, DIMS) == pytest.approx(2 * size, rel=0.1)
    assert capacity.member_bytes(plain, DIMS) < 0.8 * size
