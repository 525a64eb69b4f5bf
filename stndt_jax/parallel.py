"""Lifts of a pure step to epochs and to members; blind to what they lift."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stndt_jax.types import Array

Step = Callable[[Any, Any, Any], tuple[Any, dict[str, Array]]]
Order = Callable[[Any, Array, int], Array]


@functools.cache
def compiler_options() -> dict[str, str]:
    """What the compiler is told about this machine: on CPUs, to leave matrix products alone.

    By default XLA hands them to a library that is fast for reductions and slow for products
    of this size (``benchmarks/README.md`` has the figures). The option is experimental, so it
    is tried first, and a version of XLA that does not know it does without.
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


def over_epochs(step: Step, order: Order, steps_per_epoch: int, batch: int) -> Callable:
    """Lifts a step over one batch to a number of epochs over data that stay on the device.

    Args:
      step: ``(state, hyper, batch) -> (state, metrics)``.
      order: ``(hyper, epoch, R) -> (R,)``, the trials of an epoch in their order. The
        remainder that fills no batch is left out of that epoch.
      steps_per_epoch: batches in an epoch.
      batch: trials in a batch.

    Returns:
      ``run(state, hyper, data, first_epoch, epochs) -> (state, metrics)`` with the metrics'
      means over all steps; ``epochs`` may be traced, so one compilation serves any number.
    """

    def run(state: Any, hyper: Any, data: Any, first_epoch: Array, epochs: Array) -> Any:
        trials = jax.tree.leaves(data)[0].shape[0]

        def one_step(state: Any, trials_B: Array) -> tuple[Any, dict[str, Array]]:
            return step(state, hyper, jax.tree.map(lambda leaf: leaf[trials_B], data))

        def one_epoch(i: Array, carry: tuple[Any, dict[str, Array]]) -> Any:
            state, totals = carry
            order_R = order(hyper, first_epoch + i, trials)[: steps_per_epoch * batch]
            state, metrics = jax.lax.scan(one_step, state, order_R.reshape(steps_per_epoch, batch))
            return state, jax.tree.map(lambda t, m: t + jnp.sum(m), totals, metrics)

        trials_B = jax.ShapeDtypeStruct((batch,), jnp.int32)
        _, shapes = jax.eval_shape(one_step, state, trials_B)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, totals = jax.lax.fori_loop(0, epochs, one_epoch, (state, zeros))
        return state, jax.tree.map(lambda t: t / (epochs * steps_per_epoch), totals)

    return run


def over_batches(score: Callable, batch: int) -> Callable:
    """Lifts the scoring of one batch to all trials, in memory bounded by one batch.

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


def over_members(fn: Callable, shared: int = 0, together: bool | None = None) -> Callable:
    """Lifts a function of one member to a population.

    All arguments but the last ``shared`` ones, and all results, get a leading axis of members.

    Args:
      fn: a pure function of one member.
      shared: arguments, the last ones, that all members are given alike.
      together: ``vmap``, which fills an accelerator, or else one member after the other, which
        a CPU does as fast in a fraction of the memory; by default, what suits the backend.
        A loop over epochs inside ``fn`` stays one loop under ``vmap``, because its count is
        shared.
    """
    together = jax.default_backend() != "cpu" if together is None else together

    def run(*args: Any) -> Any:
        split = len(args) - shared
        own, others = args[:split], args[split:]
        if together:
            return jax.vmap(lambda *own: fn(*own, *others))(*own)
        return jax.lax.map(lambda own: fn(*own, *others), own)

    return run
