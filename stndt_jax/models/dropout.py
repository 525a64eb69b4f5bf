"""Dropout; that of all of a network's own places is sampled in one operation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.models import flax_keys, threefry
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard
from stndt_jax.types import Array, UInt

# Names of modules, one within the other.
Scope = tuple[str, ...]


def dropout(key: Array, x: Array, rate: Array | float, shard: BatchShard = WHOLE_BATCH) -> Array:
    """Zeroes some of the elements and scales up the others to keep the mean.

    The rate may be traced. A device with a shard of the batch samples for all trials and keeps its
    own, so that the result does not depend on the number of devices.
    """
    words = threefry.bits(key, _words(x.shape, shard))
    return thinned(x, _bytes(words, x.shape, shard), rate)


def drop(
    module: nn.Module,
    x: Array,
    rate: Array | float,
    shard: BatchShard,
    sample: UInt[Array, "b ..."] | None = None,
) -> Array:
    """Dropout in a module.

    Args:
      module: with a key of its own ``dropout`` stream, if ``apply`` was given one.
      x: array whose first axis is of trials.
      rate: share of the elements that are dropped.
      shard: of the batch.
      sample: random bytes that take the place of the key.
    """
    if sample is not None:
        return thinned(x, sample, rate)
    if not module.has_rng("dropout"):
        return x
    return dropout(module.make_rng("dropout"), x, rate, shard)


def samples(
    module: nn.Module, shapes: Mapping[Scope, list[tuple[int, ...]]], shard: BatchShard
) -> dict[Scope, list[UInt[Array, "b ..."]]]:
    """Random bytes for all dropouts of a module and of those within it, in one operation.

    They are those of the keys that each would ask for itself.

    Args:
      module: the outer module, whose ``apply`` was given a key for ``dropout``.
      shapes: of what is dropped in one call, by the names of modules below this one; ``()`` are
        its own.
      shard: of the batch.
    """
    scope: Any = module.scope
    given, asked = scope.rngs["dropout"], scope.rng_counters["dropout"]
    scope.rng_counters["dropout"] += len(shapes[()])
    # A module that is called again in the same ``apply`` goes on counting.
    calls = asked // len(shapes[()])
    places = [(where, number) for where, some in shapes.items() for number in range(len(some))]
    paths = [
        (*given.suffix, *where, calls * len(shapes[where]) + number + 1) for where, number in places
    ]
    sizes = [_words(shapes[where][number], shard) for where, number in places]
    found: dict[Scope, list[Any]] = {where: [] for where in shapes}
    every = threefry.words(flax_keys.keys(given.rng, paths), sizes)
    for (where, number), some in zip(places, every, strict=True):
        found[where].append(_bytes(some, shapes[where][number], shard))
    return found


def thinned(x: Array, sample: UInt[Array, "b ..."], rate: Array | float) -> Array:
    """``x`` without the elements whose byte is low, the others scaled up to keep the mean.

    The rate is rounded to 1/256, so that a mask takes 8 random bits an element.
    """
    dropped = jnp.minimum(jnp.round(jnp.asarray(rate, jnp.float32) * 256.0), 255.0)
    keep = sample >= dropped.astype(jnp.uint8)
    return jnp.where(keep, x * (256.0 / (256.0 - dropped)).astype(x.dtype), 0)


def _words(shape: tuple[int, ...], shard: BatchShard) -> int:
    """How many words have a byte for every element of all trials."""
    return math.ceil(math.prod(shape) * shard.parts / 4)


def _bytes(words: Array, shape: tuple[int, ...], shard: BatchShard) -> UInt[Array, "b ..."]:
    """Bytes of this device's trials; words cost a quarter of what sampling bytes does."""
    elements = math.prod(shape) * shard.parts
    found = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:elements]
    return shard.own_samples(found).reshape(shape)
