"""MC_RTT (DANDI 000129). ``:paper`` is that of MC_Maze at a higher learning rate.

stndt train --config=mc_rtt --config.data.path=mc_rtt.h5 --workdir=runs/mc_rtt

Published, test split: co-bps .1865 for one model, .2095 for the ensemble.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import auto, default, factors, mc_maze


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The strong setting by the rules of ``auto``, or, as variant ``paper``, the published one."""
    if default.is_paper(variant):
        config = _paper()
    else:
        # Its sizes in the validation phase.
        config = auto.sized(trials=810, bins=160, neurons=98)
    config.data.name = "mc_rtt"
    return config


def _paper() -> ml_collections.ConfigDict:
    """Learning rate and mask in the middle of the published ranges."""
    config = mc_maze.get_config("paper")
    config.model.dropout_rates = 0.3
    config.model.dropout_embedding = 0.25
    config.mask.random_ratio = 0.8
    config.optimizer.learning_rate = 3e-3
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """Ranges around the strong setting, or, of the variant ``paper``, the published ones."""
    if not default.is_paper(variant):
        return factors.get_search_space()
    return {
        **mc_maze.get_search_space("paper"),
        "learning_rate": ("log", 1e-4, 1e-1),
        "dropout_rates": ("uniform", 0.0, 0.6),
        "dropout_embedding": ("uniform", 0.0, 0.5),
        "mask_random_ratio": ("uniform", 0.6, 1.0),
    }
