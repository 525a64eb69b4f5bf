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


def info_nce(rows_VE: Float[Array, "V E"], temperature: Array) -> Float[Array, "V"]:
    """Contrastive loss of every row of two views.

    Each of the 2B rows has its other view as the positive and all other rows but itself as
    negatives; the loss is the cross-entropy of cosine similarities over ``temperature``.

    Args:
      rows_VE: features, one row a trial: the first view's B trials, then the second's.
      temperature: tau.

    Returns:
      The loss of every row, in nats. Source: Chen et al., ICML 2020, equation 1.
    """
    V = rows_VE.shape[0]
    # Norms are read off the Gram matrix: the rows are long, and passes over them are what costs.
    gram_VV = jnp.matmul(rows_VE, rows_VE.T, precision="highest")
    norm_V = jnp.sqrt(jnp.maximum(jnp.diagonal(gram_VV), 1e-16))
    similarity_VV = gram_VV / (norm_V[:, None] * norm_V[None, :] * temperature)
    itself = jnp.eye(V, dtype=bool)
    log_p = jax.nn.log_softmax(jnp.where(itself, -jnp.inf, similarity_VV), axis=-1)
    other_view = jnp.roll(jnp.arange(V), V // 2)
    return -jnp.take_along_axis(log_p, other_view[:, None], axis=-1)[:, 0]
