"""All parameters of a model as one vector, while training takes its steps.

An optimiser does the same to every number. Written for a hundred arrays, its operations are half of
the compiled program; for one vector they are few, so that the program compiles in less time.
Checkpoints and everything else see the arrays.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp

from stndt_jax.types import Array, Float, Params

# Vectors by type of number: one, unless a network mixes types.
Packed = dict[str, Float[Array, "..."]]


class Packing:
    """Between a tree of parameters and a vector of all their numbers."""

    def __init__(self, like: Params, still: Params) -> None:
        """Notes the shapes.

        Args:
          like: parameters, or their shapes and types.
          still: a tree like them, true where no step changes them.
        """
        leaves, structure = jax.tree.flatten(like)
        self._structure: Any = structure
        self._shapes = [leaf.shape for leaf in leaves]
        self._kinds = [str(leaf.dtype) for leaf in leaves]
        self._sizes = [leaf.size for leaf in leaves]
        self._still = jax.tree.leaves(still)

    def pack(self, params: Params) -> Packed:
        """The numbers of a tree of the noted structure, leaf after leaf."""
        parts: dict[str, list[Array]] = {kind: [] for kind in self._kinds}
        for kind, leaf in zip(self._kinds, jax.tree.leaves(params), strict=True):
            parts[kind].append(jnp.ravel(leaf))
        return {kind: jnp.concatenate(vectors) for kind, vectors in parts.items()}

    def unpack(self, packed: Packed) -> Params:
        """The tree of what ``pack`` gave."""
        parts = {
            kind: iter(jax.lax.split(vector, self._sizes_of(kind)))
            for kind, vector in packed.items()
        }
        shaped = [
            next(parts[kind]).reshape(shape)
            for kind, shape in zip(self._kinds, self._shapes, strict=True)
        ]
        params: Params = jax.tree.unflatten(self._structure, shaped)
        return params

    def hold(self, before: Packed, after: Packed) -> Packed:
        """What a step gave, with what was before it where no step changes anything."""
        held, start = dict(after), Counter[str]()
        for kind, size, still in zip(self._kinds, self._sizes, self._still, strict=True):
            if still:
                part = slice(start[kind], start[kind] + size)
                held[kind] = held[kind].at[part].set(before[kind][part])
            start[kind] += size
        return held

    def pack_all(self, tree: Any) -> Any:
        """Any tree, in which every subtree of the noted structure becomes a vector."""
        return jax.tree.map(
            lambda part: self.pack(part) if self._is_noted(part) else part,
            tree,
            is_leaf=self._is_noted,
        )

    def unpack_all(self, packed: Any, like: Any) -> Any:
        """The reverse of ``pack_all``.

        Args:
          packed: what ``pack_all`` gave, changed or not.
          like: what it was given; only its structure is read.
        """
        return jax.tree.map(
            lambda part, vector: self.unpack(vector) if self._is_noted(part) else vector,
            like,
            packed,
            is_leaf=self._is_noted,
        )

    def _sizes_of(self, kind: str) -> list[int]:
        return [size for own, size in zip(self._kinds, self._sizes, strict=True) if own == kind]

    def _is_noted(self, part: Any) -> bool:
        return bool(self._structure == jax.tree.structure(part))
