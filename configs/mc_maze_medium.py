"""MC_Maze_Medium (DANDI 000139): the setting of MC_Maze_Large.

stndt train --config=mc_maze_medium --config.data.path=medium.h5 --workdir=runs/medium
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import mc_maze_large


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """MC_Maze_Large's, under its own name."""
    config = mc_maze_large.get_config(variant)
    config.data.name = "mc_maze_medium"
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return mc_maze_large.get_search_space(variant)
