"""Leaves stopped members out of a population whose members train together.

Under ``vmap`` a member that has stopped costs as much as one that trains. Once half of them have
stopped, the others continue in a program of half the size, compiled once: for K members there are
at most log2(K) more programs. Where members train one after another this is not needed: a stopped
member is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.parallel import lifts, multihost
from stndt_jax.training.population import Member
from stndt_jax.types import NDArray


def helps(config: Config, grid: Any, validates: bool) -> bool:
    """Whether members train together and may stop before the end."""
    return lifts.together(grid) and validates and config.population > 1


def size_for(living: int, population: int, side: int) -> int:
    """Members of the smallest program that holds the living: the population, halved repeatedly.

    Args:
      living: members that continue training.
      population: all members.
      side: devices that share the members of a program.
    """
    size = population
    while size % (2 * side) == 0 and size // 2 >= living:
        size //= 2
    return size


def living(members: Member, restarts: int) -> NDArray:
    """Members that may still change, or that have something to report.

    Args:
      members: of the whole population.
      restarts: how often a member that has diverged begins again.
    """
    state = members.state
    parts = (state.active, state.healthy, members.restarts, members.totals["steps"])
    active, healthy, restarted, steps = multihost.whole(parts)
    return active | (~healthy & (restarted < restarts)) | (steps > 0)


class Compacted:
    """A chunk of training, as ``population.make_chunk`` makes it, of the living members.

    The living members end as in the program of all members, up to rounding (a device may order
    the sums of a batched matmul by the size of the batch); the others stay as they are.
    """

    def __init__(
        self, whole: Callable, smaller: Callable[..., Callable], grid: Any, restarts: int
    ) -> None:
        """Compiles no program; smaller ones are compiled when first needed.

        Args:
          whole: the program of all members.
          smaller: ``(size, *arguments) -> program`` of so many, for these arguments.
          grid: devices, from ``lifts.mesh``.
          restarts: how often a member that has diverged begins again.
        """
        self._whole, self._smaller, self._restarts = whole, smaller, restarts
        self._side = 1 if grid is None else grid.shape["member"]
        self._compiled: dict[int, Callable] = {}
        placed = lifts.of_members(grid)
        self._take = jax.jit(
            lambda tree, chosen: jax.tree.map(lambda leaf: leaf[chosen], tree),
            out_shardings=placed,
        )
        self._put = jax.jit(
            lambda tree, few, chosen: jax.tree.map(
                lambda leaf, part: leaf.at[chosen].set(part), tree, few
            ),
            donate_argnums=0,
            out_shardings=placed,
        )

    def __call__(self, members: Member, hyper: Any, *rest: Any) -> tuple[Member, Any]:
        """As the chunk itself; ``members`` are consumed."""
        alive = living(members, self._restarts)
        size = size_for(int(alive.sum()), alive.size, self._side)
        if size == alive.size:
            return self._whole(members, hyper, *rest)
        # The living, and as many stopped ones as the size needs.
        chosen = np.sort(np.argsort(~alive, kind="stable")[:size]).astype(np.int32)
        given = (*self._take((members, hyper), chosen), *rest)
        if size not in self._compiled:
            self._compiled[size] = self._smaller(size, *given)
        few, metrics = self._compiled[size](*given)
        best = members.selection.cobps
        known = multihost.whole(
            {
                "healthy": members.state.healthy,
                "active": members.state.active,
                "restarts": members.restarts,
                "best_cobps": best.value,
                "best_epoch": best.epoch,
            }
        )
        whole = {}
        for name, values in metrics.items():
            values = np.asarray(values)
            unknown = np.nan if values.dtype.kind == "f" else 0
            blank = np.full(alive.shape, unknown, values.dtype)
            whole[name] = np.array(known.get(name, blank))
            whole[name][chosen] = values
        return self._put(members, few, chosen), whole
