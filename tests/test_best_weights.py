"""Which weights are kept and when a member stops, validation by validation."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.training import best_weights

update = jax.jit(best_weights.update, static_argnums=6)


def follow(
    history: list[tuple[int, float, float]], patience: int, active: bool = True
) -> list[tuple[best_weights.Selection, bool]]:
    """The selection after each (epoch, co-bps, loss); the weights are the epoch's number."""
    state = best_weights.init({"w": jnp.float32(0.0)})
    found = []
    going = jnp.bool_(active)
    for epoch, cobps, loss in history:
        state, going = update(
            state,
            {"w": jnp.float32(epoch)},
            jnp.float32(cobps),
            jnp.float32(loss),
            jnp.int32(epoch),
            going,
            patience,
        )
        found.append((state, bool(going)))
    return found


def kept(best: best_weights.Best) -> tuple[float, int, float]:
    return float(best.value), int(best.epoch), float(best.params["w"])


def test_nothing_is_reached_at_first():
    start = best_weights.init({"w": jnp.float32(3.0)})
    assert kept(start.cobps) == (-math.inf, 0, 3.0)
    assert kept(start.loss) == (math.inf, 0, 3.0)


def test_the_highest_cobps_and_the_lowest_loss_are_kept_apart():
    history = [(10, 0.1, 5.0), (20, 0.3, 6.0), (30, 0.2, 4.0), (40, 0.3, 4.0), (50, -0.5, 9.0)]
    steps = follow(history, patience=1000)
    assert [kept(s.cobps)[1] for s, _ in steps] == [10, 20, 20, 20, 20]
    assert [kept(s.loss)[1] for s, _ in steps] == [10, 10, 30, 30, 30]
    final = steps[-1][0]
    assert kept(final.cobps) == (np.float32(0.3), 20, 20.0)
    assert kept(final.loss) == (4.0, 30, 30.0)
    assert all(going for _, going in steps)


def test_nan_improves_nothing():
    history = [(10, math.nan, math.nan), (20, 0.1, 2.0), (30, math.nan, math.nan)]
    steps = follow(history, patience=1000)
    assert kept(steps[0][0].cobps) == (-math.inf, 0, 0.0)
    assert kept(steps[0][0].loss) == (math.inf, 0, 0.0)
    assert kept(steps[2][0].cobps) == (np.float32(0.1), 20, 20.0)
    assert kept(steps[2][0].loss) == (2.0, 20, 20.0)
    # One score may be unknown where the other improves.
    mixed = follow([(10, 0.1, 2.0), (20, math.nan, 1.0)], patience=1000)[-1][0]
    assert (kept(mixed.cobps)[1], kept(mixed.loss)[1]) == (10, 20)


def test_patience_counts_from_the_last_improvement_of_either_score():
    history = [(10, 0.1, 5.0), (20, 0.0, 4.0), (30, 0.0, 6.0), (40, 0.0, 6.0), (50, 0.0, 6.0)]
    assert [going for _, going in follow(history, patience=21)] == [True, True, True, True, False]
    assert [going for _, going in follow(history, patience=20)] == [True, True, True, False, False]
    never = [(10 * i, math.nan, math.nan) for i in range(1, 5)]
    assert [going for _, going in follow(never, patience=30)] == [True, True, False, False]


def test_a_stopped_member_keeps_what_it_has():
    history = [(10, 0.1, 5.0), (30, 0.0, 6.0), (40, 0.9, 0.1)]
    steps = follow(history, patience=20)
    assert [going for _, going in steps] == [True, False, False]
    assert kept(steps[-1][0].cobps) == (np.float32(0.1), 10, 10.0)
    assert kept(steps[-1][0].loss) == (5.0, 10, 10.0)


def test_members_are_selected_one_by_one():
    several = jax.vmap(
        lambda *own: best_weights.update(*own[:4], jnp.int32(5), own[4], patience=10)
    )
    start = jax.vmap(best_weights.init)({"w": jnp.zeros(3)})
    cobps, loss = jnp.array([0.2, math.nan, 0.9]), jnp.array([1.0, 2.0, 0.1])
    active = jnp.array([True, True, False])
    found, going = several(start, {"w": jnp.arange(3.0)}, cobps, loss, active)
    np.testing.assert_array_equal(found.cobps.epoch, [5, 0, 0])
    np.testing.assert_array_equal(found.loss.epoch, [5, 5, 0])
    np.testing.assert_array_equal(found.loss.params["w"], [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(going, [True, True, False])


def test_the_last_weights_where_nothing_selects():
    found = best_weights.last({"w": jnp.float32(2.0)}, jnp.int32(70))
    for best in found:
        value, epoch, weights = kept(best)
        assert math.isnan(value)
        assert (epoch, weights) == (70, 2.0)


def test_leaves_share_no_buffer():
    params = {"w": jnp.ones(3)}
    start = best_weights.init(params)
    pointers = {
        leaf.unsafe_buffer_pointer()
        for leaf in (params["w"], start.cobps.params["w"], start.loss.params["w"])
    }
    assert len(pointers) == 3
