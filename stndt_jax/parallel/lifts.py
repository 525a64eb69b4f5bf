"""Transforms of a pure step to many steps, members and devices, whatever the step computes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from stndt_jax.types import Array

if os.environ.get("STNDT_CACHE"):
    # Only then, because it needs more than JAX and NumPy.
    from stndt_jax.parallel import compile_cache

    compile_cache.from_environment()

if os.environ.get("STNDT_CORES", "").isdecimal():
    # Before anybody has asked for devices; where somebody has, or has set their number, it stays.
    with contextlib.suppress(RuntimeError):
        unset = jax.config.jax_num_cpu_devices == -1  # type: ignore[attr-defined]
        if unset and "device_count" not in os.environ.get("XLA_FLAGS", ""):
            jax.config.update("jax_num_cpu_devices", int(os.environ["STNDT_CORES"]))

Step = Callable[[Any, Any, Any], tuple[Any, dict[str, Array]]]
Order = Callable[[Any, Array, int], Array]


@functools.cache
def compiler_options() -> dict[str, str]:
    """Compiler options for this machine: on CPUs, matmuls stay out of XLA's YNN library.

    By default XLA (jax 0.10) hands them to that library, which is fast for reductions and slow for
    matmuls of this size. The option is experimental, so it is tried first and left out where a
    version of XLA does not know it.
    """
    option = "xla_cpu_experimental_ynn_fusion_type"
    if jax.default_backend() != "cpu" or option in os.environ.get("XLA_FLAGS", ""):
        return {}
    options = {option: "LIBRARY_FUSION_TYPE_REDUCE"}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def compiled(fn: Callable, **how: Any) -> Any:
    """``jax.jit`` with ``compiler_options``."""
    return jax.jit(fn, compiler_options=compiler_options(), **how)


def mesh(members: int, data: int = 1, devices: int = 0) -> Mesh | None:
    """Devices in a grid ``('member', 'data')``; None if one device suffices.

    Args:
      members: of the population; the grid's first axis is the largest number of devices that
        divides them.
      data: devices that share the trials of a batch; the grid's second axis.
      devices: how many may be used; 0 for all.

    Raises:
      ValueError: there are fewer devices than ``devices`` or ``data`` asks for.
    """
    found = jax.devices()
    if max(devices, data) > len(found):
        raise ValueError(f"devices asked for: {max(devices, data)}, here: {len(found)}")
    sides = (devices or len(found)) // data
    side = max(n for n in range(1, sides + 1) if members % n == 0) if sides else 1
    if side * data == 1:
        return None
    return Mesh(np.array(found[: side * data]).reshape(side, data), ("member", "data"))


def of_members(grid: Mesh | None) -> Any:
    """The sharding of arrays with a leading axis of members."""
    if grid is None:
        return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return NamedSharding(grid, P("member"))


def of_all(grid: Mesh | None) -> Any:
    """The sharding of arrays that every device needs whole."""
    return of_members(None) if grid is None else NamedSharding(grid, P())


def together(grid: Mesh | None = None) -> bool:
    """Whether members are one ``vmap``, as suits an accelerator.

    A CPU takes them one after the other, which is as fast there in a fraction of the memory; each
    of several devices its own members, unless devices share the trials of a batch.
    """
    shares = grid is not None and grid.shape["data"] > 1
    return shares or jax.default_backend() != "cpu"


def over_steps(
    step: Step, order: Order, steps_per_epoch: int, batch: int, grid: Mesh | None = None
) -> Callable:
    """Transforms a step over one batch to any number of steps over data that stay on the device.

    Args:
      step: ``(state, hyper, batch) -> (state, metrics)``.
      order: ``(hyper, epoch, R) -> (R,)``, the trials of an epoch in their order. The
        remainder that fills no batch is left out of that epoch.
      steps_per_epoch: batches in an epoch.
      batch: trials in a batch.
      grid: devices; the trials of a batch are shared along its axis ``data``.

    Returns:
      ``run(state, totals, hyper, data, first, steps) -> (state, totals)``, which takes steps
      number ``first`` to ``first + steps - 1`` and adds their metrics to ``totals``. However
      many calls the steps are split into, the result is the same, bit for bit; both numbers
      may be traced, so one compilation serves any split.
    """

    def run(
        state: Any, totals: Any, hyper: Any, data: Any, first: Array, steps: Array
    ) -> tuple[Any, Any]:
        trials = jax.tree.leaves(data)[0].shape[0]

        def one(i: Array, carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
            state, totals, order_R = carry
            epoch, place = i // steps_per_epoch, i % steps_per_epoch
            order_R = jax.lax.cond(
                (place == 0) | (i == first),
                lambda: order(hyper, epoch, trials).astype(jnp.int32),
                lambda: order_R,
            )
            trials_B = jax.lax.dynamic_slice(order_R, (place * batch,), (batch,))
            picked = jax.tree.map(lambda leaf: leaf[trials_B], data)
            if grid is not None:
                picked = jax.lax.with_sharding_constraint(picked, NamedSharding(grid, P("data")))
            state, metrics = step(state, hyper, picked)
            return state, jax.tree.map(jnp.add, totals, metrics), order_R

        carry = (state, totals, jnp.zeros(trials, jnp.int32))
        return jax.lax.fori_loop(first, first + steps, one, carry)[:2]

    return run


def over_batches(score: Callable, batch: int) -> Callable:
    """Transforms the scoring of one batch to all trials, in memory bounded by one batch.

    Args:
      score: ``(params, hyper, batch, index) -> sums``, a pytree that adds up.
      batch: trials in a batch; the last one is filled with unknown entries.

    Returns:
      ``run(params, hyper, data) -> sums``.
    """

    def run(params: Any, hyper: Any, data: Any) -> Any:
        R = jax.tree.leaves(data)[0].shape[0]
        size = min(batch, R)
        batches = -(-R // size)

        def fill(leaf: Array) -> Array:
            extra = [(0, batches * size - R)] + [(0, 0)] * (leaf.ndim - 1)
            return jnp.pad(leaf, extra).reshape(batches, size, *leaf.shape[1:])

        def one(total: Any, item: tuple[Any, Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, score(params, hyper, *item)), None

        items = (jax.tree.map(fill, data), jnp.arange(batches))
        first = jax.tree.map(lambda leaf: leaf[0], items)
        shapes = jax.eval_shape(lambda item: score(params, hyper, *item), first)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(one, zeros, items)
        return total

    return run


def over_members(
    fn: Callable, shared: int = 0, vmapped: bool | None = None, grid: Mesh | None = None
) -> Callable:
    """Transforms a function of one member to a population.

    All arguments but the last ``shared`` ones, and all results, get a leading axis of members.

    Args:
      fn: a pure function of one member.
      shared: number of arguments, the last ones, that all members share.
      vmapped: members are one ``vmap``, or else one follows the other on each device; by default,
        as ``together`` says. A loop over steps inside ``fn`` stays one loop under ``vmap``,
        because its count is shared.
      grid: devices; the members are spread along its axis ``member``.
    """
    vmapped = together(grid) if vmapped is None else vmapped
    name = None if grid is None else "member"

    def lifted(*args: Any) -> Any:
        split = len(args) - shared
        own, others = args[:split], args[split:]
        if vmapped:
            return jax.vmap(lambda *own: fn(*own, *others), spmd_axis_name=name)(*own)
        return jax.lax.map(lambda own: fn(*own, *others), own)

    def on_each_device(*args: Any) -> Any:
        split = len(args) - shared
        specs = (*[P("member")] * split, *[P()] * shared)
        return jax.shard_map(
            lifted, mesh=grid, in_specs=specs, out_specs=P("member"), check_vma=False
        )(*args)

    # What JAX_LOG_COMPILES and a profile call it.
    found = lifted if vmapped or grid is None else on_each_device
    found.__name__ = getattr(fn, "__name__", found.__name__)
    return found
