"""AdamW with a schedule, every number of it traceable and counted in epochs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from stndt_jax.config.schema import OptimizerConfig
from stndt_jax.types import Array, Params


def schedule(kind: str, epoch: Array, epochs: float, warmup: Array) -> Array:
    """Learning rate at ``epoch`` (fractions count) as a fraction of its peak.

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


def optimizer(
    config: OptimizerConfig, learning_rate: Array | float, weight_decay: Array | float
) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW: ``p -= lr (adam + decay p)``.

    To train with another optimiser, return another chain here. Its state must not depend on the
    rates, which are traced: they differ between members and steps.

    Args:
      config: what all members share.
      learning_rate: of this step.
      weight_decay: decoupled, multiplied by the learning rate.

    Source: I. Loshchilov and F. Hutter, ICLR 2019.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(eps=1e-8),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def init(config: OptimizerConfig, params: Params) -> Any:
    """The optimiser's state before the first step."""
    return optimizer(config, 0.0, 0.0).init(params)
