"""Stopped members are left out of the program and lose nothing by it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stndt_jax.training import compaction
from stndt_jax.training.best_weights import Best, Selection
from stndt_jax.training.population import Member
from stndt_jax.training.step import State

K = 8


def members(active: list[int], diverged: list[int] | None = None) -> Member:
    number = jnp.arange(K, dtype=jnp.float32)
    on = jnp.isin(jnp.arange(K), jnp.array(active))
    healthy = ~jnp.isin(jnp.arange(K), jnp.array(diverged or [-1]))
    params = {"weight": number[:, None] * jnp.ones((1, 3))}
    best = Best(number / 10, jnp.arange(K) + 100, params)
    state = State(params, {}, jnp.zeros(K, jnp.int32), healthy, on)
    totals = {"steps": jnp.zeros(K)}
    given = Member(state, Selection(best, best), totals, jnp.zeros(K, jnp.int32))
    # Donated buffers must not be shared.
    return jax.tree.map(jnp.copy, given)


def chunk(given: Member, hyper: Any, seen: list[int], report: bool) -> tuple[Member, Any]:
    """Adds its own hyperparameter to the weights of every active member."""
    state, size = given.state, given.state.active.shape[0]
    seen.append(size)
    weight = state.params["weight"] + jnp.where(state.active, hyper, 0.0)[:, None]
    nan = jnp.full(size, jnp.nan)
    metrics = {
        "train_loss": jnp.where(state.active, hyper, nan) if report else nan,
        "healthy": state.healthy,
        "active": state.active,
        "restarts": given.restarts,
        "best_cobps": given.selection.cobps.value,
        "best_epoch": given.selection.cobps.epoch,
    }
    return given._replace(state=state._replace(params={"weight": weight})), metrics


@pytest.mark.parametrize(
    ("living", "side", "size"),
    [(8, 1, 8), (5, 1, 8), (4, 1, 4), (3, 1, 4), (1, 1, 1), (0, 1, 1), (2, 4, 4), (1, 8, 8)],
)
def test_the_population_is_halved(living: int, side: int, size: int) -> None:
    assert compaction.size_for(living, K, side) == size
    assert compaction.size_for(living, 7, 1) == 7


@pytest.mark.parametrize("active", [[0, 1, 2, 3, 4, 5, 6, 7], [1, 6], [7], [0, 2, 5]])
def test_a_portion_of_the_living_is_that_of_all(active: list[int]) -> None:
    hyper: Any = jnp.arange(K) * 0.5 + 1
    seen: list[int] = []
    asked: list[int] = []

    def smaller(size: int, *given: Any) -> Any:
        asked.append(size)
        assert given[0].state.active.shape == (size,)
        return chunk

    run = compaction.Compacted(chunk, smaller, None, 0)
    found, metrics = run(members(active), hyper, seen, True)
    found, metrics = run(found, hyper, seen, True)
    wanted, _ = chunk(members(active), hyper, [], True)
    wanted, said = chunk(wanted, hyper, [], True)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
    assert metrics.keys() == said.keys()
    for name in said:
        np.testing.assert_array_equal(metrics[name], said[name], err_msg=name)
    # One program for both.
    size = compaction.size_for(len(active), K, 1)
    assert seen == [size] * 2
    assert asked == [size] * (size < K)


def test_who_lives() -> None:
    given = members([0, 1], diverged=[2, 3])
    given = given._replace(restarts=jnp.zeros(K, jnp.int32).at[3].set(2))
    totals = {"steps": jnp.zeros(K).at[4].set(5.0)}
    found = compaction.living(given._replace(totals=totals), 2)
    # 2 begins again at the next validation, 3 has done so twice, 4 has a loss to report.
    np.testing.assert_array_equal(np.flatnonzero(found), [0, 1, 2, 4])
    np.testing.assert_array_equal(np.flatnonzero(compaction.living(given, 0)), [0, 1])
