"""``jax.pmap`` over the devices, in place of jit on a mesh (``lifts.py``).

Either the members are spread over the devices, which then do not communicate, or, for a large
model, the trials of every batch (see ``batch_shard.py``); then every device holds all members. All
devices belong to one process: inside jit, pmap does not count others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from stndt_jax.parallel import lifts
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard

_AXIS = "device"


def shard(grid: Mesh) -> BatchShard:
    """The part of a batch that a device has."""
    parts = grid.shape["data"]
    return WHOLE_BATCH if parts == 1 else BatchShard(_AXIS, parts)


def over_members(fn: Callable, grid: Mesh, shared: int = 0) -> Callable:
    """Transforms a function of one member to a population on several devices.

    Args:
      fn: a pure function of one member; if ``grid`` spreads trials, of this device's shard.
      grid: devices, as ``lifts.mesh`` lays them out, along one of its axes only.
      shared: as in ``lifts.over_members``.
    """
    devices = list(grid.devices.flat)
    here = lifts.over_members(fn, shared)

    def one(_: Any, *args: Any) -> Any:
        return here(*args)

    def of_trials(*args: Any) -> Any:
        # pmap needs something that differs between the devices.
        axes = (0, *[None] * len(args))
        spread = jax.pmap(one, _AXIS, in_axes=axes, out_axes=None, devices=devices)
        return spread(jnp.arange(len(devices)), *args)

    def of_members(*args: Any) -> Any:
        split = len(args) - shared
        own = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), args[:split])
        axes = (*[0] * split, *[None] * shared)
        result = jax.pmap(here, _AXIS, in_axes=axes, devices=devices)(*own, *args[split:])
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), result)

    lifted = of_members if grid.shape["data"] == 1 else of_trials
    lifted.__name__ = getattr(fn, "__name__", lifted.__name__)
    return lifted
