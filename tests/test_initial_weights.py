"""Weights sampled in one operation are those that Flax samples one after another."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.models import initial_weights, layers
from stndt_jax.training import step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=5, bins_forward=1, heldin=5, heldout=3)
CHANGES: list[dict[str, dict[str, Any]]] = [
    {},
    {"model": {"position": "learned", "spatial": False}},
    {"model": {"width": 6, "input": "standardised", "rate_start": "mean", "smooth": 1.5}},
    {"contrast": {"enabled": True, "projector": "mlp"}},
    {"model": {"tfixup": False, "remat": True, "layers": 3}},
]


def arch_of(changes: dict[str, dict[str, Any]]) -> tuple[step.Arch, schema.Hyper]:
    mapping = tiny.get_config().to_dict()
    for section, values in changes.items():
        mapping[section] |= values
    config = schema.from_mapping(mapping)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), schema.hyper(config))
    return step.arch(config, DIMS, 1), hyper


def assert_same(found: Any, expected: Any) -> None:
    assert str(jax.tree.structure(found)) == str(jax.tree.structure(expected))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("changes", "seed"), [*((c, 0) for c in CHANGES), (CHANGES[0], 2**31 - 1)])
def test_a_model_starts_with_the_weights_of_flax(changes: dict[str, Any], seed: int) -> None:
    arch, hyper = arch_of(changes)
    hyper = hyper._replace(seed=jnp.int32(seed))
    found = jax.jit(functools.partial(step.init, arch))(hyper).params
    x_BTN = jnp.zeros((1, DIMS.bins, DIMS.neurons))
    # Compiled too, because a compiled sum of products may be rounded once.
    expected = jax.jit(arch.network.init)(step.key(hyper.seed, "init"), x_BTN)["params"]
    assert_same(found, expected)


class Mixed(nn.Module):
    """Uniform and other parameters, keys for other uses, and a module within a module."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first = self.param("z_first", initial_weights.uniform(0.5), (3,))
        normal = self.param("normal", nn.initializers.normal(), (200,))
        second = self.param("a_second", initial_weights.uniform(2.0), (7, 41))
        half = self.param("half", initial_weights.uniform(1.0), (2,), jnp.bfloat16)
        inner = layers.Linear(4, 300, name="inner")(x)
        return inner + first.sum() + normal.sum() + second.sum() + half.sum()


def test_of_any_module() -> None:
    def init(key: jax.Array) -> Any:
        return Mixed().init(key, jnp.ones((1, 4)))["params"]

    key = jax.random.key(3)
    found = jax.jit(lambda key: initial_weights.in_one(init, key))(key)
    assert_same(found, jax.jit(init)(key))
    # More than one block of rows, and none of its numbers beyond the bounds.
    assert np.abs(found["a_second"]).max() <= 2 < 2 * np.abs(found["a_second"]).max()


class Scanned(nn.Module):
    """Parameters that are made within a transform."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        step = nn.scan(
            lambda module, x, _: (layers.Linear(4, 4, name="in")(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        return layers.Linear(4, 4, name="out")(step(self, x, None)[0])


def test_parameters_of_a_transform_are_left_to_flax() -> None:
    def init(key: jax.Array) -> Any:
        return Scanned().init(key, jnp.ones((1, 4)))["params"]

    key = jax.random.key(3)
    found = jax.jit(lambda key: initial_weights.in_one(init, key))(key)
    assert_same(found, jax.jit(init)(key))
    assert found["in"]["kernel"].std() > 0.1


def test_members_of_a_population_have_weights_of_their_own() -> None:
    arch, hyper = arch_of({})
    seeds = jnp.arange(3, dtype=jnp.int32)

    def weights(seed: jax.Array) -> Any:
        return step.init(arch, hyper._replace(seed=seed)).params

    together = jax.jit(jax.vmap(weights))(seeds)
    alone = [jax.jit(weights)(seed) for seed in seeds]
    assert_same(together, jax.tree.map(lambda *leaves: np.stack(leaves), *alone))


def test_other_generators_are_sampled_as_before() -> None:
    def init(key: jax.Array) -> Any:
        return layers.Linear(4, 3).init(key, jnp.ones((1, 4)))["params"]

    key = jax.random.key(1, impl="rbg")
    assert_same(initial_weights.in_one(init, key), init(key))


def test_nothing_to_sample() -> None:
    params = {"gain": jnp.ones(2)}
    assert initial_weights.in_one(lambda key: params, jax.random.key(0)) is params
