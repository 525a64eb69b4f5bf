"""Bias, layer norm and softmax with gradients written out: what a step does between matmuls.

Gradients derived by the compiler pass over memory about twice as often. On a CPU, sums are
matmuls, because XLA's own sums take several times as long there.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from stndt_jax.types import Array, Float

EPSILON = 1e-5


def sum_last(x: Float[Array, "... n"], weights: Float[Array, " n"]) -> Float[Array, "... 1"]:
    """Weighted sum over the last axis, which stays."""
    if jax.default_backend() != "cpu":
        return jnp.sum(x * along_last(weights, x), axis=-1, keepdims=True)
    sums = jnp.matmul(x.reshape(-1, x.shape[-1]), weights[:, None], precision="highest")
    return sums.reshape(*x.shape[:-1], 1)


def sum_rows(x: Float[Array, "... n"]) -> Float[Array, " n"]:
    """Sum over all axes but the last."""
    rows = x.reshape(-1, x.shape[-1])
    if jax.default_backend() != "cpu":
        return jnp.sum(rows, axis=0)
    return jnp.matmul(jnp.ones((1, rows.shape[0]), x.dtype), rows, precision="highest")[0]


def along_last(values: Float[Array, " n"], x: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """One value for each index of the last axis of ``x``, shaped to be broadcast."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))


@jax.custom_vjp
def add_bias(x: Float[Array, "... n"], bias: Float[Array, " n"]) -> Float[Array, "... n"]:
    """``x + bias``."""
    return x + along_last(bias, x)


def _add_bias(x: Array, bias: Array) -> tuple[Array, None]:
    return add_bias(x, bias), None


def _add_bias_back(_: None, g: Array) -> tuple[Array, Array]:
    return g, sum_rows(g)


add_bias.defvjp(_add_bias, _add_bias_back)


@jax.custom_vjp
def layer_norm(
    x: Float[Array, "... n"], scale: Float[Array, " n"], bias: Float[Array, " n"]
) -> Float[Array, "... n"]:
    """Layer norm over the last axis, epsilon 1e-5."""
    return _layer_norm(x, scale, bias)[0]


def _layer_norm(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    equal = jnp.full(x.shape[-1:], 1.0 / x.shape[-1], x.dtype)
    mean = sum_last(x, equal)
    centred = x - mean
    inverse = jax.lax.rsqrt(sum_last(centred * centred, equal) + EPSILON)
    y = centred * inverse * along_last(scale, x) + along_last(bias, x)
    return y, (x, mean, inverse, scale)


def _layer_norm_back(saved: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    normal = (x - mean) * inverse
    scaled = g * normal
    mean_scale = scale / x.shape[-1]
    spread = sum_last(g, mean_scale) + normal * sum_last(scaled, mean_scale)
    return inverse * (g * along_last(scale, g) - spread), sum_rows(scaled), sum_rows(g)


layer_norm.defvjp(_layer_norm, _layer_norm_back)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(scores: Float[Array, "... n"], scale: float) -> Float[Array, "... n"]:
    """``softmax(scale * scores)`` over the last axis, no weight where a score is ``-inf``.

    ``scale`` is positive and no row is all ``-inf``.
    """
    return _softmax(scores, scale)[0]


def _softmax(scores: Array, scale: float) -> tuple[Array, Array]:
    e = jnp.exp(scale * (scores - jnp.max(scores, axis=-1, keepdims=True)))
    weights = e / sum_last(e, jnp.ones(e.shape[-1:], e.dtype))
    return weights, weights


def _softmax_back(scale: float, weights: Array, g: Array) -> tuple[Array]:
    mean = sum_last(g * weights, jnp.ones(g.shape[-1:], g.dtype))
    return (scale * weights * (g - mean),)


softmax.defvjp(_softmax, _softmax_back)
