"""Packed parameters against ``jax.flatten_util`` and against arithmetic by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from stndt_jax.training.packing import Packing


@pytest.fixture
def params() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"layer": {"kernel": (3, 4), "bias": (4,)}, "mean": (5,), "scale": ()}
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda part: isinstance(part, tuple),
    )


def packing_of(params: dict[str, Any], *still: str) -> Packing:
    held = {name: jax.tree.map(lambda _, n=name: n in still, part) for name, part in params.items()}
    return Packing(params, held)


def test_a_vector_holds_the_numbers_in_the_order_of_the_leaves(params: dict[str, Any]) -> None:
    packed = packing_of(params).pack(params)
    assert list(packed) == ["float32"]
    np.testing.assert_array_equal(packed["float32"], ravel_pytree(params)[0])


def test_unpacked_is_what_was_packed(params: dict[str, Any]) -> None:
    packing = packing_of(params)
    jax.tree.map(np.testing.assert_array_equal, packing.unpack(packing.pack(params)), params)


def test_numbers_of_two_types_are_two_vectors(params: dict[str, Any]) -> None:
    params["layer"]["kernel"] = params["layer"]["kernel"].astype(jnp.bfloat16)
    packing = packing_of(params, "layer")
    packed = packing.pack(params)
    assert {kind: vector.shape for kind, vector in packed.items()} == {
        "float32": (4 + 5 + 1,),
        "bfloat16": (12,),
    }
    back = packing.unpack(packed)
    assert back["layer"]["kernel"].dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, back, params)
    moved = packing.hold(packed, jax.tree.map(lambda vector: vector + 1, packed))
    held = packing.unpack(moved)
    jax.tree.map(np.testing.assert_array_equal, held["layer"], params["layer"])
    np.testing.assert_array_equal(held["mean"], params["mean"] + 1)


def test_what_no_step_changes_stays(params: dict[str, Any]) -> None:
    packing = packing_of(params, "mean", "scale")
    before = packing.pack(params)
    after = jax.tree.map(lambda vector: vector * 2, before)
    found = packing.unpack(packing.hold(before, after))
    np.testing.assert_array_equal(found["mean"], params["mean"])
    np.testing.assert_array_equal(found["scale"], params["scale"])
    np.testing.assert_array_equal(found["layer"]["kernel"], params["layer"]["kernel"] * 2)
    np.testing.assert_array_equal(found["layer"]["bias"], params["layer"]["bias"] * 2)


def test_an_optimiser_on_vectors_is_the_optimiser_on_arrays(params: dict[str, Any]) -> None:
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    grads = jax.tree.map(jnp.sin, params)
    packing = packing_of(params)
    state = optimizer.init(params)
    vectors = packing.pack_all(state)
    plain, packed = params, packing.pack(params)
    for _ in range(3):
        updates, state = optimizer.update(grads, state, plain)
        plain = optax.apply_updates(plain, updates)
        updates, vectors = optimizer.update(packing.pack(grads), vectors, packed)
        packed = optax.apply_updates(packed, updates)
    jax.tree.map(np.testing.assert_array_equal, packing.unpack(packed), plain)
    unpacked = packing.unpack_all(vectors, state)
    jax.tree.map(np.testing.assert_array_equal, unpacked, state)
