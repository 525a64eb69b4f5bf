"""The keys that Flax makes of a module's path, many in one operation.

Where a module asks for a key, Flax folds a digest of the module's path, and of how often it has
asked, in to the key that it was given. Compiled, every such key is a program part of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import flax
import jax
import numpy as np

from stndt_jax.types import Array

# Names of modules from the outermost, then 1 for the first key that the last of them asks for.
Path = tuple[str | int, ...]


def keys(root: Array, paths: Sequence[Path]) -> Array:
    """The key of every path, as an array of keys.

    Args:
      root: what ``init`` or ``apply`` was given.
      paths: one or more.
    """
    digests = np.array([_digest(path) for path in paths], np.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(root, digests)


def _digest(path: Path) -> int:
    """What Flax folds in for a path (``flax.core.scope``)."""
    found = hashlib.sha1(usedforsecurity=False)
    for part in path:
        if flax.config.flax_fix_rng_separator:
            found.update(b"\0")
        if isinstance(part, int):
            found.update(part.to_bytes((part.bit_length() + 7) // 8, "big"))
        else:
            found.update(part.encode())
    return int.from_bytes(found.digest()[:4], "big")
