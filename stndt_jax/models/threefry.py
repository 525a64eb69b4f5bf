"""Random bits: identical to JAX's own, generated faster on a CPU.

There JAX runs the rounds of its generator as a loop, with a pass over memory for every few rounds.
A step at MC_Maze's size takes some twenty million words, and generating them that way is a tenth of
its time. Here all rounds are one expression, which the compiler makes one pass.

Source: J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (Threefry-2x32-20).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from stndt_jax.types import Array, Float, UInt

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_BLOCKS = 8


def bits(key: Array, size: int, blocks: int = _BLOCKS) -> UInt[Array, " size"]:
    """``jax.random.bits(key, (size,), uint32)``.

    Args:
      key: a key.
      size: how many words.
      blocks: in how many parts they are computed, one after the other. One part compiles faster,
        and is computed anew for every reader.
    """
    if jax.default_backend() != "cpu" or str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.bits(key, (size,), jnp.uint32)
    words = jax.random.key_data(key)
    each = math.ceil(size / blocks)

    def block(start: Array) -> Array:
        counter = start + jnp.arange(each, dtype=jnp.uint32)
        first, second = _threefry(words[0], words[1], counter)
        return first ^ second

    if blocks == 1:
        return block(jnp.uint32(0))
    # A loop, because its results are kept in memory: the compiler would recompute a plain
    # expression for every reader, once for each of a word's four bytes.
    starts = jnp.arange(blocks, dtype=jnp.uint32) * jnp.uint32(each)
    return jax.lax.map(block, starts).reshape(-1)[:size]


def uniform(key: Array, shape: tuple[int, ...], blocks: int = _BLOCKS) -> Float[Array, "..."]:
    """``jax.random.uniform(key, shape)``: float32 in [0, 1), of 23 random bits."""
    mantissa = bits(key, math.prod(shape), blocks) >> 9
    one_to_two = jax.lax.bitcast_convert_type(mantissa | jnp.uint32(0x3F800000), jnp.float32)
    return (one_to_two - 1.0).reshape(shape)


@functools.partial(jax.jit, inline=True)  # so that it is traced once for each size
def _threefry(key0: Array, key1: Array, counter: Array) -> tuple[Array, Array]:
    """Both words of every block ``(0, counter)``, encrypted with a key of two words."""
    keys = (key0, key1, key0 ^ key1 ^ jnp.uint32(_PARITY))
    x = jnp.broadcast_to(key0, counter.shape)
    y = counter + key1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << distance) | (y >> (32 - distance)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
