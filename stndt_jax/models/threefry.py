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
import numpy as np

from stndt_jax.types import Array, Float, UInt

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_BLOCKS = 8  # computed one after the other
_ROW = 128  # words of one key that are sampled together with those of others


def is_its(key: Array) -> bool:
    """Whether a key is one of this generator."""
    return str(jax.random.key_impl(key)) == "threefry2x32"


def bits(key: Array, size: int) -> UInt[Array, " size"]:
    """``jax.random.bits(key, (size,), uint32)``."""
    if jax.default_backend() != "cpu" or not is_its(key):
        return jax.random.bits(key, (size,), jnp.uint32)
    return words(key[None], [size])[0]


def uniform(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """``jax.random.uniform(key, shape)``: float32 in [0, 1), of 23 random bits."""
    return _unit(bits(key, math.prod(shape))).reshape(shape)


def uniforms(keys: Array, sizes: list[int]) -> list[Float[Array, " size"]]:
    """``jax.random.uniform(key, (size,))`` of every key and size, in one operation."""
    return [_unit(some) for some in words(keys, sizes)]


def words(keys: Array, sizes: list[int]) -> list[UInt[Array, " size"]]:
    """``jax.random.bits(key, (size,), uint32)`` of every key and size, in one operation."""
    if jax.default_backend() != "cpu" or not is_its(keys):
        return [bits(key, size) for key, size in zip(keys, sizes, strict=True)]
    rows = np.array([math.ceil(size / _ROW) for size in sizes])
    ends = np.cumsum(rows)
    key_words = jax.random.key_data(keys)

    def block(row_R: Array) -> Array:
        # Which key a row is of, and how many rows of it come before.
        key_R = jnp.sum(row_R[:, None] >= ends[None], axis=1)
        before_R = row_R - jnp.asarray(ends - rows)[key_R]
        counter_RC = before_R[:, None] * _ROW + jnp.arange(_ROW)[None]
        of_R2 = key_words[key_R]
        first, second = _threefry(of_R2[:, :1], of_R2[:, 1:], counter_RC.astype(jnp.uint32))
        return first ^ second

    # A loop, because its results are kept in memory: the compiler would recompute a plain
    # expression for every reader, once for each of a word's four bytes.
    every = jnp.arange(math.ceil(ends[-1] / _BLOCKS) * _BLOCKS).reshape(_BLOCKS, -1)
    words_RC = jax.lax.map(block, every).reshape(-1, _ROW)
    parts = jax.lax.split(words_RC[: ends[-1]], rows.tolist())
    return [part.reshape(-1)[:size] for part, size in zip(parts, sizes, strict=True)]


def _unit(words: UInt[Array, "..."]) -> Float[Array, "..."]:
    """The upper 23 bits of words as numbers in [0, 1)."""
    one_to_two = jax.lax.bitcast_convert_type((words >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return one_to_two - 1.0


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
