"""Uniform initial weights, those of a whole model sampled in one operation.

Flax samples one parameter after another, each with a key of its own. Of a newly initialised
model's compiled program that is nearly everything, and it takes longer to compile than to run.
Here ``in_one`` lets Flax only note what is to be sampled. The numbers are the same, bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.models import flax_keys, threefry
from stndt_jax.types import Array, Float, Params


class _Note(NamedTuple):
    """One parameter that is to be sampled.

    Attributes:
      stand_in: what Flax was given in its place; found again by its identity.
      bound: of the uniform distribution.
    """

    stand_in: Array
    bound: float


_notes: ContextVar[list[_Note] | None] = ContextVar("notes", default=None)


def uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in ``[-bound, bound)``, as ``jax.random.uniform`` samples it."""
    if bound == 0:
        return nn.initializers.zeros

    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        notes = _notes.get()
        if notes is None or dtype != jnp.float32 or not threefry.is_its(key):
            return jax.random.uniform(key, shape, dtype, -bound, bound)
        notes.append(_Note(jnp.zeros(shape, dtype), bound))
        return notes[-1].stand_in

    return init


def in_one(init: Callable[[Array], Params], key: Array) -> Params:
    """``init(key)``, with all that ``uniform`` samples sampled in one operation.

    Args:
      init: gives newly initialised parameters for a key; ``module.init`` does, of its ``params``.
      key: a key.

    Returns:
      The parameters, the same bit for bit. ``init`` must not compute with them.
    """
    with _noting() as notes:
        params = init(key)
    if not notes:
        return params
    bounds = {id(note.stand_in): note.bound for note in notes}
    where, shapes, found, paths = [], [], [], []
    for path, leaf in _leaves(params):
        if id(leaf) in bounds:
            where.append(id(leaf))
            shapes.append(leaf.shape)
            found.append(bounds[id(leaf)])
            paths.append(path)
    if len(where) < len(notes):
        # Made within a transform, from which only what was computed with them came out.
        return init(key)
    samples = _sampled(flax_keys.keys(key, paths), shapes, found)
    by_stand_in = dict(zip(where, samples, strict=True))
    filled: Params = jax.tree.map(lambda leaf: by_stand_in.get(id(leaf), leaf), params)
    return filled


@contextlib.contextmanager
def _noting() -> Iterator[list[_Note]]:
    notes: list[_Note] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[flax_keys.Path, Any]]:
    """Every parameter, and what Flax makes its key of: the module's path, and which one it is."""
    number = 0
    for name, part in tree.items():
        if isinstance(part, dict):
            yield from _leaves(part, (*path, name))
        else:
            number += 1
            yield (*path, number), part


def _sampled(keys: Array, shapes: list[tuple[int, ...]], bounds: list[float]) -> list[Array]:
    """One array for each key, uniform within its bounds."""
    sizes = [math.prod(shape) for shape in shapes]
    units = threefry.uniforms(keys, sizes)
    return [
        _stretched(unit, jnp.float32(-bound), jnp.float32(bound)).reshape(shape)
        for unit, shape, bound in zip(units, shapes, bounds, strict=True)
    ]


def _stretched(unit: Array, low: Array, high: Array) -> Float[Array, "..."]:
    """[0, 1) to [low, high)."""
    return jnp.maximum(low, unit * (high - low) + low)
