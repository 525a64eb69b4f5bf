"""The recording that a configuration names."""

from __future__ import annotations

from stndt_jax.config.schema import Config
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError


def read(config: Config, path: str = "", targets: str = "") -> SpikeData:
    """Reads the recording of ``config.data``.

    Args:
      config: names the files, and how to read them.
      path: another input file in place of ``config.data.path``.
      targets: another target file in place of ``config.data.targets``.

    Raises:
      UserError: no file is named, or it cannot be read.
    """
    path = path or config.data.path
    if not path:
        raise UserError(
            "config.data.path is empty; name the recording's HDF5 file, for example "
            "--config.data.path=mc_maze.h5"
        )
    return hdf5.read(
        path,
        targets or config.data.targets or None,
        name=config.data.name or None,
        bin_ms=config.data.bin_ms or None,
    )
