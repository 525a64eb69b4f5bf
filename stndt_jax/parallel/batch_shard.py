"""One device's share of a batch: what is its own, and what takes the other devices.

Where the trials of a batch are spread by ``jax.pmap``, every device runs the step on trials of its
own. A sum over the batch is then a sum over devices, and features that are compared with those of
all trials must be gathered first. Where one program has the whole batch, on one device or on a
mesh, all of this is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from stndt_jax.types import Array, Float


@jax.tree_util.register_static
@dataclass(frozen=True)
class BatchShard:
    """An equal part of a batch's trials.

    Attributes:
      axis: name of the devices' axis.
      parts: devices that share the batch; 1 for the whole of it.
      views: how often the trials stand below one another.
    """

    axis: str = ""
    parts: int = 1
    views: int = 1

    def own(self, x: Array, axis: int = 0) -> Array:
        """This device's part of an array that has the trials along ``axis``."""
        if self.parts == 1:
            return x
        size = x.shape[axis] // self.parts
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(self.axis) * size, size, axis)

    def own_samples(self, flat: Array) -> Array:
        """This device's part of draws for all views of all trials, trial after trial."""
        return flat if self.parts == 1 else self.own(flat.reshape(self.views, -1), 1).reshape(-1)

    def total(self, tree: Any) -> Any:
        """The sum over all devices."""
        return tree if self.parts == 1 else jax.lax.psum(tree, self.axis)

    def gathered(self, rows_VE: Float[Array, "v E"]) -> Float[Array, "V E"]:
        """All trials' rows of two views, the first view's above the second's.

        Its gradient adds up over devices: whoever compares a row with others pulls at it.
        """
        if self.parts == 1:
            return rows_VE
        pair = rows_VE.reshape(2, -1, rows_VE.shape[-1])
        everyone = jax.lax.all_gather(pair, self.axis, axis=1, tiled=True)
        return everyone.reshape(-1, rows_VE.shape[-1])


WHOLE_BATCH = BatchShard()
