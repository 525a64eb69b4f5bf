"""The lifts: members are models trained alone, epochs are permutations, batches add up."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.parallel import lifts, multihost
from stndt_jax.training import step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=4, bins_forward=2, heldin=3, heldout=1)
TRIALS, BATCH, EPOCHS, MEMBERS = 9, 4, 10, 4
STEPS = TRIALS // BATCH
DIVERGING = 2


def whole() -> schema.Config:
    plain = default.get_config().to_dict()
    plain["population"] = MEMBERS
    plain["model"] |= {"layers": 1, "heads": 1, "feedforward": 4}
    plain["train"] |= {"epochs": EPOCHS, "batch": BATCH}
    plain["members"] |= {
        "seed": (3, 8, 5, 6),
        "learning_rate": (1e-3, 3e-3, 5e-3, 2e-3),
        "weight_decay": (0.0, 1e-2, 1e-3, 0.0),
        "warmup_epochs": (0.0, 2.0, 4.0, 1.0),
        "dropout": (0.0, 0.1, 0.3, 0.2),
        "dropout_rates": (0.3, 0.0, 0.1, 0.2),
        "dropout_embedding": (0.1, 0.2, 0.0, 0.3),
        "context_forward": (0, 1, -1, 3),
        "context_backward": (2, 0, 1, 3),
        "mask_ratio": (0.1, 0.2, 0.3, 0.4),
        "contrast_weight": (0.1, 0.5, 0.0, 0.2),
        "contrast_temperature": (0.07, 0.5, 0.1, 0.2),
    }
    return schema.from_mapping(plain)


CONFIG = whole()
ARCH = step.arch(CONFIG, DIMS, STEPS)
HYPER = jax.tree.map(jnp.asarray, schema.hyper(CONFIG))


def recording() -> step.Batch:
    counts = np.random.default_rng(0).poisson(0.8, (TRIALS, DIMS.bins, DIMS.neurons))
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.ones(counts.shape, bool))


def order(hyper: Any, epoch: Any, trials: int) -> Any:
    return jax.random.permutation(step.key(hyper.seed, "order", epoch), trials)


steps_of = lifts.over_steps(functools.partial(step.train_step, ARCH), order, STEPS, BATCH)


def epochs_of(state: Any, hyper: Any, data: Any, first: Any, epochs: Any) -> Any:
    """Whole epochs, with the means of the metrics."""
    state, totals = steps_of(state, step.no_metrics(), hyper, data, first * STEPS, epochs * STEPS)
    return state, {name: totals[name] / totals["steps"] for name in step.METRICS}


start_alone = jax.jit(functools.partial(step.init, ARCH))
train_alone = jax.jit(epochs_of)
train_all = jax.jit(lifts.over_members(epochs_of, shared=3, vmapped=True))
train_each = jax.jit(lifts.over_members(epochs_of, shared=3, vmapped=False))


def member(tree: Any, k: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[k], tree)


@functools.cache
def started() -> step.State:
    """Four models, each drawn alone, side by side."""
    alone = [start_alone(member(HYPER, k)) for k in range(MEMBERS)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)


def run(state: step.State, hyper: schema.Hyper, first: int, epochs: int) -> Any:
    return train_all(state, hyper, recording(), jnp.int32(first), jnp.int32(epochs))


@functools.cache
def trained(together: bool = True) -> tuple[step.State, dict[str, Any]]:
    if together:
        return run(started(), HYPER, 0, EPOCHS)
    return train_each(started(), HYPER, recording(), jnp.int32(0), jnp.int32(EPOCHS))


def same(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=True)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def determined(params: Any) -> dict[str, np.ndarray]:
    """Weights by path, without the biases of keys.

    A constant added to all keys adds one number to a whole row of scores, which softmax takes
    away again: its gradient is zero but for rounding, and Adam makes steps of full length of
    that rounding. Nothing the model says depends on it.
    """
    leaves, _ = jax.tree.flatten_with_path(params)
    flat = {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}
    T, N = DIMS.bins, DIMS.neurons
    for name, width in (("temporal/qkv", N), ("spatial/qk", T)):
        path = f"layers_0/{name}/bias"
        flat[path] = np.delete(flat[path], slice(width, 2 * width))
    return flat


@pytest.mark.slow
def test_members_are_drawn_as_alone():
    together = jax.jit(lifts.over_members(functools.partial(step.init, ARCH)))(HYPER)
    assert same(together, started())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("k", range(MEMBERS))
def test_a_member_is_the_same_model_trained_alone(k, together):
    state, metrics = trained(together)
    alone, own = train_alone(
        member(started(), k), member(HYPER, k), recording(), jnp.int32(0), jnp.int32(EPOCHS)
    )
    assert int(alone.step) == int(state.step[k]) == EPOCHS * STEPS == 20
    found, start = determined(member(state.params, k)), determined(member(started().params, k))
    for name, wanted in determined(alone.params).items():
        scale = max(np.abs(wanted).max(), 1e-2)
        assert np.abs(found[name] - wanted).max() < 1e-5 * scale, name
        assert np.abs(start[name] - wanted).max() > 2e-5 * scale, name
    for name in own:
        assert float(own[name]) == pytest.approx(float(metrics[name][k]), rel=1e-5), name


@pytest.mark.slow
def test_members_on_the_cores_of_a_cpu_are_those_of_one_device():
    grid = lifts.mesh(MEMBERS)
    assert grid is not None and grid.shape == {"member": MEMBERS, "data": 1}
    assert not lifts.together(grid) and lifts.together(lifts.mesh(MEMBERS, 2))
    own = multihost.placed((started(), HYPER), lifts.of_members(grid))
    everyones = (recording(), jnp.int32(0), jnp.int32(EPOCHS))
    train = jax.jit(lifts.over_members(epochs_of, shared=3, grid=grid))
    state, metrics = train(*own, *multihost.placed(everyones, lifts.of_all(grid)))
    wanted, values = trained(False)
    for k in range(MEMBERS):
        own = determined(member(state.params, k))
        for name, leaf in determined(member(wanted.params, k)).items():
            assert np.abs(own[name] - leaf).max() < 1e-5 * max(np.abs(leaf).max(), 1e-2), name
    for name, value in values.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({"STNDT_CORES": "3"}, 3),
        ({}, 1),
        ({"STNDT_CORES": "3", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, 2),
        ({"STNDT_CORES": "3", "JAX_NUM_CPU_DEVICES": "5"}, 5),
    ],
)
def test_a_cpu_is_as_many_devices_as_asked_for(environment: dict[str, str], devices: int):
    code = "import jax, stndt_jax.parallel.lifts; print(jax.device_count())"
    names = ("STNDT_CORES", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare | environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(devices), done.stderr


def test_members_differ():
    kernel = np.asarray(trained()[0].params["decoder"]["kernel"])
    for a in range(MEMBERS):
        for b in range(a):
            assert (kernel[a] != kernel[b]).all()


def test_a_diverging_member_is_frozen_and_leaves_the_others_alone():
    rates = HYPER.learning_rate.at[DIVERGING].set(1e30)
    wild = HYPER._replace(learning_rate=rates, warmup_epochs=jnp.zeros(MEMBERS))
    tame = HYPER._replace(warmup_epochs=jnp.zeros(MEMBERS))
    state, metrics = run(started(), wild, 0, EPOCHS)
    wanted, _ = run(started(), tame, 0, EPOCHS)
    others = [k for k in range(MEMBERS) if k != DIVERGING]
    for k in others:
        assert same(member(state, k), member(wanted, k))
        assert np.isfinite(metrics["loss"][k])
    np.testing.assert_array_equal(state.healthy, [k != DIVERGING for k in range(MEMBERS)])
    np.testing.assert_array_equal(state.active, state.healthy)
    assert int(state.step[DIVERGING]) < EPOCHS * STEPS
    frozen = member((state.params, state.opt_state), DIVERGING)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(frozen))


def test_inactive_members_do_not_change():
    active = jnp.array([True, False, True, False])
    state, _ = run(started()._replace(active=active), HYPER, 0, EPOCHS)
    wanted, _ = trained()
    for k in range(MEMBERS):
        if active[k]:
            assert same(member(state, k), member(wanted, k))
        else:
            resting = member(started()._replace(active=active), k)
            assert same(member(state, k), resting)


def test_two_chunks_with_the_state_put_away_between_are_one_run():
    first, _ = run(started(), HYPER, 0, 3)
    put_away = jax.tree.map(np.array, first)
    found, _ = run(jax.tree.map(jnp.asarray, put_away), HYPER, 3, EPOCHS - 3)
    assert same(found, trained()[0])


def test_one_compilation_serves_any_number_of_epochs():
    for epochs in (1, 2, 5):
        state, _ = run(started(), HYPER, 0, epochs)
        np.testing.assert_array_equal(state.step, [epochs * STEPS] * MEMBERS)
    assert train_all._cache_size() == 1


# --- epochs over a step that only writes down what it is given --------------------------


@functools.cache
def written(seed: int) -> np.ndarray:
    """The trials of every step, (epochs, steps, batch), of six epochs from the second."""

    def note(state: Any, hyper: Any, batch: Any) -> Any:
        i, seen = state
        metrics = {"sum": jnp.sum(batch).astype(jnp.float32), "step": i.astype(jnp.float32)}
        return (i + 1, seen.at[i].set(batch)), metrics

    lifted = jax.jit(lifts.over_steps(note, order, STEPS, BATCH))
    state = (jnp.int32(0), jnp.full((6 * STEPS, BATCH), -1))
    totals = {"sum": jnp.float32(0.0), "step": jnp.float32(0.0)}
    scalars = member(HYPER, 0)._replace(seed=jnp.int32(seed))
    # Cut at places that are no ends of epochs.
    for first, steps in ((STEPS, 1), (STEPS + 1, 4), (STEPS + 5, 6 * STEPS - 5)):
        state, totals = lifted(
            state, totals, scalars, jnp.arange(TRIALS), jnp.int32(first), jnp.int32(steps)
        )
    seen = state[1]
    assert float(totals["step"]) == sum(range(6 * STEPS))
    assert float(totals["sum"]) == pytest.approx(float(seen.sum()))
    return np.asarray(seen).reshape(6, STEPS, BATCH)


def test_every_trial_at_most_once_in_an_epoch():
    for epoch in written(3):
        assert len(set(epoch.ravel())) == STEPS * BATCH
        assert set(epoch.ravel()) <= set(range(TRIALS))
    # The remainder is not always the same trial.
    left = [set(range(TRIALS)) - set(epoch.ravel()) for epoch in written(3)]
    assert len(set.union(*left)) > 1


def test_the_order_differs_by_epoch_and_by_seed():
    orders = [tuple(epoch.ravel()) for seed in (3, 4) for epoch in written(seed)]
    assert len(set(orders)) == 12
    # It is a function of the epoch's own number: these began with epoch 1.
    wanted = order(member(HYPER, 0)._replace(seed=jnp.int32(3)), jnp.int32(1), TRIALS)
    np.testing.assert_array_equal(written(3)[0].ravel(), wanted[: STEPS * BATCH])


# --- scoring ----------------------------------------------------------------------------


def test_batches_add_up_to_all_trials():
    score = functools.partial(step.evaluate_step, ARCH)
    scalars = member(HYPER, 1)._replace(mask_ratio=jnp.float32(0.0))
    params = member(started().params, 1)
    known = np.random.default_rng(1).random((TRIALS, DIMS.bins, DIMS.neurons)) < 0.8
    data = step.Batch(recording().counts, jnp.asarray(known))
    whole_ = jax.jit(score)(params, scalars, data, jnp.int32(0)).values()
    parts = jax.jit(lifts.over_batches(score, BATCH))(params, scalars, data).values()
    for name in whole_:
        assert float(parts[name]) == pytest.approx(float(whole_[name]), rel=1e-5), name


@pytest.mark.parametrize("batch", [1, 4, 9, 20])
def test_the_last_batch_is_filled_with_unknown_entries(batch):
    data = step.Batch(jnp.arange(1, 10)[:, None], jnp.ones((9, 1), bool))

    def score(params: Any, hyper: Any, batch: step.Batch, index: Any) -> Any:
        known = batch.has_count.sum()
        return {"counts": batch.counts.sum(), "known": known, "where": index * known}

    found = jax.jit(lifts.over_batches(score, batch))(None, None, data)
    assert (int(found["counts"]), int(found["known"])) == (45, 9)
    assert int(found["where"]) == sum(i // batch for i in range(9))


@pytest.mark.parametrize("together", [True, False])
def test_members_share_the_last_arguments(together):
    lifted = lifts.over_members(
        lambda own, other, shared: own * shared.sum() + other, shared=1, vmapped=together
    )
    found = lifted(jnp.array([1.0, 2.0]), jnp.array([5.0, 7.0]), jnp.array([3.0, 4.0]))
    np.testing.assert_array_equal(found, [12.0, 21.0])


def test_an_option_of_the_users_is_left_alone(monkeypatch):
    assert lifts.compiler_options.__wrapped__() != {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert lifts.compiler_options.__wrapped__() == {}


def test_an_unknown_option_is_done_without(monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    monkeypatch.setattr(jax, "jit", refuse)
    assert lifts.compiler_options.__wrapped__() == {}
