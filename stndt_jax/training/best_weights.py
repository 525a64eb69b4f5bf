"""Which weights of a run are kept: the best by co-bps, the best by loss, and when to stop."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stndt_jax.types import Array, Params


class Best(NamedTuple):
    """The best value so far, the epoch it was reached after, and the weights then."""

    value: Array
    epoch: Array
    params: Params


class Selection(NamedTuple):
    """What one member has reached: highest validation co-bps, lowest validation loss."""

    cobps: Best
    loss: Best


def init(params: Params) -> Selection:
    """Nothing reached yet; the weights are those given."""
    epoch = jnp.int32(0)
    # Copies, because donated buffers must not be shared between leaves.
    start = [jax.tree.map(jnp.copy, params) for _ in range(2)]
    return Selection(
        Best(jnp.float32(-jnp.inf), epoch, start[0]), Best(jnp.float32(jnp.inf), epoch, start[1])
    )


def last(params: Params, epoch: Array) -> Selection:
    """Where no trial selects: the last weights, whose scores are unknown."""
    unknown = Best(jnp.float32(jnp.nan), epoch, params)
    return Selection(unknown, unknown)


def _keep(best: Best, better: Array, value: Array, epoch: Array, params: Params) -> Best:
    # A branch copies; a selection would be an operation to compile for every array.
    return jax.lax.cond(better, lambda: Best(value, epoch, params), lambda: best)


def update(
    selection: Selection,
    params: Params,
    cobps: Array,
    loss: Array,
    epoch: Array,
    active: Array,
    patience: int,
) -> tuple[Selection, Array]:
    """Takes one validation into account.

    A NaN score improves nothing. A member stops when neither score has improved for
    ``patience`` epochs; one that is no longer active keeps what it has.

    Returns:
      The new selection, and whether the member continues.
    """
    by_cobps = _keep(
        selection.cobps, active & (cobps > selection.cobps.value), cobps, epoch, params
    )
    by_loss = _keep(selection.loss, active & (loss < selection.loss.value), loss, epoch, params)
    last = jnp.maximum(by_cobps.epoch, by_loss.epoch)
    return Selection(by_cobps, by_loss), active & (epoch - last < patience)
