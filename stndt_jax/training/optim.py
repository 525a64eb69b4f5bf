"""AdamW with a schedule, every number of it traceable and counted in epochs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from stndt_jax.config.schema import OptimizerConfig
from stndt_jax.types import Array, Params


def schedule(kind: str, epoch: Array, epochs: float, warmup: Array) -> Array:
    """Learning rate at ``epoch`` (fractions count) as a share of its peak.

    Linear warm-up over ``warmup`` epochs, then a cosine to 0 at ``epochs``, or
    ``sqrt(warmup / epoch)``, or a constant. Written out because optax's schedules refuse a
    traced peak and warm-up.
    """
    rising = epoch / jnp.maximum(warmup, 1e-6)
    if kind == "cosine":
        done = jnp.clip((epoch - warmup) / jnp.maximum(epochs - warmup, 1e-6), 0.0, 1.0)
        after = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    elif kind == "inverse_sqrt":
        start = jnp.maximum(warmup, 1.0)
        after = jnp.sqrt(start / jnp.maximum(epoch, start))
    else:
        after = jnp.ones_like(epoch)
    return jnp.where(epoch < warmup, rising, after)


def transformation(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam's direction (eps 1e-8)."""
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam(eps=1e-8))


def update(
    config: OptimizerConfig,
    grads: Params,
    opt_state: Any,
    params: Params,
    learning_rate: Array,
    weight_decay: Array,
) -> tuple[Params, Any]:
    """One AdamW step, ``p -= lr (adam + decay p)``, at a traced rate and decay.

    Returns:
      New parameters and optimiser state.
    """
    direction, opt_state = transformation(config).update(grads, opt_state, params)
    params = jax.tree.map(
        lambda p, d: p - learning_rate * (d + weight_decay * p), params, direction
    )
    return params, opt_state
