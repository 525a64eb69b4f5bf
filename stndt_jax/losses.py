"""Losses, elementwise; masking and reduction stand apart as (sum, count)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from stndt_jax.types import Array, Bool, Float


def poisson_nll(z: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Poisson negative log-likelihood ``exp(z) - x z`` of counts ``x`` at log-rates ``z``.

    In nats, the term ``log x!``, which no model changes, dropped.
    """
    return jnp.exp(z) - x * z


def masked_sum(
    values: Float[Array, "..."], mask: Bool[Array, "..."]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum of the values where ``mask`` is true, and how many there are."""
    return jnp.sum(values, where=mask), jnp.sum(mask, dtype=jnp.float32)


def mean(total: Float[Array, ""], count: Float[Array, ""]) -> Float[Array, ""]:
    """``total / count``, 0 where there is nothing to average."""
    return total / jnp.maximum(count, 1.0)


def info_nce(
    a_BE: Float[Array, "B E"], b_BE: Float[Array, "B E"], temperature: Array
) -> Float[Array, "rows"]:
    """Contrastive loss of every row of two views.

    Each of the 2B rows has its other view as the positive and all other rows but itself as
    negatives; the loss is the cross-entropy of cosine similarities over ``temperature``.

    Args:
      a_BE: features of the first view, one row a trial.
      b_BE: features of the second view.
      temperature: tau.

    Returns:
      The losses of the rows of ``a`` then ``b``, shape ``(2B,)``, in nats. Source: Chen et
      al., ICML 2020, equation 1.
    """
    B = a_BE.shape[0]
    rows = jnp.concatenate([a_BE, b_BE]).astype(jnp.float32)
    norm = jnp.sqrt(jnp.maximum(jnp.sum(rows * rows, axis=-1, keepdims=True), 1e-16))
    unit = rows / norm
    similarity = unit @ unit.T / temperature
    itself = jnp.eye(2 * B, dtype=bool)
    log_p = jax.nn.log_softmax(jnp.where(itself, -jnp.inf, similarity), axis=-1)
    other_view = jnp.roll(jnp.arange(2 * B), B)
    return -jnp.take_along_axis(log_p, other_view[:, None], axis=-1)[:, 0]
