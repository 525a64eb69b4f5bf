"""Checkpoints of a run, through Orbax; nothing else imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from stndt_jax.errors import UserError


class Checkpoints:
    """The numbered checkpoints in a folder; the two newest are kept.

    A save appears under its name only when it is complete: a killed one leaves a temporary
    folder that is never taken for a checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        keep = ocp.training.preservation_policies.LatestN(2)
        self._manager = ocp.training.Checkpointer(
            folder.absolute(), preservation_policy=keep, cleanup_tmp_directories=True
        )

    @property
    def latest(self) -> int | None:
        """The epoch of the newest checkpoint."""
        found = self._manager.latest
        return None if found is None else found.step

    def save(self, epoch: int, tree: Any) -> None:
        """Saves ``tree`` under ``epoch``, unless it is there already.

        Raises:
          UserError: the folder cannot be written.
        """
        if epoch == self.latest:
            return
        try:
            self._manager.save(epoch, tree)
        except OSError as error:
            raise UserError(
                f"no checkpoint could be written to {self._folder} ({error.strerror or error}); "
                f"free some space or choose another --workdir, then start again to go on"
            ) from error

    def load(self, like: Any) -> tuple[int, Any]:
        """The newest checkpoint as (epoch, tree), shaped like ``like``.

        Args:
          like: arrays or ``jax.ShapeDtypeStruct``.

        Raises:
          UserError: there is none, or it cannot be read as ``like``.
        """
        epoch = self.latest
        if epoch is None:
            raise UserError(f"{self._folder} holds no checkpoint; train first")
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like
        )
        try:
            return epoch, self._manager.load(epoch, like)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the checkpoint of epoch {epoch} in {self._folder} cannot be read "
                f"({str(error).splitlines()[0]}); remove its folder to fall back on an older one"
            ) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()
