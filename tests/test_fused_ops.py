"""Bias, layer norm and softmax against their formulas in float64, gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stndt_jax.models import fused_ops

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, (3, 5, 7))
SCALE, BIAS = RNG.normal(1.0, 0.5, 7), RNG.normal(size=7)
WEIGHT = RNG.normal(size=X.shape)


def oracle_layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias


def oracle_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(0.3 * x)
    return e / e.sum(-1, keepdims=True)


CASES: dict[str, tuple[Callable, Callable, list[np.ndarray]]] = {
    "add_bias": (fused_ops.add_bias, lambda x, bias: x + bias, [X, BIAS]),
    "layer_norm": (fused_ops.layer_norm, oracle_layer_norm, [X, SCALE, BIAS]),
    "softmax": (lambda x: fused_ops.softmax(x, 0.3), oracle_softmax, [X]),
}


@pytest.fixture(params=["cpu", "gpu"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to sum, computed here."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


def differences(f: Callable, values: list[np.ndarray], which: int) -> np.ndarray:
    """The gradient of ``sum(WEIGHT * f)`` by central differences in float64."""
    gradient = np.zeros_like(values[which])
    for place in np.ndindex(gradient.shape):
        ends = []
        for step in (-1e-6, 1e-6):
            moved = [v.copy() for v in values]
            moved[which][place] += step
            ends.append(np.sum(WEIGHT * f(*moved)))
        gradient[place] = (ends[1] - ends[0]) / 2e-6
    return gradient


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    mine, oracle, values = CASES[name]
    given = [jnp.asarray(v, jnp.float32) for v in values]
    np.testing.assert_allclose(mine(*given), oracle(*values), rtol=2e-5, atol=2e-6)

    def total(*given: Any) -> jax.Array:
        return jnp.sum(jnp.asarray(WEIGHT, jnp.float32) * mine(*given))

    gradients = jax.grad(total, argnums=tuple(range(len(values))))(*given)
    for which, gradient in enumerate(gradients):
        wanted = differences(oracle, values, which)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_no_weight_where_a_score_is_minus_infinity() -> None:
    scores = jnp.asarray(X, jnp.float32).at[:, :, 2].set(-jnp.inf)
    weights = fused_ops.softmax(scores, 0.3)
    assert (np.asarray(weights)[..., 2] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    gradient = jax.grad(lambda s: jnp.sum(fused_ops.softmax(s, 0.3) * WEIGHT))(scores)
    assert np.isfinite(gradient).all() and (np.asarray(gradient)[..., 2] == 0).all()


def test_large_scores_do_not_overflow() -> None:
    weights = fused_ops.softmax(jnp.asarray([[1e4, 0.0], [-1e4, -1e4]]), 1.0)
    np.testing.assert_allclose(weights, [[1.0, 0.0], [0.5, 0.5]])


@pytest.mark.usefixtures("backend")
def test_sums() -> None:
    x = jnp.asarray(X, jnp.float32)
    wanted = (X * SCALE).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        fused_ops.sum_last(x, jnp.asarray(SCALE, jnp.float32)), wanted, rtol=1e-5
    )
    np.testing.assert_allclose(fused_ops.sum_rows(x), X.sum((0, 1)), rtol=1e-5)
    assert fused_ops.sum_rows(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.usefixtures("backend")
def test_members_under_vmap() -> None:
    """A population's norms, each with its own scale, are those of its members."""
    x = jnp.asarray(RNG.normal(size=(4, *X.shape)), jnp.float32)
    scale = jnp.asarray(RNG.normal(size=(4, 7)), jnp.float32)
    bias = jnp.zeros((4, 7))

    def gradients(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        return jax.grad(lambda *v: jnp.sum(fused_ops.layer_norm(*v) ** 3), (0, 1, 2))(
            x, scale, bias
        )

    together = jax.vmap(gradients)(x, scale, bias)
    for i in range(4):
        for mine, alone in zip(together, gradients(x[i], scale[i], bias[i]), strict=True):
            np.testing.assert_allclose(mine[i], alone, rtol=1e-5, atol=1e-5)
