"""Random bits are JAX's own, whatever the size and however they are drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stndt_jax.models import threefry


@pytest.mark.parametrize("size", [1, 7, 8, 1000, 70001])
@pytest.mark.parametrize("seed", [0, 3, 2**31 - 1])
def test_bits_are_those_of_jax(seed: int, size: int) -> None:
    key = jax.random.fold_in(jax.random.key(seed), size)
    np.testing.assert_array_equal(
        threefry.bits(key, size), jax.random.bits(key, (size,), jnp.uint32)
    )


def test_uniform_is_that_of_jax() -> None:
    key = jax.random.key(5)
    np.testing.assert_array_equal(
        threefry.uniform(key, (3, 41, 7)), jax.random.uniform(key, (3, 41, 7))
    )


def test_many_keys_under_vmap_and_jit() -> None:
    keys = jax.random.split(jax.random.key(1), 3)
    drawn = jax.jit(jax.vmap(lambda key: threefry.uniform(key, (10, 9))))(keys)
    for one, key in zip(drawn, keys, strict=True):
        np.testing.assert_array_equal(one, jax.random.uniform(key, (10, 9)))


def test_samples_of_many_keys_and_sizes_are_those_of_each() -> None:
    sizes = [1, 127, 128, 129, 3000, 2, 128]
    keys = jax.random.split(jax.random.key(4), len(sizes))
    found = jax.jit(lambda keys: threefry.uniforms(keys, sizes))(keys)
    for part, key, size in zip(found, keys, sizes, strict=True):
        np.testing.assert_array_equal(part, jax.random.uniform(key, (size,)))


def test_another_generator_is_left_to_jax() -> None:
    key = jax.random.key(2, impl="rbg")
    np.testing.assert_array_equal(threefry.bits(key, 9), jax.random.bits(key, (9,), jnp.uint32))


def test_another_device_is_left_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    key = jax.random.key(2)
    np.testing.assert_array_equal(threefry.bits(key, 9), jax.random.bits(key, (9,), jnp.uint32))
