"""Schedules and AdamW against optax and against a step written out."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.training import optim

OPTIMIZER = schema.from_mapping(default.get_config().to_dict()).optimizer
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def scheduled(kind: str, epochs: np.ndarray, last: float, warmup: float) -> np.ndarray:
    one = lambda epoch: optim.schedule(kind, epoch, last, jnp.float32(warmup))  # noqa: E731
    return np.asarray(jax.vmap(one)(jnp.asarray(epochs, jnp.float32)))


@pytest.mark.parametrize("warmup", [5, 20])
def test_cosine_equals_optax(warmup):
    epochs = np.arange(41)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, decay_steps=40, end_value=0.0)
    wanted = [float(theirs(epoch)) for epoch in epochs]
    np.testing.assert_allclose(scheduled("cosine", epochs, 40, warmup), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "inverse_sqrt", "constant"])
def test_schedules_by_hand_between_whole_epochs(kind):
    after = {
        "cosine": lambda e: 0.5 * (1 + math.cos(math.pi * min((e - 4.0) / 16.0, 1.0))),
        "inverse_sqrt": lambda e: math.sqrt(4.0 / e),
        "constant": lambda e: 1.0,
    }[kind]
    epochs = np.array([0.0, 0.5, 3.75, 4.0, 4.25, 12.0, 19.75, 20.0, 25.0])
    wanted = [e / 4.0 if e < 4.0 else after(e) for e in epochs]
    np.testing.assert_allclose(scheduled(kind, epochs, 20, 4.0), wanted, atol=1e-6)


def test_schedules_without_warm_up_start_at_their_peak_and_stay_below():
    epochs = np.array([0.0, 0.25, 1.0, 7.0, 10.0])
    np.testing.assert_allclose(
        scheduled("cosine", epochs, 10, 0.0), 0.5 * (1 + np.cos(np.pi * epochs / 10)), atol=1e-6
    )
    np.testing.assert_allclose(
        scheduled("inverse_sqrt", epochs, 10, 0.0), 1 / np.sqrt(np.maximum(epochs, 1)), atol=1e-6
    )
    np.testing.assert_array_equal(scheduled("constant", epochs, 10, 0.0), 1.0)
    # A warm-up longer than the run never gets to its peak.
    np.testing.assert_allclose(scheduled("cosine", epochs, 10, 20.0), epochs / 20, atol=1e-7)


def trajectory(
    optimizer: schema.OptimizerConfig, grads: list, params: dict, rate: float, decay: float
):
    """Parameters after every step."""

    @jax.jit
    def step(g, s, p):
        chain = optim.optimizer(optimizer, jnp.float32(rate), jnp.float32(decay))
        updates, s = chain.update(g, s, p)
        return optax.apply_updates(p, updates), s

    state = optim.init(optimizer, params)
    found = []
    for g in grads:
        params, state = step(g, state, params)
        found.append(params)
    return found


def problem() -> tuple[list, dict]:
    rng = np.random.default_rng(0)
    draw = lambda: {  # noqa: E731
        "w": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=2), jnp.float32),
    }
    return [draw() for _ in range(6)], draw()


def test_equals_optax_adamw():
    grads, params = problem()
    theirs = optax.adamw(0.02, b1=BETA1, b2=BETA2, eps=EPSILON, weight_decay=0.3)
    found = trajectory(OPTIMIZER, grads, params, 0.02, 0.3)
    state = theirs.init(params)
    for g, ours in zip(grads, found, strict=True):
        updates, state = theirs.update(g, state, params)
        params = optax.apply_updates(params, updates)
        for name in params:
            np.testing.assert_allclose(ours[name], params[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clip", [200.0, 1.5])
def test_equals_the_steps_written_out(clip):
    grads, start = problem()
    found = trajectory(
        dataclasses.replace(OPTIMIZER, clip_norm=clip), grads, start, rate=0.02, decay=0.3
    )
    names = list(start)
    p = {n: np.asarray(start[n], np.float64) for n in names}
    m, v = ({n: np.zeros_like(p[n]) for n in names} for _ in range(2))
    clipped = 0
    for t, (g, ours) in enumerate(zip(grads, found, strict=True), start=1):
        norm = math.sqrt(sum((np.asarray(g[n], np.float64) ** 2).sum() for n in names))
        clipped += norm > clip
        for n in names:
            slope = np.asarray(g[n], np.float64) * min(1.0, clip / norm)
            m[n] = BETA1 * m[n] + (1 - BETA1) * slope
            v[n] = BETA2 * v[n] + (1 - BETA2) * slope**2
            adam = (m[n] / (1 - BETA1**t)) / (np.sqrt(v[n] / (1 - BETA2**t)) + EPSILON)
            p[n] = p[n] - 0.02 * (adam + 0.3 * p[n])
            np.testing.assert_allclose(ours[n], p[n], rtol=1e-5, atol=1e-6)
    assert clipped == (0 if clip == 200.0 else len(grads))
