"""Rematerialisation changes memory alone, the generator the draws alone."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.training import step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=20, bins_forward=4, heldin=12, heldout=4)


def arch(remat: bool = False, rng: str = "threefry") -> tuple[step.Arch, schema.Hyper]:
    plain = default.get_config().to_dict()
    plain["model"] |= {"layers": 2, "heads": 2, "feedforward": 8, "remat": remat}
    plain["train"] |= {"rng": rng}
    plain["contrast"] |= {"enabled": False}
    whole = schema.from_mapping(plain)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), schema.hyper(whole))
    return step.arch(whole, DIMS, 1), hyper


def batch() -> step.Batch:
    counts = np.random.default_rng(0).poisson(0.6, (16, DIMS.bins, DIMS.neurons))
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.ones(counts.shape, bool))


@functools.cache
def gradients(remat: bool) -> tuple[Any, int]:
    """Raw gradients, dropout included, and the bytes kept for the backward pass."""
    static, hyper = arch(remat)
    params = jax.jit(functools.partial(step.init, static))(hyper).params

    def loss(params: Any) -> Any:
        noise = step.key(hyper.seed, "train", 3)
        return step.loss(static, params, hyper, batch(), noise, jnp.float32(0.0))[0]

    kept = jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params))
    return jax.jit(jax.grad(loss))(params), sum(x.size * x.dtype.itemsize for x in kept)


@pytest.mark.long
def test_rematerialised_layers_have_the_same_gradients_in_less_memory() -> None:
    (plain, memory), (again, less) = gradients(False), gradients(True)
    assert str(jax.tree.structure(plain)) == str(jax.tree.structure(again))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(np.abs(a).max(), 1e-3)
    assert less < 0.8 * memory


def test_the_generator_of_a_step() -> None:
    (threefry, hyper), (rbg, _) = arch(), arch(rng="rbg")
    usual, fast = (step.noise_of(static, hyper, jnp.int32(5)) for static in (threefry, rbg))
    assert (jax.random.key_impl(usual), jax.random.key_impl(fast)) == ("threefry2x32", "rbg")
    np.testing.assert_array_equal(
        jax.random.key_data(usual), jax.random.key_data(step.key(hyper.seed, "train", 5))
    )
    again, later = (step.noise_of(rbg, hyper, jnp.int32(i)) for i in (5, 6))
    np.testing.assert_array_equal(jax.random.key_data(fast), jax.random.key_data(again))
    assert (jax.random.key_data(fast) != jax.random.key_data(later)).all()
    # Uniform, as the draws of the other are.
    draws = np.asarray(jax.random.uniform(fast, (4000,)))
    assert abs(draws.mean() - 0.5) < 0.03 and draws.min() >= 0 and draws.max() < 1


@pytest.mark.long
def test_a_step_under_the_other_generator() -> None:
    losses = {}
    for rng in ("threefry", "rbg"):
        static, hyper = arch(rng=rng)
        state = jax.jit(functools.partial(step.init, static))(hyper)
        run = jax.jit(functools.partial(step.train_step, static))
        losses[rng] = [float(run(state, hyper, batch())[1]["loss"]) for _ in range(2)]
        assert losses[rng][0] == losses[rng][1]
    # The same weights and trials, other masks.
    assert losses["rbg"][0] != losses["threefry"][0]
    assert losses["rbg"][0] == pytest.approx(losses["threefry"][0], rel=0.1)
